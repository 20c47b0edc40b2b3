"""Scanning one unit: a pure function of the unit and its rules that returns findings, counts and keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.checks.checker import Checker, RuleSet
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.structure import FieldFacts
from datacheck.codes import MALFORMED_ROW
from datacheck.errors import SourceError
from datacheck.findings import Example, Finding, merge_findings
from datacheck.hashing.keys import KeyHashes, hash_unique_keys
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit

__all__ = ["UnitScan", "lost_error", "malformed_finding", "read_keys", "scan_batches", "scan_unit"]


@dataclass(frozen=True, slots=True)
class UnitScan:
    """The scan of one unit, to be merged with those of the other units of its file, in order.

    Attributes:
        fields: the facts of each leaf, by path.
        names: the names of the columns, with duplicates.
        num_values: for each path the number of slots, and of those that hold a value. Findings about values get their
            ``num_checked`` from it once the whole file is merged.
        keys: the hashes of unique keys.
        error: why the input cannot be read.
    """

    num_rows: int = 0
    findings: tuple[Finding, ...] = ()
    fields: Mapping[str | None, FieldFacts] = field(default_factory=dict)
    names: tuple[str | None, ...] = ()
    num_values: Mapping[str | None, tuple[int, int]] = field(default_factory=dict)
    keys: tuple[KeyHashes, ...] = ()
    error: SourceError | None = None


def lost_error(uri: str) -> SourceError:
    """The error of a file at which a worker process ended each time that it was tried."""
    return SourceError(
        "DC910",
        uri,
        "the worker process that read it ended, three times: it was killed, perhaps for its memory, or a library crashed",
        "use fewer workers, or split the file; a file that crashes a library may be damaged",
    )


def scan_unit(unit: WorkUnit, rules: RuleSet) -> UnitScan:
    """Read and check a unit. If the input cannot be read, the result has its ``error``."""
    try:
        return scan_batches(get_source(unit.format).read(unit), unit.uri, rules)
    except SourceError as error:
        return UnitScan(error=error)


def read_keys(unit: WorkUnit, schema: Schema) -> UnitScan:
    """Read the unique keys of a unit, and check nothing. If the input cannot be read, the result has its ``error``."""
    keys: list[KeyHashes] = []
    num_rows = 0
    try:
        for batch in get_source(unit.format).read(unit):
            keys += hash_unique_keys(coerce_batch(batch, schema), schema)
            num_rows += batch.num_rows
    except SourceError as error:
        return UnitScan(error=error)
    return UnitScan(num_rows, keys=tuple(keys))


def scan_batches(batches: Iterable[Batch], uri: str, rules: RuleSet) -> UnitScan:
    """Check the batches of one unit, in the order of the rows."""
    checker = Checker(rules)
    findings: list[Finding] = []
    keys: list[KeyHashes] = []
    names: dict[str | None, int] = {}
    num_rows = 0
    for batch in batches:
        coerced = coerce_batch(batch, rules.schema)
        findings += _to_findings(checker.check_coerced(batch, coerced), uri)
        if batch.malformed:
            findings.append(malformed_finding(batch, uri))
        for name in batch.names:
            names[name] = max(names.get(name, 0), batch.names.count(name))
        if batch.counts_rows:
            num_rows += batch.num_rows + len(batch.malformed)
        keys += hash_unique_keys(coerced, rules.schema)
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
    """The finding for the malformed lines of a batch."""
    lines = batch.malformed
    examples = tuple(Example(line.row, None, (), line.text[:80]) for line in lines[:5])
    return Finding(MALFORMED_ROW, uri, None, len(lines), batch.num_rows + len(lines), examples, detail=lines[0].problem)
