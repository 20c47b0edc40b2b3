"""The axes inside rows: how the flat values of lists, fixed-size lists and arrays belong to rows.

The values of all rows are one vector. An axis says how many positions follow each position one step further out: one
size for all of them (an ``int``), or offsets (position ``i`` has those from ``offsets[i]`` to ``offsets[i + 1]``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import take_rows
from datacheck.leaves import BoolArray, IntArray

#: One size for all positions, or the offsets of each.
Axis: TypeAlias = "int | IntArray"
#: What stands in the brackets of ``x[...]``, one for each axis.
Index: TypeAlias = "int | slice | EllipsisType"


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of the values of ``num_rows`` rows, from outside to inside. ``present`` is False for a row whose list is null.

    A null list inside a list counts as an empty one.
    """

    num_rows: int
    sizes: tuple[Axis, ...]
    present: BoolArray | None = None

    @property
    def ndim(self) -> int:
        return len(self.sizes)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of each row's value, if it is the same for all rows."""
        found = [size for size in self.sizes if isinstance(size, int)]
        return tuple(found) if len(found) == len(self.sizes) else None

    def without(self, axis: int) -> Axes | None:
        """The axes outside ``axis``; None if there are none."""
        return replace(self, sizes=self.sizes[:axis]) if axis else None

    def runs(self, depth: int = 0) -> Axis:
        """How the flat values belong to the rows, or to the positions of the first ``depth`` axes."""
        return _composed(self.sizes[depth:], self.count(depth))

    def count(self, depth: int) -> int:
        """The number of positions of the first ``depth`` axes."""
        total = self.num_rows
        for size in self.sizes[:depth]:
            total = total * size if isinstance(size, int) else int(size[-1])
        return total

    def rows_of(self, mask: BoolArray) -> BoolArray:
        """The rows in which a flat value is marked."""
        rows = np.zeros(self.num_rows, np.bool_)
        positions = np.flatnonzero(mask)
        if len(positions):
            rows[self.owners(positions)] = True
        return rows

    def owners(self, positions: IntArray, depth: int | None = None) -> IntArray:
        """The rows that hold positions of the first ``depth`` axes; flat positions by default."""
        for size in reversed(self.sizes[:depth]):
            if isinstance(size, int):
                positions = positions // max(size, 1)
            else:
                positions = np.searchsorted(size, positions, side="right") - 1
        return positions

    def cut(self, start: int, stop: int) -> tuple[Axes, int, int]:
        """The axes of the rows from ``start`` to ``stop``, and where their values begin and end."""
        present = None if self.present is None else self.present[start:stop]
        num_rows, sizes = stop - start, list(self.sizes)
        for depth, size in enumerate(sizes):
            if isinstance(size, int):
                start, stop = start * size, stop * size
            else:
                sizes[depth] = size[start : stop + 1] - size[start]
                start, stop = int(size[start]), int(size[stop])
        return Axes(num_rows, tuple(sizes), present), start, stop

    def keep_rows(self, keep: BoolArray) -> tuple[Axes, BoolArray]:
        """The axes if the other rows had no values, and the mask of the flat values that are left."""
        sizes: list[Axis] = []
        mask = keep
        for depth, size in enumerate(self.sizes):
            lengths = lengths_of(size, len(mask))
            sizes.append(offsets_of(np.where(mask, lengths, 0) if depth == 0 else lengths[mask]))
            mask = np.repeat(mask, lengths)
        return Axes(self.num_rows, tuple(sizes), self.present), mask

    def item(
        self, indexes: Sequence[Index], rows: IntArray | None = None
    ) -> tuple[Axes | None, IntArray, BoolArray | None]:
        """The axes of ``x[indexes]`` in all rows or some, the flat position of each of its values, and the rows in which
        an index is beyond the end (None if there is no such row), whose values are arbitrary.
        """
        sizes: list[Axis] = []
        positions = np.arange(self.num_rows, dtype=np.int64) if rows is None else rows
        count = len(positions)
        owners = np.arange(count)
        present = self.present if rows is None or self.present is None else self.present[rows]
        beyond: BoolArray | None = None
        for size, index in zip(self.sizes, self.full(indexes), strict=True):
            if not isinstance(size, int) and len(size) == 1:  # there are no lists: what is beyond the end has no values
                size = np.zeros(2, np.int64)
            lengths = np.int64(size) if isinstance(size, int) else size[positions + 1] - size[positions]
            starts = positions * size if isinstance(size, int) else size[positions]
            if isinstance(index, int):
                is_inside = np.broadcast_to((index < lengths) if index >= 0 else (lengths >= -index), positions.shape)
                if not is_inside.all():
                    beyond = np.zeros(count, np.bool_) if beyond is None else beyond
                    beyond[owners[~is_inside]] = True
                positions = np.where(is_inside, starts + index + (lengths if index < 0 else 0), 0)
                continue
            first, stop = _bounds(index, lengths)
            counts = np.broadcast_to(np.maximum(stop - first, 0), positions.shape)
            sizes.append(int(counts) if counts.ndim == 0 else _axis_of(counts, size))
            offsets = offsets_of(counts)
            positions = np.repeat(starts + first - offsets[:-1], counts) + np.arange(offsets[-1])
            owners = np.repeat(owners, counts)
        if beyond is not None and present is not None:
            beyond &= present
        return Axes(count, tuple(sizes), present) if sizes else None, positions, beyond

    def full(self, indexes: Sequence[Index]) -> list[Index]:
        """One index for each axis; raises ``ValueError`` if there are too many."""
        missing = self.ndim - sum(1 for index in indexes if index is not Ellipsis)
        if missing < 0:
            raise ValueError(f"has {self.ndim} {'axis' if self.ndim == 1 else 'axes'}, fewer than the indexes")
        filled: list[Index] = [slice(None)] * missing
        if Ellipsis in indexes:
            place = list(indexes).index(Ellipsis)
            return [*indexes[:place], *filled, *indexes[place + 1 :]]
        return [*indexes, *filled]


