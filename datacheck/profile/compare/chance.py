"""How many rows two datasets would share by chance if their columns were independent of each other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from datacheck.hashing.store import common_parts, count_in
from datacheck.leaves import BoolArray, IntArray
from datacheck.profile.row_keys import LocalKeys, LocalMatches

FloatArray = npt.NDArray[np.float64]

#: Fewer expected matches for each one found leave no doubt, whatever further columns say.
_NEGLIGIBLE = 1e-4
#: Rows that are worked on together.
_BLOCK = 1 << 18


class Chance(ABC):
    """How many rows are expected to match by chance, of which ``num_found`` do match.

    The probability of a value is its frequency in the training data. For a row that was found there, the found row is left
    out: values that occur nowhere else say that the match is no chance. A column that only some files have says nothing of
    the rows of the others.
    """

    def __init__(self, num_found: int) -> None:
        self.num_found = num_found

    @property
    @abstractmethod
    def expected(self) -> float:
        """The expected number of matches."""

    @property
    def is_decided(self) -> bool:
        """Whether too few matches are expected for further columns to change the verdict."""
        return self.expected < _NEGLIGIBLE * self.num_found

    def explains(self, significance: float) -> bool:
        """Whether chance alone gives as many matches with a probability of at least ``significance``."""
        expected = self.expected
        return self.num_found <= expected + NormalDist().inv_cdf(1 - significance) * math.sqrt(expected)


def log_chances(occurrences: IntArray, num_train: int) -> FloatArray:
    """The logarithms of the frequencies of values that occur so often among ``num_train`` rows."""
    with np.errstate(divide="ignore"):
        logs: FloatArray = np.log(np.maximum(occurrences, 0) / max(1, num_train))
    return logs


def expected_matches(logs: FloatArray, num_train: float) -> float:
    """How many rows are expected to be among ``num_train``, each of which is equal to one with a chance of that logarithm."""
    total = 0.0
    for start in range(0, len(logs), _BLOCK):
        # log1p(-1) is -inf for a row whose every value is the only one of its column, or that no column is known of.
        with np.errstate(divide="ignore"):
            missing = num_train * np.log1p(-np.exp(logs[start : start + _BLOCK]))
        total -= float(np.expm1(missing).sum())
    return total


class LocalChance(Chance):
    """Adds up, column by column, how probably each row of a dataset would also occur in the training data."""

    def __init__(self, found: LocalMatches) -> None:
        self._spans = _spans_of(found.of)
        ordinals = np.concatenate([np.empty(0, np.int64), *found.ordinals])
        super().__init__(len(ordinals))
        num_rows = found.of.num_rows
        self._is_found = np.zeros(num_rows, np.bool_)
        self._is_found[ordinals] = True
        self._log_chances = np.zeros(num_rows)
        #: For each file, how many rows of the training data have its columns, at most.
        self._num_train = dict.fromkeys(self._spans, math.inf)

    def add(self, columns: Sequence[tuple[LocalKeys, LocalKeys]]) -> None:
        """Add columns: the hashes of each in the training data and in the other dataset."""
        for train, other in columns:
            places = _Places(self._spans, _spans_of(other))
            for (left, _), (right, ordinals) in common_parts(train.store, other.store):
                values, counts = np.unique(left, return_counts=True)
                for start in range(0, len(right), _BLOCK):
                    wanted = right[start : start + _BLOCK]
                    numbers = (
                        np.arange(start, start + len(wanted)) if ordinals is None else ordinals[start : start + _BLOCK]
                    )
                    rows, is_compared = places.rows(numbers)
                    occurrences = count_in(values, counts, wanted[is_compared])
                    self._log_chances[rows] += log_chances(occurrences - self._is_found[rows], train.num_rows)
            for uri in places.uris:
                self._num_train[uri] = min(self._num_train.get(uri, 0), train.num_rows)

    @property
    def expected(self) -> float:
        return sum(
            expected_matches(self._log_chances[first : first + count], self._num_train[uri])
            for uri, (first, count) in self._spans.items()
        )


class _Places:
    """Where rows of a dataset by their ordinals in one column are among all its rows, of files of which it has all rows."""

    def __init__(self, spans: Mapping[str, tuple[int, int]], of_column: Mapping[str, tuple[int, int]]) -> None:
        self.uris = [uri for uri, (_, count) in of_column.items() if spans.get(uri, (0, 0))[1] == count]
        ordered = sorted((start, uri) for uri, (start, count) in of_column.items() if count)
        self._starts = np.array([start for start, _ in ordered], np.int64)
        self._shifts = np.array([spans.get(uri, (0, 0))[0] - start for start, uri in ordered], np.int64)
        self._is_compared = np.array([uri in set(self.uris) for _, uri in ordered], np.bool_)

    def rows(self, ordinals: IntArray) -> tuple[IntArray, BoolArray]:
        """The rows of the ordinals that are compared, and which ordinals these are."""
        files = np.searchsorted(self._starts, ordinals, side="right") - 1
        is_compared = self._is_compared[files]
        return (ordinals + self._shifts[files])[is_compared], is_compared


def _spans_of(keys: LocalKeys) -> dict[str, tuple[int, int]]:
    """For each file, the ordinal of its first row and how many rows it has."""
    return {uri: (start, count) for uri, start, count in keys.spans()}
