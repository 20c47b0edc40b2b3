"""Findings of reading itself: what could not be read, records that are not rows, values that are not of their column's type."""

from __future__ import annotations

from collections.abc import Iterable

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.checks.checker import with_lines
from datacheck.checks.coerce import coerce_batch, find_unconvertible
from datacheck.checks.faults import fault_outcomes
from datacheck.codes import MALFORMED_ROW, MISSING_KEY, OTHER_MISSING_KEY
from datacheck.errors import SourceError
from datacheck.findings import Example, Finding
from datacheck.schema.model import Schema


def reading_findings(batch: Batch, uri: str, schema: Schema) -> list[Finding]:
    """What reading a batch found, before any rule: values that do not have their column's type, records that are not rows.

    Keys that records lack are left out: they are nulls, which those who read on see themselves.
    """
    outcomes = [one for one in fault_outcomes(batch, schema) if one.code not in (MISSING_KEY, OTHER_MISSING_KEY)]
    if any(column.words is not None for column in batch.columns):
        outcomes += find_unconvertible(batch, coerce_batch(batch, schema), schema)
    found = to_findings((with_lines(one.with_spread(batch), batch) for one in outcomes), uri, is_sample=batch.is_sample)
    if batch.malformed:
        found.append(malformed_finding(batch, uri))
    return [*found, *map(error_finding, batch.unreadable), *batch.findings]


def to_findings(outcomes: Iterable[Outcome], uri: str, *, is_sample: bool = False) -> list[Finding]:
    return [outcome.to_finding(uri, is_sample=is_sample) for outcome in outcomes if outcome.reported]


def error_finding(error: SourceError) -> Finding:
    """The finding for an input, or a part of it, that cannot be read."""
    detail = f"{error.problem}; {error.remedy}" if error.remedy else error.problem
    return Finding(error.code, error.uri, None, 1, 1, detail=detail)


def malformed_finding(batch: Batch, uri: str) -> Finding:
    """The finding for the malformed records of a batch."""
    lines = batch.malformed
    examples = tuple(Example(line.row, None, (), line.text[:80], line.line) for line in lines[:5])
    return Finding(MALFORMED_ROW, uri, None, len(lines), batch.num_rows + len(lines), examples, detail=lines[0].problem)
