"""The result of a check: one outcome per rule and batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from datacheck.batch import Batch
from datacheck.codes import CODES
from datacheck.findings import Example, Finding, Severity
from datacheck.index_counts import IndexCounts
from datacheck.leaves import IntArray, Leaf
from datacheck.row_spread import RowSpread


@dataclass(frozen=True, slots=True)
class LeafPositions:
    """Values of one leaf of a batch, by their flat positions in it, sorted.

    ``leaf_id`` is the index of the column in the batch, and of the leaf in the column.
    """

    leaf: Leaf
    positions: IntArray
    leaf_id: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule found in one batch.

    Attributes:
        rows: the rows of the batch with a violation, sorted and unique.
        examples: a few violations, with rows of the *file*.
        reported: False if the schema allows the values and only a cleaning rule requested them. Such an outcome decides
            about rows and is not a finding.
        severity: the code's severity unless set.
        reads: the columns, or fields in them, that a rule reads; None if it does not say.
        num_rows: the number of rows with a violation, if known.
        spread: how the violations are spread over the rows of the file, where ``rows`` do not say.
        by_index: the columns of an array that the violations fill.
        values: the violating values, if rows were asked for and the rule is about values.
    """

    code: str
    field: str | None
    num_checked: int
    num_violations: int = 0
    rows: IntArray | None = None
    examples: tuple[Example, ...] = ()
    rule: str | None = None
    detail: str = ""
    reported: bool = True
    severity: Severity | None = None
    values: LeafPositions | None = None
    reads: tuple[str | None, ...] | None = None
    num_rows: int | None = None
    spread: RowSpread | None = None
    by_index: IndexCounts | None = None

    @property
    def is_error(self) -> bool:
        return (self.severity or CODES[self.code].severity) == Severity.ERROR

    def with_spread(self, batch: Batch | None = None) -> Outcome:
        """The outcome with the spread of its rows; without a batch, they are rows of the file."""
        if self.spread is not None or self.rows is None or not len(self.rows):
            return self
        return replace(self, spread=RowSpread.of(self.rows if batch is None else batch.file_rows(self.rows)))

    def in_batch(self, batch: Batch) -> Outcome:
        """The outcome of a file (whose rows are rows of the file), for the rows of one batch of it.

        An outcome about no rows in particular is about all.
        """
        if self.rows is None:
            return self
        rows = np.flatnonzero(np.isin(batch.file_rows(np.arange(batch.num_rows, dtype=np.int64)), self.rows))
        return replace(self, num_violations=len(rows), rows=rows)

    def to_finding(self, uri: str, *, is_sample: bool = False) -> Finding:
        """The finding in a file; its examples have no row if the whole file is one sample."""
        examples = tuple(replace(one, row=None) for one in self.examples) if is_sample else self.examples
        num_rows = len(self.rows) if self.rows is not None and self.num_rows is None else self.num_rows
        return Finding(
            self.code,
            uri,
            self.field,
            self.num_violations,
            self.num_checked,
            examples,
            self.rule,
            self.detail,
            self.severity,
            None if is_sample else num_rows,
            None if is_sample else self.spread,
            self.by_index,
        )


class RowCheck(Protocol):
    """A check that needs several columns at once: an expression, a pandera check or schema."""

    def run(self, batch: Batch) -> list[Outcome]:
        """One outcome per rule, also for a rule without violations: its ``num_checked`` still counts."""
        ...


class FileCheck(RowCheck, Protocol):
    """A check that may need all rows of a file in one batch."""

    @property
    def paths(self) -> tuple[str | None, ...] | None:
        """The paths that it needs; None for all columns."""
        ...

    def not_run(self, problem: str) -> list[Outcome]:
        """The outcomes (DC005) where the check could not run, and why."""
        ...
