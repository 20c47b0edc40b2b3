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
#: Lists are sorted together up to each of these lengths, which at most double. Up to 256 values, a vectorised sort takes
#: as long as for the next power of two.
_WIDTHS: Final = np.array([2**power for power in range(8)] + [int(256 * 1.5**power) for power in range(80)])
_INT32: Final = np.iinfo(np.int32)
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


def distinct_of(values: Array, runs: Axis, count: int, enough: int | None = None) -> IntArray:
    """How many different values each list has; all NaN count as one, as in ``numpy.unique``.

    With ``enough``, a list that has so many may be counted as having more or fewer, but no fewer than ``enough``.
    """
    if enough is None or enough <= 2 or _sample_size(enough) * count * 2 > len(values):
        return _distinct_of_all(values, runs, count, enough)
    # A few values of a list mostly have enough different ones. Only the other lists are looked at in full.
    size, offsets = _sample_size(enough), offsets_of(lengths_of(runs, count))
    lengths = np.diff(offsets)
    positions = offsets[:-1, None] + np.arange(size) * lengths[:, None] // size
    sampled = _keys_of(values.take(positions.reshape(-1), mode="clip")).reshape(count, size)
    found = np.where(lengths > 0, _distinct_in_rows(sampled, np.minimum(lengths, size)), 0)
    undecided = (found < enough) & (lengths > size)
    if undecided.any():
        kept, left = values[np.repeat(undecided, lengths)], lengths[undecided]
        found[undecided] = _distinct_of_all(kept, offsets_of(left), len(left), enough)
    return found


def _sample_size(enough: int) -> int:
    return 4 * enough


def _distinct_of_all(values: Array, runs: Axis, count: int, enough: int | None) -> IntArray:
    if enough is not None and enough <= 2:
        return _up_to_two(values, runs, count)
    keys, lengths = _keys_of(values), lengths_of(runs, count)
    if isinstance(runs, int):
        return _distinct_in_rows(keys.reshape(count, runs), lengths)
    found = np.minimum(lengths, 1)
    steps = _WIDTHS.searchsorted(lengths).astype(np.uint8)
    order = np.argsort(steps, kind="stable")
    bounds, lengths, stop = np.array([runs[:-1], runs[1:]])[:, order], lengths[order], 0
    for step, size in enumerate(np.bincount(steps).tolist()):
        start, stop = stop, stop + size
        if step and size:
            # Two windows cover each list; what is in both occurs twice in its row.
            half = (int(lengths[start:stop].max()) + 1) // 2
            windows: Array = np.ndarray((len(keys) - half + 1, half), keys.dtype, keys, 0, keys.strides * 2)
            rows = windows[(bounds[:, start:stop] - [[0], [half]]).T].reshape(size, 2 * half)
            found[order[start:stop]] = _distinct_in_rows(rows, lengths[start:stop])
    return found


def _up_to_two(values: Array, runs: Axis, count: int) -> IntArray:
    """0 for an empty list, 1 for one whose values are the same, 2 for others."""
    keys = values if values.dtype.kind in "iub" else _keys_of(values)
    differs = _has_marked_pair(keys[:-1] != keys[1:], len(keys), runs, count)
    return (lengths_of(runs, count) > 0).astype(np.int64) + differs


def _keys_of(values: Array) -> Array:
    """A copy as integers that are equal where the values are; all NaN are one value.

    NumPy sorts integers of 32 bits twice as fast as floats, and far faster than those of 16 bits.
    """
    kind = values.dtype.kind
    if values.dtype == object:
        seen: dict[Any, int] = {}
        values = np.array([seen.setdefault(one if one == one else "nan", len(seen)) for one in values], np.int64)
    elif kind == "f":
        floats = values.astype(np.float64 if values.itemsize > 4 else np.float32)
        np.add(floats, 0.0, out=floats)  # -0.0 equals 0.0
        if len(floats) and np.isnan(floats.min()):
            floats[np.isnan(floats)] = np.nan
        return floats.view(np.int64 if values.itemsize > 4 else np.int32)
    is_narrow = values.itemsize < 4 or not len(values)
    if is_narrow or (_INT32.min <= values.min() and values.max() <= _INT32.max):
        return values.astype(np.int32)
    return values.copy()


def _distinct_in_rows(rows: Array, lengths: IntArray) -> IntArray:
    """How many different values each row has: a list of ``lengths`` values, and some of them again."""
    if not rows.size:
        return np.zeros(len(rows), np.int64)
    rows.sort(axis=1)
    flat = rows.reshape(-1)
    if np.count_nonzero(flat[1:] == flat[:-1]) == len(flat) - lengths.sum():
        return lengths  # no value of a list occurs twice
    is_new = rows[:, :-1] != rows[:, 1:]
    distinct: IntArray = 1 + is_new.view(np.uint8).sum(axis=1, dtype=np.int64)
    return distinct


def is_sorted(values: Array, runs: Axis, count: int) -> BoolArray:
    """Whether no value of a list is less than the one before it; false if one of two neighbours is NaN."""
    return ~_has_marked_pair(~(values[:-1] <= values[1:]), len(values), runs, count)


def _has_marked_pair(pairs: BoolArray, num_values: int, runs: Axis, count: int) -> BoolArray:
    """Whether two neighbours of each list are marked; ``pairs`` are the marks of all values but the last with the next."""
    marks = np.zeros(num_values, np.bool_)
    marks[1:] = pairs
    firsts = offsets_of(lengths_of(runs, count))[:-1]
    marks[firsts[firsts < num_values]] = False
    return reduce_truth("any", marks, runs, count)
