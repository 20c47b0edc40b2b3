"""Columns as operands of expressions: one plain representation for each kind of value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import decode, is_encoded, is_list, is_text, take_rows
from datacheck.leaves import BoolArray, IntArray, arrow_validity
from datacheck.schema.axes import Axes, Axis, offsets_of, picked
from datacheck.schema.times import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


Array = np.ndarray[Any, Any]

#: Kinds of times, which do not mix: without a time zone, with one, time of day.
TIMES = ("time", "instant", "clock")

_INT64_MAX = np.iinfo(np.int64).max
#: The largest power of ten that float64 holds exactly.
_EXACT_POWER = 22


class ExpressionTypeError(ValueError):
    """An expression does not fit the dtype of a column."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Values of one kind, as a vector or, for a constant, as one value.

    ``kind`` is ``number`` (integers or floats of up to 64 bits, or Python objects), ``bool``, ``text`` (an Arrow array,
    or a ``str``) or ``bytes`` (an Arrow array). It may also be one of :data:`TIMES` (nanoseconds as int64), ``null``
    (no values), or a description of a column that only ``is_null`` and ``len`` accept. ``valid`` is None if nothing is
    null. ``axes``, if rows have lists, say which row each value is in. Everything else is then by flat position.

    ``inexact`` marks values that the representation cannot hold; ``exact`` gives the value at such a position as a
    Python integer or a Decimal. ``narrow`` is the dtype of a column of floats that is narrower than float64.
    """

    kind: str
    values: Any
    valid: BoolArray | None = None
    inexact: BoolArray | None = None
    exact: Callable[[int], Any] | None = None
    narrow: str | None = None
    axes: Axes | None = None

    def cut(self, start: int, stop: int) -> Operand:
        """The rows from ``start`` to ``stop``; nothing is copied."""
        axes = self.axes
        if axes is not None:
            axes, start, stop = axes.cut(start, stop)
        part, exact = slice(start, stop), self.exact
        return replace(
            self,
            values=None if self.values is None else self.values[part],
            valid=None if self.valid is None else self.valid[part],
            inexact=None if self.inexact is None else self.inexact[part],
            exact=None if exact is None else lambda position: exact(start + position),
            axes=axes,
        )

    def exactly(self, rows: IntArray) -> Operand:
        """Some rows, with numbers as Python objects: integers of any size, decimals; times are nanoseconds."""
        positions, axes = rows, None
        if self.axes is not None:
            axes, positions, _ = self.axes.item((), rows)
        valid = None if self.valid is None else self.valid[positions]
        if self.kind != "number" and self.kind not in TIMES:
            values = self.values if self.values is None else picked(self.values, positions)
            return Operand(self.kind, values, valid, axes=axes)
        is_exact = self.exact is not None and self.inexact is not None
        values = np.empty(len(positions), object)
        for place, position in enumerate(positions.tolist()):
            is_value = valid is None or valid[place]
            plain = not is_exact or not self.inexact[position]  # type: ignore[index]
            values[place] = self.values[position].item() if plain or not is_value else self.exact(position)  # type: ignore[misc]
        return Operand(self.kind, values, valid, axes=axes)


def described(value: Operand) -> str:
    """The kind of an operand, for messages."""
    kinds = {
        "number": "a number",
        "bool": "true or false",
        "text": "a string",
        "bytes": "binary",
        "time": "a time without a zone",
        "instant": "a time with a zone",
        "clock": "a time of day",
    }
    kind = kinds.get(value.kind, f"a value {value.kind}" if value.kind.startswith("of ") else value.kind)
    return kind if value.axes is None else f"a list ({kind})"


def numbers(value: Operand, problem: str) -> Any:
    """The values as int64 or float64, or Python objects; true and false count as 1 and 0.

    Raises ``ExpressionTypeError(problem)`` for values of another kind.
    """
    if value.kind == "bool":
        return value.values.astype(np.int64)
    if value.kind != "number":
        raise ExpressionTypeError(problem)
    wide = {"f": np.float64, "i": np.int64, "u": np.int64}.get(value.values.dtype.kind)
    return value.values if wide is None else value.values.astype(wide, copy=False)


def both_valid(first: BoolArray | None, second: BoolArray | None) -> BoolArray | None:
    """Where both of two operands are valid; None if nothing is null."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def operand_of(
    data: pa.Array | Array, narrow: str | None = None, widen: Callable[[Array], Array] | None = None
) -> Operand:
    """Convert a column into an operand.

    ``widen`` gives the floats of integers that store a format which NumPy lacks, and ``narrow`` is its name.
    """
    found = _of_array(data) if isinstance(data, np.ndarray) else _of_arrow(data)
    if widen is None or found.kind != "number":
        return found
    return replace(found, values=widen(found.values), narrow=narrow)


