"""A bounded sample of the finite numbers of a field: mergeable, unbiased, and the same whoever took its parts.

Of every ``2**level`` neighbours one is kept, at a place that a hash chooses. When there are too many, the level rises,
and of every two neighbours one stays. So every value had the same chance, no pattern in the data is in step with the
choice, and as long as the values are few all of them are there. A quantile sketch would keep no ties, which counts and
codes are full of, and costs several times what reading the data does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from datacheck.hashing.numbers import mix, seed_of
from datacheck.leaves import BoolArray
from datacheck.numerics import to_float

__all__ = ["SAMPLE_SIZE", "Sample"]

Array = np.ndarray[Any, Any]

#: Random bits, from a place on that belongs to the values.
_CHANCES = mix(np.arange(1 << 16, dtype=np.uint64))

#: Values that are kept at most. A share of the values is told to within about one and a half percent.
SAMPLE_SIZE = 1 << 13
#: Values that decide how a part is thinned.
_HEAD = 64


class Sample:
    """Finite values as float64."""

    __slots__ = ("_chunks", "_level", "_num_kept", "_seed")

    def __init__(self, expected: int = 0) -> None:
        """``expected`` is how many values there will be, as far as known: what would be thinned is not taken."""
        self._seed = 0
        self._level = max(0, (max(1, expected) - 1) // SAMPLE_SIZE).bit_length()
        self._num_kept = 0
        self._chunks: list[Array] = []

    @property
    def is_whole(self) -> bool:
        """Whether it holds every value."""
        return self._level == 0

    def values(self) -> Array:
        """The values that were kept, in the order of the data."""
        if len(self._chunks) != 1:
            self._chunks = [np.concatenate(self._chunks)] if self._chunks else [np.empty(0)]
        return self._chunks[0]

    @property
    def seed(self) -> int:
        """What decided where values are taken; 0 as long as there are none."""
        return self._seed

    def add(self, values: Array, dtype: str, validity: BoolArray | None, start: int, seed: int = 0) -> None:
        """Add numbers of a logical dtype; ``start`` tells this part of the data from others.

        Columns of one table share a ``seed``: they are then sampled in the same rows, which are chosen once.
        """
        if not self._seed and len(values):
            # Parts that are thinned alike would add up their errors. The same values are always thinned alike.
            self._seed = seed or seed_of(len(values), np.ascontiguousarray(values[:_HEAD]).tobytes())
        while len(values) >> self._level > SAMPLE_SIZE:
            self._thin()
        if self._level == 0:
            chosen, present = values, validity
        else:
            places = self._choose(len(values), self._level, start)
            chosen, present = values[places], None if validity is None else validity[places]
        if present is not None:
            chosen = chosen[present]
        with np.errstate(all="ignore"):
            numbers = to_float(chosen, dtype).astype(np.float64)
        finite = np.isfinite(numbers)
        self._keep(numbers if finite.all() else numbers[finite])

    def merge(self, other: Sample) -> None:
        """Add what another has, which is used up."""
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
        places = self._choose(len(kept), 1, self._level)
        self._chunks = [kept[places]]
        self._num_kept = len(self._chunks[0])

    def _choose(self, length: int, level: int, start: int) -> Array:
        return _places(length, level, (self._seed + start * 0x9E3779B97F4A7C15) % len(_CHANCES))


@lru_cache(maxsize=64)
def _places(length: int, level: int, begin: int) -> Array:
    """One place of every ``2**level``; of the last and shorter stretch one with the chance that it deserves."""
    firsts = np.arange(0, length, 1 << level)
    chances = np.take(_CHANCES, np.arange(begin, begin + len(firsts)), mode="wrap")
    places: Array = firsts + (chances >> np.uint64(64 - level)).astype(np.int64)
    places = places[places < length] if len(places) and places[-1] >= length else places
    places.flags.writeable = False
    return places
