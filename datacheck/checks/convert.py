"""Converting values to another dtype, each independently of the others.

A value converts if it is still the same value afterwards. Text is parsed, and fractions may be rounded; everything else
must convert back. Arrow's own safe cast converts any number except 0, and NaN, to true, and drops the time of day.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import decode, is_text
from datacheck.arrow_leaves import walk_arrow
from datacheck.leaves import BoolArray
from datacheck.sources.text_parsing import clean_cells, convert, parse, parse_cells


def convert_arrow(
    values: pa.Array, target: pa.DataType, *, is_untyped: bool = False, is_loose: bool = True
) -> pa.Array | None:
    """Convert values to another type: null if a value does not convert, None if no value of their type does.

    Args:
        is_untyped: whether the file format has only text. Whitespace around a number is then ignored.
        is_loose: whether text such as ``5.0`` is an integer.
    """
    values = decode(values)
    source = values.type
    if _is_number(source) and _is_number(target):
        return _from_numbers(values, target)
    if not _is_castable(source, target):
        return None
    if is_text(source):
        return _from_text(values, target, is_untyped, is_loose)
    if pa.types.is_floating(source):  # as text or decimal, NaN would escape every check
        values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, source))
    return _from_others(values, target)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


@lru_cache(maxsize=256)
def _is_castable(source: pa.DataType, target: pa.DataType) -> bool:
    try:
        pa.nulls(0, source).cast(target)
    except pa.ArrowException:
        return False
    return True


def _from_numbers(values: pa.Array, target: pa.DataType) -> pa.Array:
    (leaf,) = walk_arrow("", values)
    converted, unconvertible = convert_numbers(leaf.values, np.dtype(target.to_pandas_dtype()))
    valid = leaf.validity
    if unconvertible is not None:
        valid = ~unconvertible if valid is None else valid & ~unconvertible
    bits = None if valid is None else _packed(valid)
    data = _packed(converted) if converted.dtype == np.bool_ else pa.py_buffer(np.ascontiguousarray(converted))
    return pa.Array.from_buffers(target, len(values), [bits, data])


def _packed(bits: np.ndarray[Any, Any]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(bits, bitorder="little"))


def convert_numbers(
    before: np.ndarray[Any, Any], target: np.dtype[Any]
) -> tuple[np.ndarray[Any, Any], BoolArray | None]:
    """Convert numbers to another dtype. The mask is True where one does not convert, and None if all do."""
    with np.errstate(all="ignore"):
        after = before.astype(target)
        survived = _survived(before, after)
    return after, None if survived.all() else ~survived


def _survived(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> BoolArray:
    if after.dtype.kind in "fc":
        if before.dtype.kind == "f":
            # A float64 of 1e300 is +inf in float32.
            return np.asarray(np.isfinite(before) == np.isfinite(after), np.bool_)
        return _is_integer_kept(before, after)
    if before.dtype.kind == "f" and after.dtype.kind in "iu":
        # Beyond the precision of the mantissa, a float stands for several integers: which one it was is lost.
        limits, exact = np.iinfo(after.dtype), 2.0 ** (np.finfo(before.dtype).nmant + 1)
        is_inside = (before >= limits.min) & (before < float(limits.max) + 1)  # elsewhere it depends on the processor
        return np.asarray(is_inside & (np.abs(before) <= exact) & (after == before), np.bool_)
    return np.asarray(after == before, np.bool_)


def _is_integer_kept(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> BoolArray:
    """Beyond the precision of the mantissa, an integer may be rounded to another one."""
    exact: int = 2 ** (np.finfo(after.dtype).nmant + 1)
    if before.dtype.kind == "b" or np.iinfo(before.dtype).max <= exact:
        return np.ones(before.shape, np.bool_)
    kept: BoolArray = (before >= -exact) & (before <= exact)
    if not kept.all():
        # Half and single precision convert to double exactly, so that converting back is exact too.
        wide = after.real.astype(np.float64)
        inside = np.abs(wide) < float(np.iinfo(before.dtype).max)
        kept |= inside & (np.where(inside, wide, 0).astype(before.dtype) == before)
    return kept


def _from_text(values: pa.Array, target: pa.DataType, is_untyped: bool, is_loose: bool) -> pa.Array:
    converted = convert(values, target) if is_untyped else parse(values, target)
    if converted is not None:
        return converted
    words = values.cast(pa.string())
    if is_untyped:
        words = clean_cells(words, target)
    return parse_cells(words, target, is_loose and pa.types.is_integer(target))


def _from_others(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Times, decimals, bytes and other types that Arrow casts: at once, or in halves if some values do not convert."""
    if not len(values):
        return pa.nulls(0, target)
    try:
        converted = values.cast(target, safe=True)
        is_kept = _converts_back(values, converted)
    except pa.ArrowException:
        if len(values) - values.null_count == 0 or len(values) == 1:
            return pa.nulls(len(values), target)
        middle = len(values) // 2
        halves = [_from_others(half, target) for half in (values[:middle], values[middle:])]
        return pa.concat_arrays(halves)
    return converted if is_kept is None else pc.if_else(is_kept, converted, pa.scalar(None, target))


def _converts_back(before: pa.Array, after: pa.Array) -> pa.Array | None:
    """Where the value converts back; None if everywhere."""
    if pa.types.is_floating(after.type):
        return pc.is_finite(after) if pc.any(pc.is_inf(after)).as_py() else None
    if pa.types.is_decimal(before.type) and pa.types.is_integer(after.type):
        return None  # Arrow rejects fractions, and a decimal of few digits does not hold every integer
    back = after.cast(before.type, safe=True)
    return None if back.equals(before) else pc.equal(back, before)
