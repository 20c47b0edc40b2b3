"""What the notes know of the vectors of a field: which are all zero or constant, and which index of an axis is constant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datacheck.leaves import Leaf, Ragged, Regular
from datacheck.numerics import to_float
from datacheck.profile.coalesce_batches import CoalescedBatch
from datacheck.profile.notes.tally import Tally, places_in

Array = np.ndarray[Any, Any]

#: The most indices of an axis that are counted separately.
_MAX_CHANNELS = 4096
#: Values that a vector needs for it to be notable that they are all the same.
_MIN_CONSTANT = 8
#: Rows sampled to see which channels vary, before all are read.
_FIRST_ROWS = 64
#: Values of vectors that are processed together.
_BLOCK = 1 << 20


@dataclass(slots=True)
class Channels:
    """The least and the greatest value at each index of one axis, of those that are constant so far."""

    low: Array
    high: Array

    def add(self, rows: Array, axis: int) -> None:
        """Add the values of rows whose axis ``axis`` this is; an index that varies is not looked at again."""
        constant = np.flatnonzero(self.low == self.high)
        if not len(constant):
            return
        others = tuple(other for other in range(rows.ndim) if other != axis)
        kept = rows if len(constant) == len(self.low) else rows.take(constant, axis)
        self.low[constant] = np.minimum(self.low[constant], kept.min(axis=others))
        self.high[constant] = np.maximum(self.high[constant], kept.max(axis=others))

    def merge(self, other: Channels) -> None:
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)


@dataclass(slots=True)
class VectorNotes:
    """The notes on vectors: the innermost lists of a column, and the rows of an array.

    ``channels`` are by the axis inside a row (the first is 0); None once rows of another shape were seen.
    """

    num_vectors: int = 0
    zero: Tally = field(default_factory=Tally)
    constant: Tally = field(default_factory=Tally)
    shape: tuple[int, ...] | None = None
    channels: dict[int, Channels] | None = field(default_factory=dict)

    def add(self, leaf: Leaf, coalesced: CoalescedBatch) -> None:
        """Add a leaf of numbers inside lists or arrays, without nulls."""
        level = leaf.levels[0]
        if isinstance(level, Regular) and level.axes is None and level.shape and level.shape[0]:
            inner = level.shape[1:]
            if level.order == "F":
                self._add_fortran(leaf, level, coalesced)
            elif inner and 0 not in inner:
                size = int(np.prod(inner))
                table = leaf.values.reshape(-1, size)
                depth = len(inner)
                for start in range(0, len(table), step := max(1, _BLOCK // size)):
                    part = to_float(table[start : start + step].reshape(-1), leaf.dtype).reshape(-1, size)
                    places = places_in(leaf, coalesced, depth)
                    self._count(*_row_extremes(part), size, start, size, places)
                    self._add_channels(part.reshape(-1, *inner))
        elif isinstance(level, Ragged):
            self._add_ragged(leaf, level, coalesced)

    def _add_fortran(self, leaf: Leaf, level: Regular, coalesced: CoalescedBatch) -> None:
        table = to_float(leaf.values, leaf.dtype).reshape(level.shape[::-1]).T
        if table.ndim < 2 or 0 in level.shape:
            return
        axes = tuple(range(1, table.ndim))
        places = places_in(leaf, coalesced, len(axes))
        self._count(table.min(axis=axes), table.max(axis=axes), int(np.prod(level.shape[1:])), 0, 1, places)
        self._add_channels(table)

    def _add_ragged(self, leaf: Leaf, level: Ragged, coalesced: CoalescedBatch) -> None:
        starts, lengths = level.offsets[:-1], np.diff(level.offsets)
        is_long = lengths > 1
        if not is_long.any():
            self.channels = None
            return
        # The last value of each segment is left out by a boundary at the end of the array.
        values = to_float(leaf.values, leaf.dtype)
        present = starts[lengths > 0]
        low, high = np.minimum.reduceat(values, present), np.maximum.reduceat(values, present)
        kept = is_long[lengths > 0]
        firsts, sizes = present[kept], lengths[is_long]
        low, high = low[kept], high[kept]
        places = places_in(leaf, coalesced, 1)
        self.num_vectors += len(firsts)
        for tally, mask in self._kinds(low, high, sizes):
            tally.add_mask(mask, lambda rows: places(firsts[rows]))
        size = int(lengths.max())
        if (lengths[lengths > 0] == size).all():
            self._add_channels(values[present[0] :][: len(present) * size].reshape(-1, size))
        else:
            self.channels = None

    def _count(self, low: Array, high: Array, size: int, start: int, stride: int, places: Any) -> None:
        """Count vectors by their extremes; vector ``i`` begins at the flat position ``(start + i) * stride``."""
        if size < 2:
            return
        self.num_vectors += len(low)
        for tally, mask in self._kinds(low, high, np.full(len(low), size)):
            tally.add_mask(mask, lambda rows: places((np.asarray(rows) + start) * stride))

    def _kinds(self, low: Array, high: Array, sizes: Array) -> list[tuple[Tally, Any]]:
        same = low == high
        return [(self.zero, same & (low == 0)), (self.constant, same & (low != 0) & (sizes >= _MIN_CONSTANT))]

    def _add_channels(self, rows: Array) -> None:
        inner = rows.shape[1:]
        if self.shape is None:
            self.shape = inner
        if self.shape != inner:
            self.channels = None
        if self.channels is None:
            return
        for axis in {0, len(inner) - 1}:
            if 2 <= inner[axis] <= _MAX_CHANNELS:
                others = tuple(other for other in range(rows.ndim) if other != axis + 1)
                first = rows[:_FIRST_ROWS]
                known = self.channels.get(axis)
                if known is None:
                    known = self.channels[axis] = Channels(first.min(axis=others), first.max(axis=others))
                known.add(rows, axis + 1)

    def merge(self, other: VectorNotes) -> None:
        self.num_vectors += other.num_vectors
        self.zero.merge(other.zero)
        self.constant.merge(other.constant)
        if other.channels is None or (self.shape != other.shape and None not in (self.shape, other.shape)):
            self.channels = None
        self.shape = self.shape or other.shape
        if self.channels is not None and other.channels is not None:
            for axis, found in other.channels.items():
                if axis in self.channels:
                    self.channels[axis].merge(found)
                else:
                    self.channels[axis] = found

    def tallies(self) -> list[Tally]:
        return [self.zero, self.constant]


def _row_extremes(table: Array) -> tuple[Array, Array]:
    """A least and a greatest value of each row, ``(rows,)``: the exact ones of rows that may be constant."""
    low, high = table[:, 0].copy(), table[:, -1].copy()
    rest = np.flatnonzero(low == high)
    if len(rest):
        kept = table if len(rest) == len(table) else table[rest]
        low[rest], high[rest] = kept.min(axis=1), kept.max(axis=1)
    return low, high
