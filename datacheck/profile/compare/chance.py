"""How many rows two datasets would share by chance if their columns were independent of each other."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from datacheck.hashing.numbers import Hashes
from datacheck.hashing.store import HashStore
from datacheck.leaves import IntArray

__all__ = ["ChanceMatches"]

#: Fewer expected matches for each one found leave no doubt, whatever further columns say.
_NEGLIGIBLE = 1e-4


class ChanceMatches:
    """Adds up, column by column, how probably each row of a dataset would also occur in the training data.

    The probability of a value is its frequency in the training data. For a row that was found there, the found row is left
    out: values that occur nowhere else say that the match is no chance. ``found`` are the ordinals of those rows.
    """

    def __init__(self, found: IntArray) -> None:
        self._found = found
        self._num_train = 0
        self._log_chances: np.ndarray[Any, np.dtype[np.float64]] | None = None

    def add(self, train: HashStore, other: HashStore) -> None:
        """Add the hashes of a column in both datasets."""
        values, counts = np.unique(_in_order(train), return_counts=True)
        wanted = _in_order(other)
        places = np.minimum(np.searchsorted(values, wanted), max(0, len(values) - 1))
        occurrences = np.where(values[places] == wanted, counts[places], 0) if len(values) else np.zeros(len(wanted))
        occurrences[self._found] -= 1
        self._num_train = train.num_rows
        with np.errstate(divide="ignore"):
            logs = np.log(np.maximum(occurrences, 0) / max(1, train.num_rows))
        self._log_chances = logs if self._log_chances is None else self._log_chances + logs

    @property
    def expected(self) -> float:
        """The expected number of matches."""
        if self._log_chances is None:
            return math.inf
        # log1p(-1) is -inf for a row whose every value is the only one of its column.
        with np.errstate(divide="ignore"):
            missing = self._num_train * np.log1p(-np.exp(self._log_chances))
        return float(-np.expm1(missing).sum())

    @property
    def is_decided(self) -> bool:
        """Whether so few matches are expected that further columns cannot change the verdict."""
        return self.expected < _NEGLIGIBLE * len(self._found)

    def explains(self, significance: float) -> bool:
        """Whether chance alone gives as many matches with a probability of at least ``significance``."""
        expected = self.expected
        return len(self._found) <= expected + NormalDist().inv_cdf(1 - significance) * math.sqrt(expected)


def _in_order(store: HashStore) -> Hashes:
    """The hashes of one word of a store, by ordinal."""
    hashes = np.empty(store.num_rows, np.uint64)
    for part, ordinals in store.parts():
        hashes[slice(None) if ordinals is None else ordinals] = part
    return hashes
