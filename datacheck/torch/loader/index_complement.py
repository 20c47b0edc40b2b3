"""The indices that are not bad, stored as the bad ones only."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from datacheck.leaves import IntArray


class IndexComplement(Sequence[int]):
    """The numbers below ``num_samples`` that are not in ``bad`` (sorted), in order."""

    def __init__(self, num_samples: int, bad: Sequence[int] | IntArray) -> None:
        self._bad = np.asarray(bad, np.int64)
        self._bad = self._bad[self._bad < num_samples]
        # The number of good indices before each bad one.
        self._before = self._bad - np.arange(len(self._bad))
        self._length = num_samples - len(self._bad)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._length))]
        number = operator.index(index)
        if number < 0:
            number += self._length
        if not 0 <= number < self._length:
            raise IndexError(f"index {index} is out of range: there are {self._length:,} good samples")
        return number + int(np.searchsorted(self._before, number, side="right"))
