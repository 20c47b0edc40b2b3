"""One unit, scanned: a pure function from a unit and a schema to findings, counts and keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.checks.checker import Checker, RuleSet
from datacheck.checks.structure import FieldFacts
from datacheck.checks.unique import KeyHashes, hash_unique_keys
from datacheck.codes import MALFORMED_ROW
from datacheck.errors import SourceError
from datacheck.findings import Example, Finding, merge_findings
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit

__all__ = ["UnitScan", "malformed_finding", "read_keys", "scan_batches", "scan_unit"]


@dataclass(frozen=True, slots=True)
class UnitScan:
    """What came of one unit: mergeable with those of the other units of its file, in order.

    ``findings`` of rules on values lack the number of values that were checked, which ``num_values`` tells for the whole
    file: how many slots each field has, and how many of them hold a value.
    """

    num_rows: int = 0
    findings: tuple[Finding, ...] = ()
    fields: Mapping[str | None, FieldFacts] = field(default_factory=dict)
    names: tuple[str | None, ...] = ()
    num_values: Mapping[str | None, tuple[int, int]] = field(default_factory=dict)
    keys: tuple[KeyHashes, ...] = ()
    error: SourceError | None = None


def scan_unit(unit: WorkUnit, rules: RuleSet) -> UnitScan:
    """Read a unit and check it. An input that cannot be read comes back as ``error``, never as an exception."""
    try:
        return scan_batches(get_source(unit.format).read(unit), unit.uri, rules)
    except SourceError as error:
        return UnitScan(error=error)


def read_keys(unit: WorkUnit, schema: Schema) -> UnitScan:
    """The keys of a unit that must be unique, and nothing checked; an input that cannot be read is an ``error``."""
    keys: list[KeyHashes] = []
    num_rows = 0
    try:
        for batch in get_source(unit.format).read(unit):
            keys += hash_unique_keys(batch, schema)
            num_rows += batch.num_rows
    except SourceError as error:
        return UnitScan(error=error)
    return UnitScan(num_rows, keys=tuple(keys))


def scan_batches(batches: Iterable[Batch], uri: str, rules: RuleSet) -> UnitScan:
    """Check batches that belong to one input, in row order."""
    checker = Checker(rules)
    findings: list[Finding] = []
    keys: list[KeyHashes] = []
    names: dict[str | None, int] = {}
    num_rows = 0
    for batch in batches:
        findings += _to_findings(checker.check(batch), uri)
        if batch.malformed:
            findings.append(malformed_finding(batch, uri))
        for name in batch.names:
            names[name] = max(names.get(name, 0), batch.names.count(name))
        if batch.counts_rows:
            num_rows += batch.num_rows + len(batch.malformed)
        keys += hash_unique_keys(batch, rules.schema)
        if len(findings) > 1000:
            findings = merge_findings(findings, keep_clean=True)
    return UnitScan(
        num_rows,
        tuple(merge_findings(findings, keep_clean=True)),
        checker.fields,
        tuple(name for name, times in names.items() for _ in range(times)),
        checker.num_values,
        tuple(keys),
    )


def _to_findings(outcomes: Iterable[Outcome], uri: str) -> list[Finding]:
    return [outcome.to_finding(uri) for outcome in outcomes if outcome.reported]


def malformed_finding(batch: Batch, uri: str) -> Finding:
    """The finding for the lines of a batch that are no rows."""
    lines = batch.malformed
    examples = tuple(Example(line.row, None, (), line.text[:80]) for line in lines[:5])
    return Finding(MALFORMED_ROW, uri, None, len(lines), batch.num_rows + len(lines), examples, detail=lines[0].problem)
