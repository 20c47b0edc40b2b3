"""The functions that make one value of a list: ``sum``, ``max``, ``norm`` and the others, for all lists at once.

They agree with NumPy: a NaN makes every one of them NaN (and ``is_sorted`` false). Nulls are left out, as in SQL, Arrow
and polars. What has no value in an empty list (``min``, ``max``, ``mean``, ``std``) is null there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from datacheck.leaves import BoolArray, IntArray
from datacheck.schema.axes import Axis, lengths_of, offsets_of
from datacheck.schema.operators import EXTREMES

__all__ = ["count_of", "distinct_of", "is_sorted", "reduce_numbers", "reduce_truth", "without_nulls"]

Array = np.ndarray[Any, Any]

_UFUNCS: Final[dict[str, np.ufunc]] = {
    "sum": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "any": np.logical_or,
    "all": np.logical_and,
}


def without_nulls(values: Array, valid: BoolArray | None, runs: Axis, count: int) -> tuple[Array, Axis]:
    """The values that are not null, and how they belong to ``count`` lists."""
    if valid is None or valid.all():
        return values, runs
    kept = np.concatenate([[0], np.cumsum(valid)]).astype(np.int64)
    offsets = np.arange(count + 1) * runs if isinstance(runs, int) else runs
    return values[valid], kept[offsets]


def reduce_numbers(name: str, values: Array, runs: Axis, count: int) -> tuple[Array, BoolArray | None]:
    """One number for each of ``count`` lists, and False for a list that has none; None if all have one."""
    if name == "norm":
        floats = values.astype(np.float64, copy=False)
        return np.sqrt(_reduce("sum", floats * floats, runs, count)), None
    if name == "sum":
        return _reduce("sum", values, runs, count), None
    lengths: Any = runs if isinstance(runs, int) else np.diff(runs)
    if name in ("min", "max"):
        found = _reduce(name, values, runs, count)
    else:
        found = _mean(values, runs, count, lengths)
        if name == "std":
            spread = values.astype(np.float64, copy=False) - _each(found.astype(np.float64), runs)
            found = np.sqrt(_mean(spread * spread, runs, count, lengths))
    has_values = np.broadcast_to(np.asarray(lengths) > 0, (count,))
    return found, None if has_values.all() else has_values


def _mean(values: Array, runs: Axis, count: int, lengths: Any) -> Array:
    means: Array = _reduce("sum", values, runs, count) / np.maximum(lengths, 1)
    return means


def _each(values: Array, runs: Axis) -> Array:
    return np.repeat(values, runs if isinstance(runs, int) else np.diff(runs))


def _reduce(name: str, values: Array, runs: Axis, count: int) -> Array:
    """A ufunc over each list; 0 (or true for ``all``) for an empty one."""
    ufunc = _UFUNCS[name]
    if values.dtype == object and name in EXTREMES:
        ufunc = np.frompyfunc(EXTREMES[name], 2, 1)
    if isinstance(runs, int) and runs:
        reduced: Array = ufunc.reduce(values.reshape(count, runs), axis=1)
        return reduced
    found = np.full(count, name == "all", values.dtype)
    if isinstance(runs, int):
        return found
    filled = np.diff(runs) > 0
    if filled.any():
        found[filled] = ufunc.reduceat(values, runs[:-1][filled])
    return found


def reduce_truth(name: str, truth: BoolArray, runs: Axis, count: int) -> BoolArray:
    """``any`` or ``all`` of each list."""
    # Where few values decide, finding them is faster than reducing lists one by one.
    decisive = np.flatnonzero(truth if name == "any" else ~truth)
    if len(decisive) * 4 < max(count, 1):
        found = np.full(count, name == "all", np.bool_)
        owners = decisive // max(runs, 1) if isinstance(runs, int) else np.searchsorted(runs, decisive, "right") - 1
        found[owners] = name == "any"
        return found
    return _reduce(name, truth, runs, count)


def count_of(marks: BoolArray, runs: Axis, count: int) -> IntArray:
    """How many values of each list are marked."""
    if isinstance(runs, int):
        counted: IntArray = np.count_nonzero(marks.reshape(count, runs), axis=1).astype(np.int64)
        return counted
    before = np.concatenate([[0], np.cumsum(marks)]).astype(np.int64)
    return before[runs[1:]] - before[runs[:-1]]


def distinct_of(values: Array, runs: Axis, count: int) -> IntArray:
    """How many different values each list has; all NaN count as one, as in ``numpy.unique``."""
    if values.dtype == object:
        seen: dict[Any, int] = {}
        values = np.array([seen.setdefault(one if one == one else "nan", len(seen)) for one in values], np.int64)
    owners = np.repeat(np.arange(count), lengths_of(runs, count))
    order = np.lexsort((values, owners))
    owners, values = owners[order], values[order]
    is_new = np.ones(len(values), np.bool_)
    is_same = (values[1:] == values[:-1]) | ((values[1:] != values[1:]) & (values[:-1] != values[:-1]))
    is_new[1:] = ~is_same | (owners[1:] != owners[:-1])
    return np.bincount(owners[is_new], minlength=count).astype(np.int64)


def is_sorted(values: Array, runs: Axis, count: int) -> BoolArray:
    """Whether no value of a list is less than the one before it; false if one of two neighbours is NaN."""
    offsets = offsets_of(lengths_of(runs, count))
    falls = np.zeros(len(values), np.bool_)
    falls[1:] = ~(values[:-1] <= values[1:])
    firsts = offsets[:-1]
    falls[firsts[firsts < len(values)]] = False
    return reduce_truth("all", ~falls, runs, count)