def axes_of(data: pa.Array | Array) -> Axes | None:
    """The axes inside the rows of a column, without its values; None if each row has one value."""
    if isinstance(data, np.ndarray):
        return Axes(len(data), data.shape[1:]) if data.ndim > 1 else None
    level = _level_of(decode(data) if is_encoded(data.type) else data)
    if level is None:
        return None
    values, sizes, present = level
    inner = axes_of(values)
    return Axes(len(data), (*sizes, *(inner.sizes if inner is not None else ())), present)


def _of_array(array: Array) -> Operand:
    valid = None
    if isinstance(array, np.ma.MaskedArray):
        valid = ~np.ma.getmaskarray(array).reshape(-1)
        array = array.data
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim > 1:
        axes = Axes(len(array), array.shape[1:])
        flat = np.ascontiguousarray(array).reshape(-1)
        return replace(_of_array(flat if valid is None else np.ma.array(flat, mask=~valid)), axes=axes)
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
    lists = _of_lists(array)
    if lists is not None:
        return lists
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
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return Operand("bytes", array, valid)
    return Operand(f"of type {kind}", None, valid)


def _of_lists(array: pa.Array) -> Operand | None:
    """Lists, of any depth, as the values inside them; None for anything else."""
    level = _level_of(array)
    if level is None:
        return None
    values, sizes, present = level
    inner = _of_arrow(values)
    sizes += inner.axes.sizes if inner.axes is not None else ()
    return replace(inner, axes=Axes(len(array), tuple(sizes), present))


def _level_of(array: pa.Array) -> tuple[pa.Array, list[Axis], BoolArray | None] | None:
    """The values of lists, the axes that lead to them, and which lists are present; None for anything else."""
    kind, storage = array.type, array
    shape: tuple[int, ...] | None = None
    if isinstance(kind, pa.FixedShapeTensorType):
        shape, storage = tuple(kind.shape), array.storage
    elif pa.types.is_fixed_size_list(kind):
        shape = (kind.list_size,)
    elif not is_list(kind):
        return None
    present = arrow_validity(storage)
    values = storage.flatten()
    if shape is None:
        sizes: list[Axis] = [offsets_of(_filled(pc.list_value_length(storage).cast(pa.int64()), 0))]
    else:
        sizes = [shape[0] if present is None else offsets_of(np.where(present, shape[0], 0)), *shape[1:]]
        permutation = getattr(kind, "permutation", None)
        if permutation is not None:
            values, sizes = _permuted(values, (-1, *shape), permutation, sizes)
    return values, sizes, present


def _permuted(
    values: pa.Array, shape: tuple[int, ...], permutation: Sequence[int], sizes: list[Axis]
) -> tuple[pa.Array, list[Axis]]:
    """The values of tensors in the order of their logical axes, which a permutation of the stored axes gives."""
    positions = np.arange(len(values)).reshape(shape).transpose(0, *(axis + 1 for axis in permutation))
    first = (
        sizes[0] if isinstance(sizes[0], int) else offsets_of(np.where(np.diff(sizes[0]) > 0, positions.shape[1], 0))
    )
    return take_rows(values, positions.reshape(-1)), [first, *positions.shape[2:]]


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
        return Operand("number", array if array.dtype.itemsize <= 8 else _as_float64(array), valid, narrow=narrow)
    if kind == "u" and array.dtype.itemsize == 8:
        too_large = array > _INT64_MAX
        return Operand("number", array.astype(np.int64), valid, too_large, lambda row: int(array[row]))
    return Operand("number", array, valid)


def _as_float64(array: Array) -> Array:
    with np.errstate(all="ignore"):  # a signalling NaN, or a long double beyond float64
        return array.astype(np.float64)


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
        return Operand(kind, ticks * np.int64(factor), valid, too_far, lambda row: int(ticks[row]) * factor)
