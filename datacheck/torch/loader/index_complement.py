"""The indices that are left when the bad ones are taken out, in memory for the bad ones only."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from datacheck.leaves import IntArray

__all__ = ["GoodIndices"]


class GoodIndices(Sequence[int]):
    """The numbers below ``num_samples`` without ``bad``, which is sorted, in order: place ``k`` is the k-th of them."""

    def __init__(self, num_samples: int, bad: Sequence[int] | IntArray) -> None:
        self._bad = np.asarray(bad, np.int64)
        self._bad = self._bad[self._bad < num_samples]
        # How many good indices there are before each bad one.
        self._before = self._bad - np.arange(len(self._bad))
        self._length = num_samples - len(self._bad)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(self._length))]
        number = operator.index(place)
        if number < 0:
            number += self._length
        if not 0 <= number < self._length:
            raise IndexError(f"place {place} is out of range: there are {self._length:,} good samples")
        return number + int(np.searchsorted(self._before, number, side="right"))
