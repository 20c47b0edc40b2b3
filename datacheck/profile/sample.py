"""A bounded sample of the finite numbers of a field: mergeable, unbiased, and the same for any number of workers.

The sample keeps one of every ``2**level`` neighbours, at a position that a hash chooses. When it holds too many values,
the level rises by one, and one of every two neighbours stays. So every value has the same chance, a periodic pattern in
the data cannot be in step with the choice, and small data is kept completely. A quantile sketch would keep no ties, which
counts and codes are full of, and costs several times as much as reading the data.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from datacheck.hashing.numbers import mix, seed_of
from datacheck.leaves import BoolArray
from datacheck.numerics import to_float

Array = np.ndarray[Any, Any]

#: Random bits, read from an offset that depends on the values.
_RANDOM_BITS = mix(np.arange(1 << 16, dtype=np.uint64))

#: Values kept at most. They give a quantile's rank to within about one and a half percent.
SAMPLE_SIZE = 1 << 13
#: Leading values whose hash decides how a part is thinned.
_HEAD = 64


class Sample:
    """Finite values as float64."""

    __slots__ = ("_chunks", "_level", "_num_kept", "_seed")

    def __init__(self, expected: int = 0) -> None:
        """``expected`` is the number of values to come, 0 if unknown; values that would be thinned anyway are not taken."""
        self._seed = 0
        self._level = max(0, (max(1, expected) - 1) // SAMPLE_SIZE).bit_length()
        self._num_kept = 0
        self._chunks: list[Array] = []

    @property
    def is_whole(self) -> bool:
        """Whether the sample holds every value."""
        return self._level == 0

    def values(self) -> Array:
        """The values in the sample, in the order of the data."""
        if len(self._chunks) != 1:
            self._chunks = [np.concatenate(self._chunks)] if self._chunks else [np.empty(0)]
        return self._chunks[0]

    @property
    def seed(self) -> int:
        """The seed of the choice of values; 0 until there are any."""
        return self._seed

    def add(self, values: Array, dtype: str, validity: BoolArray | None, start: int, seed: int = 0) -> None:
        """Add numbers of a logical dtype; ``start`` tells this part of the data from others.

        Columns of one table share a ``seed``, so that the rows to sample are chosen only once.
        """
        if not self._seed and len(values):
            # Parts get different seeds, or their errors would add up; equal values always get the same seed.
            self._seed = seed or seed_of(len(values), np.ascontiguousarray(values[:_HEAD]).tobytes())
        while len(values) >> self._level > SAMPLE_SIZE:
            self._thin()
        if self._level == 0:
            chosen, present = values, validity
        else:
            positions = self._choose(len(values), self._level, start)
            chosen, present = values[positions], None if validity is None else validity[positions]
        if present is not None:
            chosen = chosen[present]
        with np.errstate(all="ignore"):
            numbers = to_float(chosen, dtype).astype(np.float64)
        finite = np.isfinite(numbers)
        self._keep(numbers if finite.all() else numbers[finite])

    def merge(self, other: Sample) -> None:
        """Merge another sample, which must not be used afterwards."""
        while other._level < self._level:
            other._thin()
        while self._level < other._level:
            self._thin()
        self._keep(other.values())

    def _keep(self, numbers: Array) -> None:
        if not len(numbers):
            return
        self._chunks.append(numbers)
        self._num_kept += len(numbers)
        while self._num_kept > SAMPLE_SIZE:
            self._thin()

    def _thin(self) -> None:
        self._level += 1
        kept = self.values()
        positions = self._choose(len(kept), 1, self._level)
        self._chunks = [kept[positions]]
        self._num_kept = len(self._chunks[0])

    def _choose(self, length: int, level: int, start: int) -> Array:
        return _positions(length, level, (self._seed + start * 0x9E3779B97F4A7C15) % len(_RANDOM_BITS))


@lru_cache(maxsize=64)
def _positions(length: int, level: int, begin: int) -> Array:
    """Choose one position of every ``2**level``, and one of the shorter rest with a chance proportional to its length."""
    firsts = np.arange(0, length, 1 << level)
    bits = np.take(_RANDOM_BITS, np.arange(begin, begin + len(firsts)), mode="wrap")
    positions: Array = firsts + (bits >> np.uint64(64 - level)).astype(np.int64)
    positions = positions[positions < length] if len(positions) and positions[-1] >= length else positions
    positions.flags.writeable = False
    return positions
