"""Columns as operands of expressions: one plain representation for each kind of value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.arrow_layouts import decode, is_encoded, is_text, python_value
from datacheck.leaves import BoolArray, arrow_validity
from datacheck.schema.times import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TIMES", "ExpressionTypeError", "Instant", "Operand", "operand_of"]

Array = np.ndarray[Any, Any]

#: Kinds of times, which do not mix: without a time zone, with one, time of day.
TIMES = ("time", "instant", "clock")

_INT64_MAX = np.iinfo(np.int64).max
#: The largest power of ten that float64 holds exactly.
_EXACT_POWER = 22


class ExpressionTypeError(ValueError):
    """An expression does not fit the dtype of a column."""


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A time of any size, in nanoseconds."""

    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Operand:
    """Values of one kind, as a vector or, for a constant, as one value.

    ``kind`` is ``number`` (int64 or float64), ``bool``, ``text`` (an Arrow array, or a ``str``), one of :data:`TIMES`
    (nanoseconds as int64), ``list`` (the lengths as int64), ``null`` (no values), or a description of a column that
    only ``is_null`` accepts. ``valid`` is None if nothing is null.

    ``inexact`` marks rows whose value the representation cannot hold; ``exact`` gives the value of a row as a Python
    number, text, Decimal or :class:`Instant`. ``narrow`` is the dtype of a column of floats that is narrower than float64.
    """

    kind: str
    values: Any
    valid: BoolArray | None = None
    inexact: BoolArray | None = None
    exact: Callable[[int], Any] | None = None
    narrow: str | None = None

    def value_at(self, row: int) -> Any:
        """The value of one row for the exact evaluator; None for a null."""
        if self.valid is not None and not self.valid[row]:
            return None
        if self.exact is not None:
            return self.exact(row)
        if self.kind in ("number", "bool", "list"):
            return self.values[row].item()
        if self.kind in TIMES:
            return Instant(int(self.values[row]))
        return python_value(self.values[row]) if self.kind == "text" else self


def operand_of(data: pa.Array | Array) -> Operand:
    """Convert a column into an operand."""
    return _of_array(data) if isinstance(data, np.ndarray) else _of_arrow(data)


def _of_array(array: Array) -> Operand:
    valid = None
    if isinstance(array, np.ma.MaskedArray):
        valid = ~np.ma.getmaskarray(array)
        array = array.data
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim != 1:
        return Operand(f"an array of {array.ndim} dimensions", None, valid)
    kind = array.dtype.kind
    if kind in "biuf":
        return _of_numbers(array, valid)
    if kind in "mMSUT":
        mask = None if valid is None else ~valid
        return _of_arrow(pa.array(array.astype(object) if kind in "SUT" else array, mask=mask))
    return Operand(f"of dtype {array.dtype}", None, valid)


def _of_arrow(array: pa.Array) -> Operand:
    kind = array.type
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _of_arrow(array.storage)
    if is_encoded(kind):
        return _of_arrow(decode(array))
    valid = arrow_validity(array)
    if types.is_null(kind):
        return Operand("null", np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_))
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return _of_numbers(_filled(array, False if types.is_boolean(kind) else 0), valid)
    if types.is_decimal(kind):
        return _of_decimals(array, valid)
    if is_text(kind):
        return Operand("text", array.cast(pa.large_string()), valid)
    if types.is_timestamp(kind) or types.is_date(kind):
        unit = kind.unit if types.is_timestamp(kind) else ("D" if types.is_date32(kind) else "ms")
        return _of_ticks("instant" if types.is_timestamp(kind) and kind.tz else "time", array, unit, valid)
    if types.is_time(kind):
        return _of_ticks("clock", array, kind.unit, valid)
    if types.is_duration(kind):
        ticks = _filled(array.cast(pa.int64()), 0)
        return Operand("number", ticks / (10**9 // NANOSECONDS[kind.unit]), valid)
    if types.is_nested(kind) and not (types.is_struct(kind) or types.is_map(kind) or types.is_union(kind)):
        return Operand("list", _filled(pc.list_value_length(array).cast(pa.int64()), 0), valid)
    return Operand(f"of type {kind}", None, valid)


def _filled(array: pa.Array, value: object) -> Array:
    """The values in NumPy's own dtype, with ``value`` for each null."""
    if pa.types.is_float16(array.type):
        # Arrow cannot fill nulls of float16.
        bits = array.view(pa.uint16()).fill_null(0)
        return bits.to_numpy(zero_copy_only=False).view(np.float16)  # type: ignore[no-any-return]
    filled: Array = (array.fill_null(value) if array.null_count else array).to_numpy(zero_copy_only=False)
    return filled


def _of_numbers(array: Array, valid: BoolArray | None) -> Operand:
    kind = array.dtype.kind
    if kind == "b":
        return Operand("bool", array, valid)
    if kind == "f":
        narrow = array.dtype.name if array.dtype.itemsize < 8 else None
        with np.errstate(all="ignore"):  # a signalling NaN, or a long double beyond float64
            wide = array.astype(np.float64, copy=False)
        return Operand("number", wide, valid, narrow=narrow)
    if kind == "u" and array.dtype.itemsize == 8:
        too_large = array > _INT64_MAX
        return Operand("number", array.astype(np.int64), valid, too_large, lambda row: int(array[row]))
    return Operand("number", array.astype(np.int64, copy=False), valid)


def _of_decimals(array: pa.Array, valid: BoolArray | None) -> Operand:
    """Decimals as the nearest float64, which Arrow's own cast often misses. Longer ones are inexact."""
    scale = array.type.scale
    words = np.frombuffer(array.buffers()[1] or b"", np.int32 if array.type.byte_width == 4 else np.int64)
    words = words.reshape(-1, max(1, array.type.byte_width // 8))[array.offset : array.offset + len(array)]
    digits = words[:, 0].astype(np.int64)
    is_long = (words[:, 1:] != (digits >> 63)[:, None]).any(axis=1) | (np.abs(digits.astype(np.float64)) >= 2**53)
    if abs(scale) > _EXACT_POWER:
        is_long[:] = True
    with np.errstate(over="ignore"):
        values = digits / 10.0**scale if scale >= 0 else digits * 10.0**-scale
    return Operand("number", values, valid, is_long if is_long.any() else None, lambda row: array[row].as_py())


def _of_ticks(kind: str, array: pa.Array, unit: str, valid: BoolArray | None) -> Operand:
    integers = pa.int32() if pa.types.is_date32(array.type) or pa.types.is_time32(array.type) else pa.int64()
    ticks = _filled(array.view(integers), 0).astype(np.int64)
    factor = NANOSECONDS[unit]
    too_far = np.abs(ticks.astype(np.float64)) >= _INT64_MAX / factor if factor > 1 else None
    with np.errstate(over="ignore"):
        return Operand(kind, ticks * np.int64(factor), valid, too_far, lambda row: Instant(int(ticks[row]) * factor))
