"""The lines of text files on which rows begin, for the examples of rules that judge rows long after they were read."""

from __future__ import annotations

import bisect
from dataclasses import replace
from typing import Final

import numpy as np

from datacheck.batch import Batch
from datacheck.findings import Finding

#: Rows of a file after which lines may be skipped; beyond that many the lines of the file are not known.
_MAX_CHANGES: Final = 1 << 16


class LineNumbers:
    """For each file the rows from where the line number exceeds the row number by a constant."""

    def __init__(self, by_file: dict[str, list[list[int]]] | None = None) -> None:
        self.by_file = by_file or {}

    def add(self, uri: str, batch: Batch) -> None:
        """Add the rows of the next batch of a file."""
        if not batch.has_lines or not batch.num_rows or not batch.counts_rows:
            return
        rows = np.arange(batch.num_rows, dtype=np.int64)
        lines = batch.lines if batch.lines is not None else rows + (batch.line_start or 0)
        file_rows = batch.file_rows(rows)
        more = lines - file_rows
        changes = np.flatnonzero(np.diff(more, prepend=more[0] - 1))
        self._extend(uri, [[int(file_rows[row]), int(more[row])] for row in changes[: _MAX_CHANGES + 1]])

    def _extend(self, uri: str, changes: list[list[int]]) -> None:
        known = self.by_file.setdefault(uri, [])
        known += changes[1:] if known and known[-1][1] == changes[0][1] else changes
        del known[_MAX_CHANGES + 1 :]

    def merge(self, other: LineNumbers) -> None:
        """Add the line numbers of the next part of the dataset."""
        for uri, changes in other.by_file.items():
            self._extend(uri, changes)

    def located(self, finding: Finding) -> Finding:
        """A finding whose examples have their lines, as far as they are known."""
        changes = self.by_file.get(finding.uri)
        if not changes or len(changes) > _MAX_CHANGES:
            return finding
        examples = []
        for one in finding.examples:
            row = -1 if one.row is None else one.row
            place = bisect.bisect_right(changes, row, key=lambda change: change[0]) - 1
            examples.append(one if place < 0 or one.line is not None else replace(one, line=row + changes[place][1]))
        return replace(finding, examples=tuple(examples))
