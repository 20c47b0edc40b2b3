"""The functions that make one value of a list: ``sum``, ``max``, ``norm`` and the others, for all lists at once.

They agree with NumPy: a NaN makes every one of them NaN (and ``is_sorted`` false). Nulls are left out, as in SQL, Arrow
and polars. What has no value in an empty list (``min``, ``max``, ``mean``, ``std``) is null there.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, Final

import numpy as np

from datacheck.leaves import BoolArray, IntArray
from datacheck.schema.axes import Axis, lengths_of, offsets_of
from datacheck.schema.operators import EXTREMES

Array = np.ndarray[Any, Any]

#: Up to this many values in each list, lists of one length are reduced position by position.
_FEW: Final = 8
#: The lengths up to which lists are of one kind.
_WIDTHS: Final = np.unique(np.ceil(4 * 1.5 ** np.arange(50)).astype(np.int64))
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
        floats = values.astype(np.float64)
        return np.sqrt(_reduce("sum", np.multiply(floats, floats, out=floats), runs, count)), None
    if name == "sum":
        return _reduce("sum", values, runs, count), None
    lengths: Any = runs if isinstance(runs, int) else np.diff(runs)
    if name in ("min", "max"):
        found = _reduce(name, values, runs, count)
    else:
        found = _mean(values, runs, count, lengths)
        if name == "std":
            spread = _from_mean(values, found.astype(np.float64), runs)
            found = np.sqrt(_mean(np.multiply(spread, spread, out=spread), runs, count, lengths))
    has_values = np.broadcast_to(np.asarray(lengths) > 0, (count,))
    return found, None if has_values.all() else has_values


def _mean(values: Array, runs: Axis, count: int, lengths: Any) -> Array:
    means: Array = _reduce("sum", values, runs, count) / np.maximum(lengths, 1)
    return means


def _from_mean(values: Array, means: Array, runs: Axis) -> Array:
    """How far each value is from the mean of its list, as float64."""
    if isinstance(runs, int):
        rows: Array = np.subtract(values.reshape(len(means), runs), means[:, None], dtype=np.float64)
        return rows.reshape(-1)
    spread = np.repeat(means, np.diff(runs))
    np.subtract(values, spread, out=spread)
    return spread


def _reduce(name: str, values: Array, runs: Axis, count: int) -> Array:
    """A ufunc over each list; 0 (or true for ``all``) for an empty one.

    The order of additions depends on the length of a list alone, never on its layout or on the lists beside it.
    """
    ufunc = _UFUNCS[name]
    if values.dtype == object and name in EXTREMES:
        ufunc = np.frompyfunc(EXTREMES[name], 2, 1)
    if isinstance(runs, int) and 0 < runs < _FEW:
        # A call for each position is faster than one for each list; the first value comes last, as in ``reduceat``.
        columns = values.reshape(count, runs).T
        rest = reduce(ufunc, columns[1:]) if runs > 1 else None
        reduced: Array = columns[0].copy() if rest is None else ufunc(columns[0], rest)
        return reduced
    found = np.full(count, name == "all", values.dtype)
    offsets = np.arange(count + 1) * runs if isinstance(runs, int) else runs
    filled = np.diff(offsets) > 0
    if filled.any():
        found[filled] = ufunc.reduceat(values, offsets[:-1][filled])
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
    if isinstance(runs, int):
        return _distinct_in_rows(values.reshape(count, runs))
    lengths = np.diff(runs)
    found = np.zeros(count, np.int64)
    # Lists of nearly one length are sorted together, as the rows of a matrix that the last value fills.
    kinds = np.where(lengths > 0, np.searchsorted(_WIDTHS, lengths), -1)
    for kind in np.unique(kinds[kinds >= 0]).tolist():
        lists = np.flatnonzero(kinds == kind)
        index = np.arange(lengths[lists].max()) + runs[lists][:, None]
        np.minimum(index, runs[lists + 1][:, None] - 1, out=index)
        found[lists] = _distinct_in_rows(values[index])
    return found


def _distinct_in_rows(rows: Array) -> IntArray:
    if not rows.size:
        return np.zeros(len(rows), np.int64)
    rows = np.sort(rows, axis=1)
    before, after = rows[:, :-1], rows[:, 1:]
    is_new = before != after
    if rows.dtype.kind == "f" and np.isnan(rows[:, -1]).any():
        is_new &= (before == before) | (after == after)  # NaN are sorted last
    distinct: IntArray = 1 + np.count_nonzero(is_new, axis=1).astype(np.int64)
    return distinct


def is_sorted(values: Array, runs: Axis, count: int) -> BoolArray:
    """Whether no value of a list is less than the one before it; false if one of two neighbours is NaN."""
    offsets = offsets_of(lengths_of(runs, count))
    falls = np.zeros(len(values), np.bool_)
    falls[1:] = ~(values[:-1] <= values[1:])
    firsts = offsets[:-1]
    falls[firsts[firsts < len(values)]] = False
    return reduce_truth("all", ~falls, runs, count)
