"""Bounds and members as Arrow scalars."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pyarrow as pa

from datacheck.arrow_layouts import is_text
from datacheck.schema.times import NANOSECONDS, Moment, parse_clock, parse_moment


def arrow_scalar(value: bool | int | float | str, arrow_type: pa.DataType) -> pa.Scalar:
    """Convert a bound or a member of a schema into a scalar that compares with values of an Arrow type.

    Raises ``ValueError`` if the value does not fit the type, which happens for a field without a dtype.
    """
    types = pa.types
    if types.is_timestamp(arrow_type) or types.is_date(arrow_type):
        return _time_scalar(value, arrow_type)
    if types.is_time(arrow_type):
        return _ticks(value, parse_clock(value) if isinstance(value, str) else None, arrow_type)
    if types.is_duration(arrow_type):
        whole = _number(value, arrow_type)
        if whole != int(whole):
            raise ValueError(f"{value!r} is not an integer in the unit of {arrow_type}")
        return pa.scalar(int(whole), arrow_type)
    if types.is_decimal(arrow_type):
        return pa.scalar(Decimal(str(_number(value, arrow_type))))
    if is_text(arrow_type):
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a string, but the values are")
        return pa.scalar(value, arrow_type)
    if types.is_boolean(arrow_type):
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is not true or false, but the values are")
        return pa.scalar(value)
    if types.is_integer(arrow_type) or types.is_floating(arrow_type):
        number = _number(value, arrow_type)
        if isinstance(number, int) and not -(2**63) <= number < 2**63:
            return pa.scalar(number, pa.uint64()) if 0 < number < 2**64 else pa.scalar(float(number))
        return pa.scalar(number)
    if types.is_binary(arrow_type) or types.is_large_binary(arrow_type) or types.is_binary_view(arrow_type):
        decoded = "the field image.distinct has the pixels of images that are masks"
        raise ValueError(f"the values are bytes, and {value!r} is not; {decoded}")
    raise ValueError(f"values of {arrow_type} cannot be compared with {value!r}")


def _number(value: Any, arrow_type: pa.DataType) -> Any:
    """A number, which a schema may have to write as a string."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number, but the values are {arrow_type}")
    if isinstance(value, int | float):
        return value
    try:
        number = Decimal(value)
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite() or not math.isfinite(float(number)):
        raise ValueError(f"{value!r} is not a number, but the values are {arrow_type}")
    return number if pa.types.is_decimal(arrow_type) else (int(number) if number == int(number) else float(number))


def _time_scalar(value: Any, arrow_type: pa.DataType) -> pa.Scalar:
    moment = parse_moment(value) if isinstance(value, str) else None
    zone = getattr(arrow_type, "tz", None)
    if moment is not None and moment.has_offset is not (zone is not None):
        remedy = "leave the offset out" if zone is None else "add an offset, such as 'T00:00:00Z'"
        raise ValueError(f"{value!r} cannot be compared with values of {arrow_type}; {remedy}")
    return _ticks(value, moment, arrow_type)


def _ticks(value: Any, moment: Moment | None, arrow_type: pa.DataType) -> pa.Scalar:
    if moment is None:
        raise ValueError(f"{value!r} is not a time in ISO format, but the values are {arrow_type}")
    unit = getattr(arrow_type, "unit", None) or ("D" if pa.types.is_date32(arrow_type) else "ms")
    ticks, rest = divmod(moment.nanoseconds, NANOSECONDS[unit])
    if rest:
        raise ValueError(f"{value!r} is more precise than {arrow_type} can hold")
    storage = pa.int32() if arrow_type.bit_width == 32 else pa.int64()
    return pa.array([ticks], storage).view(arrow_type)[0]
