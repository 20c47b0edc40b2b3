"""The vectors of a leaf: the innermost lists of a column, the last axis or the rows of an array."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from datacheck.leaves import BoolArray, IntArray, Leaf, Ragged, Regular


@dataclass(frozen=True, slots=True)
class Vectors:
    """Where the vectors of a leaf begin, and how long each is; none is empty.

    ``order`` is the flat position of each value in the order of the vectors; None if they lie one after the other.
    """

    starts: IntArray
    lengths: IntArray
    order: IntArray | None = None

    def all(self, values: BoolArray) -> BoolArray:
        """Whether all values of each vector are True."""
        if not len(self.starts):
            return np.zeros(0, np.bool_)
        ordered = values if self.order is None else values[self.order]
        firsts = np.cumsum(self.lengths) - self.lengths
        found: BoolArray = np.logical_and.reduceat(ordered, firsts)
        return found


def vectors_of(leaf: Leaf) -> Vectors:
    """The vectors of a leaf of numbers: of an array its rows, of a column its innermost lists."""
    level = leaf.levels[0]
    if isinstance(level, Regular):
        size = math.prod(level.shape[1:])
        number = level.shape[0] if size else 0
        lengths = np.full(number, size, np.int64)
        if level.order == "F" or level.axes is not None:
            rows, _ = level.parents(np.arange(len(leaf), dtype=np.int64))
            order = np.argsort(rows, kind="stable")
            return Vectors(order[:: max(1, size)], lengths, order)
        return Vectors(np.arange(number, dtype=np.int64) * size, lengths)
    if isinstance(level, Ragged):
        lengths = np.diff(level.offsets)
        return Vectors(level.offsets[:-1][lengths > 0], lengths[lengths > 0])
    everything = np.arange(len(leaf), dtype=np.int64)
    return Vectors(everything, np.ones(len(leaf), np.int64))
