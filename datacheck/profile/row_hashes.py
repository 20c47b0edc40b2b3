"""The hashes of rows and keys of one unit, and the rows of the file that they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datacheck.batch import Batch
from datacheck.hashing.numbers import Hashes
from datacheck.leaves import IntArray
from datacheck.profile.coalesce_batches import CoalescedBatch, RowGroupStarts

#: Rows to allocate at once at most: a header may announce more rows than there are.
_MAX_EXPECTED = 1 << 22


@dataclass(frozen=True, slots=True)
class RowNumbers:
    """Row numbers of a file as runs: the position where each run starts, and the row number it starts with."""

    starts: IntArray
    firsts: IntArray
    num_rows: int

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, position: int) -> int:
        run = int(np.searchsorted(self.starts, position, side="right")) - 1
        return int(self.firsts[run] + position - self.starts[run])

    def all(self) -> IntArray:
        """The number of each row."""
        lengths = np.diff(np.append(self.starts, self.num_rows))
        return np.arange(self.num_rows) + np.repeat(self.firsts - self.starts, lengths)


@dataclass(frozen=True, slots=True)
class RowHashes:
    """The hashes of rows or keys, ``(rows,)`` or ``(rows, words)``, their row numbers, and where each row group starts."""

    hashes: Hashes
    rows: RowNumbers
    groups: RowGroupStarts


class RowHashTable:
    """The hashes of the rows of one unit, to which every column adds."""

    def __init__(self, expected: int, num_words: int = 1) -> None:
        self._expected = min(expected, _MAX_EXPECTED)
        self._first = 0
        self._num_rows = 0
        self._hashes: list[Hashes] = [np.zeros(0, np.uint64)] * num_words
        self._runs: list[tuple[int, int]] = []
        self._groups: list[tuple[int, int | None]] = []

    def rows_of(self, coalesced: CoalescedBatch) -> list[Hashes]:
        """Each word of the hashes so far of the batch's rows, as a view to add to."""
        batch = coalesced.batch
        if not batch.counts_rows:
            # Further columns of rows that an earlier batch brought.
            start = batch.row_start - self._first
            return [word[start : start + batch.num_rows] for word in self._hashes]
        start, stop = self._num_rows, self._num_rows + batch.num_rows
        if not self._groups:
            self._first = batch.row_start
        self._groups += [(start + offset, group) for offset, group in coalesced.groups]
        if stop > len(self._hashes[0]):
            self._hashes = [self._grown(word, stop) for word in self._hashes]
        self._add_runs(batch, start)
        self._num_rows = stop
        return [word[start:stop] for word in self._hashes]

    def _grown(self, word: Hashes, size: int) -> Hashes:
        grown = np.zeros(max(size, self._expected, 2 * len(word)), np.uint64)
        grown[: self._num_rows] = word[: self._num_rows]
        return grown

    def _add_runs(self, batch: Batch, start: int) -> None:
        """Record which rows of the file are consecutive."""
        if batch.rows is None or not batch.num_rows:
            breaks = [0] if batch.num_rows else []
        else:
            breaks = [0, *(np.flatnonzero(np.diff(batch.rows) != 1) + 1).tolist()]
        for position in breaks:
            row = batch.row_start + position if batch.rows is None else int(batch.rows[position])
            if not self._runs or row - self._runs[-1][1] != start + position - self._runs[-1][0]:
                self._runs.append((start + position, row))

    def finish(self) -> RowHashes:
        runs = np.array(self._runs, np.int64).reshape(-1, 2)
        # A copy releases the rest of a larger allocation.
        words = [word if len(word) == self._num_rows else word[: self._num_rows].copy() for word in self._hashes]
        hashes = words[0] if len(words) == 1 else np.stack(words, axis=1)
        return RowHashes(hashes, RowNumbers(runs[:, 0], runs[:, 1], self._num_rows), tuple(self._groups))
