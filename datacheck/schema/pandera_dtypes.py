"""Converts dtypes and values to and from pandera and pandas."""

from __future__ import annotations

import datetime
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

from datacheck.arrow_leaves import arrow_dtype
from datacheck.schema.dtypes import canonical_dtype, dtype_kind
from datacheck.schema.protocols import FieldProtocol
from datacheck.schema.rounding import round_constant

_NULLABLE = {"int": "Int", "uint": "UInt"}


def dtype_name(dtype: Any) -> tuple[str | None, bool]:
    """The name of a pandera dtype in a schema, and whether the name says all of it.

    ``(None, False)`` is a dtype without a name, which pandera must check itself: a time without a time zone, for which
    pandera accepts every unit, or a user-defined dtype.
    """
    import numpy as np
    import pandas as pd

    name = type(dtype).__name__
    inner = getattr(dtype, "type", None)
    if name == "Date":
        return "date32[day]", True
    if name == "Decimal" and hasattr(dtype, "precision"):
        return canonical_dtype(f"decimal128({dtype.precision}, {dtype.scale})"), True
    if isinstance(inner, pd.ArrowDtype):
        found = canonical_dtype(_innermost(arrow_dtype(inner.pyarrow_dtype)))
        return found, found is not None
    if isinstance(inner, pd.DatetimeTZDtype):
        found = canonical_dtype(f"timestamp[{inner.unit}, tz={inner.tz}]")
        return found, found is not None and not getattr(dtype, "time_zone_agnostic", False)
    if isinstance(inner, pd.StringDtype):
        return "string", True
    if isinstance(inner, pd.CategoricalDtype):
        return None, True
    inner = getattr(inner, "numpy_dtype", inner)
    if isinstance(inner, np.dtype):
        if inner.kind in "SU":
            return "string", True
        if inner.kind == "O":
            # 'object' says nothing about the values, but other classes with that storage than pandera's Object do.
            return None, name == "Object"
        if inner.kind not in "mM":
            found = canonical_dtype(inner.name)
            return found, found is not None
    return None, False


def _innermost(name: str) -> str:
    while match := re.fullmatch(
        r"(?:list|large_list|fixed_size_list)<(?:\w+: )?(.+?)(?: not null)?>(?:\[\d+\])?", name
    ):
        name = match[1]
    return {"float": "float32", "halffloat": "float16"}.get(name, name)


def pandera_dtype(field: FieldProtocol) -> Any:
    """The pandera dtype of a field; None if pandas has no dtype for it."""
    from pandera.engines import pandas_engine

    dtype, kind = field.dtype, dtype_kind(field.dtype)
    if dtype is None or field.shape is not None:
        return None
    if kind == "integer" and field.nullable:
        stem = dtype.rstrip("0123456789")
        return f"{_NULLABLE[stem]}{dtype.removeprefix(stem)}"
    if kind == "bool":
        return "boolean" if field.nullable else "bool"
    if kind in ("integer", "complex", "float") and dtype[:4] in (
        "int8",
        "int1",
        "int3",
        "int6",
        "uint",
        "comp",
        "floa",
    ):
        return None if dtype.startswith("float8") else dtype
    if kind == "string":
        return "str"
    if kind == "timestamp":
        match = re.fullmatch(r"timestamp\[(\w+)(?:, tz=(.+))?\]", dtype)
        return pandas_engine.DateTime(unit=match[1], tz=match[2]) if match else None
    return None


def pandas_value(value: Any, dtype: str | None) -> Any:
    """A bound or a member as pandas compares it with values of the dtype."""
    import pandas as pd

    match dtype_kind(dtype):
        case "duration":
            return pd.Timedelta(value, unit=str(dtype)[len("duration[") : -1])  # type: ignore[arg-type]
        case "timestamp":
            return pd.Timestamp(value)
        case "date":
            return datetime.date.fromisoformat(value)
        case "clock":
            return datetime.time.fromisoformat(value)
        case "decimal":
            return Decimal(str(value))
        case "integer" | "float":
            return round_constant(value, str(dtype))
    return value


def pandas_constant(value: Any, dtype: str) -> Any:
    """A constant of a check as pandas compares it with values of a dtype that was found in a file."""
    kind = dtype_kind(canonical_dtype(dtype))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, str) if kind in ("timestamp", "date", "clock") else is_number and kind != "bool":
        # A constant that the dtype cannot mean, such as a word among times, stays as it was written.
        with suppress(ValueError, TypeError, ArithmeticError):
            return pandas_value(value, canonical_dtype(dtype))
    return value


def plain_value(value: Any) -> Any:
    """An argument of a pandera check as plain values for a schema file; None if it cannot hold them."""
    import pandas as pd

    if isinstance(value, bool | int | float | str):
        return value
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, re.Pattern):
        return value.pattern if value.flags == re.compile("").flags else None
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    if isinstance(value, list | tuple | range):
        members = [plain_value(member) for member in value]
        return None if any(member is None for member in members) else members
    item = getattr(value, "item", None)
    return plain_value(item()) if item is not None and getattr(value, "ndim", 1) == 0 else None
