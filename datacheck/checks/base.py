"""The result of a check: one outcome per rule and batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from datacheck.batch import Batch
from datacheck.codes import CODES
from datacheck.findings import Example, Finding, Severity
from datacheck.leaves import IntArray, Leaf

__all__ = ["LeafPositions", "Outcome", "RowCheck"]


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

    @property
    def is_error(self) -> bool:
        return (self.severity or CODES[self.code].severity) == Severity.ERROR

    def to_finding(self, uri: str) -> Finding:
        return Finding(
            self.code,
            uri,
            self.field,
            self.num_violations,
            self.num_checked,
            self.examples,
            self.rule,
            self.detail,
            self.severity,
        )


class RowCheck(Protocol):
    """A check that needs several columns at once: an expression, a pandera check or schema."""

    def run(self, batch: Batch) -> list[Outcome]:
        """One outcome per rule, also for a rule without violations: its ``num_checked`` still counts."""
        ...
