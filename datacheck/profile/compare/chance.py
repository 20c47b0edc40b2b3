"""How many rows two datasets would share by chance if their columns were independent of each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from datacheck.hashing.store import HashStore, common_parts, places_in_sorted
from datacheck.leaves import BoolArray, IntArray
from datacheck.profile.data_profile import Segment

#: Fewer expected matches for each one found leave no doubt, whatever further columns say.
_NEGLIGIBLE = 1e-4
#: Rows that are worked on together.
_BLOCK = 1 << 18


class ChanceMatches:
    """Adds up, column by column, how probably each row of a dataset would also occur in the training data.

    The probability of a value is its frequency in the training data. For a row that was found there, the found row is left
    out: values that occur nowhere else say that the match is no chance. A column that only some files have says nothing of
    the rows of the others.

    Args:
        found: the ordinals of the rows that were found in the training data.
        segments: where the rows of the dataset are, in order.
    """

    def __init__(self, found: IntArray, segments: Sequence[Segment]) -> None:
        self._spans = _spans_by_file(segments)
        num_rows = sum(count for _, count in self._spans.values())
        self._num_found = len(found)
        self._is_found = np.zeros(num_rows, np.bool_)
        self._is_found[found] = True
        self._log_chances = np.zeros(num_rows)
        #: For each file, how many rows of the training data have its columns, at most.
        self._num_train = dict.fromkeys(self._spans, math.inf)

    def add(self, train: HashStore, other: HashStore, segments: Sequence[Segment]) -> None:
        """Add the hashes of a column in both datasets; ``segments`` says where the other one's are."""
        places = _Places(self._spans, _spans_by_file(segments))
        for (left, _), (right, ordinals) in common_parts(train, other):
            values, counts = np.unique(left, return_counts=True)
            for start in range(0, len(right), _BLOCK):
                wanted = right[start : start + _BLOCK]
                numbers = (
                    np.arange(start, start + len(wanted)) if ordinals is None else ordinals[start : start + _BLOCK]
                )
                rows, is_compared = places.rows(numbers)
                wanted = wanted[is_compared]
                occurrences = np.zeros(len(wanted), np.int64)
                if len(values):
                    found = places_in_sorted(values, wanted)
                    occurrences = np.where(values[found] == wanted, counts[found], 0)
                with np.errstate(divide="ignore"):
                    logs = np.log(np.maximum(occurrences - self._is_found[rows], 0) / max(1, train.num_rows))
                self._log_chances[rows] += logs
        for uri in places.uris:
            self._num_train[uri] = min(self._num_train.get(uri, 0), train.num_rows)

    @property
    def expected(self) -> float:
        """The expected number of matches."""
        total = 0.0
        for uri, (first, count) in self._spans.items():
            for start in range(first, first + count, _BLOCK):
                logs = self._log_chances[start : min(start + _BLOCK, first + count)]
                # log1p(-1) is -inf for a row whose every value is the only one of its column, or that no column is known of.
                with np.errstate(divide="ignore"):
                    missing = self._num_train[uri] * np.log1p(-np.exp(logs))
                total -= float(np.expm1(missing).sum())
        return total

    @property
    def is_decided(self) -> bool:
        """Whether too few matches are expected for further columns to change the verdict."""
        return self.expected < _NEGLIGIBLE * self._num_found

    def explains(self, significance: float) -> bool:
        """Whether chance alone gives as many matches with a probability of at least ``significance``."""
        expected = self.expected
        return self._num_found <= expected + NormalDist().inv_cdf(1 - significance) * math.sqrt(expected)


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


def _spans_by_file(segments: Sequence[Segment]) -> dict[str, tuple[int, int]]:
    """For each file, the ordinal of its first row and how many rows it has."""
    spans: dict[str, tuple[int, int]] = {}
    for segment in segments:
        start, count = spans.get(segment.uri, (segment.start, 0))
        spans[segment.uri] = start, count + len(segment.rows)
    return spans