def _axis_of(counts: IntArray, size: Axis) -> Axis:
    """The axis with these counts: one size where the axis that it was cut from has one size."""
    if isinstance(size, int):
        return int(counts[0]) if len(counts) else 0
    return offsets_of(counts)


def _bounds(index: Any, lengths: Any) -> tuple[Any, Any]:
    """The first position and the end of a slice, by the length of each list."""
    ends = []
    for bound, default in ((index.start, 0 * lengths), (index.stop, lengths)):
        if bound is None:
            ends.append(default)
        elif bound >= 0:
            ends.append(np.minimum(bound, lengths))
        else:
            ends.append(np.maximum(lengths + bound, 0))
    return ends[0], ends[1]


def _composed(sizes: Sequence[Axis], count: int) -> Axis:
    if len(sizes) == 1:
        return sizes[0]
    if all(isinstance(size, int) for size in sizes):
        return math.prod(size for size in sizes if isinstance(size, int))
    offsets = np.arange(count + 1, dtype=np.int64)
    for size in sizes:
        offsets = offsets * size if isinstance(size, int) else size[offsets]
    return offsets


def lengths_of(axis: Axis, count: int) -> IntArray:
    """How many positions follow each of ``count`` positions."""
    return np.full(count, axis, np.int64) if isinstance(axis, int) else np.diff(axis)


def offsets_of(lengths: IntArray) -> IntArray:
    """The offsets of runs of these lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def picked(values: Any, which: IntArray | BoolArray) -> Any:
    """Some of a vector's values: a NumPy array, or an Arrow array of text."""
    if isinstance(values, pa.Array):
        positions: IntArray = np.flatnonzero(which) if which.dtype == np.bool_ else which.astype(np.int64, copy=False)
        return take_rows(values, positions)
    return values[which]


def repeated(values: Any, axis: Axis) -> Any:
    """The value of each row, for each of the row's flat values."""
    counts = axis if isinstance(axis, int) else np.diff(axis)
    if isinstance(values, pa.Array):
        return take_rows(values, np.repeat(np.arange(len(values), dtype=np.int64), counts))
    return np.repeat(values, counts)
