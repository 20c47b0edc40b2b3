"""Scanning one unit: a pure function of the unit and its rules that returns findings, counts and keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.checks.checker import Checker, RuleSet, whole_file_of
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.sentinels import null_missing
from datacheck.checks.structure import FieldFacts
from datacheck.codes import MALFORMED_ROW
from datacheck.dataset_rules.base import Part
from datacheck.dataset_rules.dataset_state import DatasetState, build_dataset_rules
from datacheck.errors import SourceError
from datacheck.findings import Example, Finding, merge_findings
from datacheck.hashing.keys import KeyHashes, hash_unique_keys
from datacheck.jobs.split_names import split_of
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit
from datacheck.sources.error_translation import translate_bugs

if TYPE_CHECKING:
    from datacheck.checks.whole_file import WholeFile

__all__ = [
    "UnitScan",
    "error_finding",
    "lost_error",
    "lost_scan",
    "malformed_finding",
    "read_keys",
    "read_unit",
    "scan_batches",
    "scan_unit",
    "scan_whole_file",
    "start_dataset",
    "whole_file_of_unit",
]


@dataclass(frozen=True, slots=True)
class UnitScan:
    """The scan of one unit, to be merged with those of the other units of its file, in order.

    Attributes:
        fields: the facts of each leaf, by path.
        names: the names of the columns, with duplicates.
        num_values: for each path the number of slots, and of those that hold a value. Findings about values get their
            ``num_checked`` from it once the whole file is merged.
        keys: the hashes of unique keys.
        dataset: what the rules about the dataset know of the unit; None without such rules.
        error: why the input cannot be read.
    """

    num_rows: int = 0
    findings: tuple[Finding, ...] = ()
    fields: Mapping[str | None, FieldFacts] = field(default_factory=dict)
    names: tuple[str | None, ...] = ()
    num_values: Mapping[str | None, tuple[int, int]] = field(default_factory=dict)
    keys: tuple[KeyHashes, ...] = ()
    error: SourceError | None = None
    dataset: DatasetState | None = None


def lost_error(uri: str) -> SourceError:
    """The error of a file at which a worker process ended each time that it was tried."""
    return SourceError(
        "DC910",
        uri,
        "the worker process that read it ended, three times: it was killed, perhaps for its memory, or a library crashed",
        "use fewer workers, or split the file; a file that crashes a library may be damaged",
    )


def lost_scan(unit: WorkUnit) -> UnitScan:
    """The scan of a unit at which a worker process ended each time that it was tried."""
    return UnitScan(error=lost_error(unit.uri))


def read_unit(unit: WorkUnit) -> Iterator[Batch]:
    """The batches of a unit; those of a file that is no table have one array each."""
    batches = get_source(unit.format).read(unit)
    return (replace(batch, is_alone=True) for batch in batches) if unit.members else batches


def whole_file_of_unit(unit: WorkUnit, rules: RuleSet) -> WholeFile | None:
    """What collects the file of a unit for the checks that need all of it; None if there are none."""
    return whole_file_of(rules.schema, unit.options.max_whole_file_bytes, is_table=not unit.members)


def scan_unit(unit: WorkUnit, rules: RuleSet, *, is_whole_file: bool = False) -> UnitScan:
    """Read and check a unit. If the input cannot be read, the result has its ``error``.

    ``is_whole_file`` says that it is the only unit of its file, so that checks of all rows run too.
    """
    whole = whole_file_of_unit(unit, rules) if is_whole_file else None
    try:
        with translate_bugs(unit.uri):
            return scan_batches(read_unit(unit), unit.uri, rules, whole)
    except SourceError as error:
        return UnitScan(error=error)


def scan_whole_file(units: Sequence[WorkUnit], rules: RuleSet) -> UnitScan:
    """Read the units of one file, and run only the checks that need all its rows; nothing if it cannot be read."""
    whole = whole_file_of_unit(units[0], rules)
    if whole is None:
        return UnitScan()
    columns = whole.columns
    try:
        for unit in units:
            unit = unit if columns is None else replace(unit, options=replace(unit.options, columns=columns))
            for batch in read_unit(unit):
                whole.add(coerce_batch(batch, rules.schema))
                if whole.is_full:
                    break
    except SourceError:
        return UnitScan()
    return UnitScan(findings=tuple(_to_findings(_with_spread(whole), units[0].uri)))


def read_keys(unit: WorkUnit, schema: Schema, *, with_dataset: bool = False, split: str | None = None) -> UnitScan:
    """Read the unique keys of a unit, and check nothing. If the input cannot be read, the result has its ``error``.

    ``with_dataset`` also reads what the rules about the dataset need; ``split`` is the split of the file.
    """
    keys: list[KeyHashes] = []
    dataset = start_dataset(schema, unit.uri, split) if with_dataset else None
    num_rows = 0
    try:
        with translate_bugs(unit.uri):
            for batch in get_source(unit.format).read(unit):
                coerced = coerce_batch(batch, schema)
                keys += hash_unique_keys(coerced, schema)
                if dataset is not None:
                    dataset.update(null_missing(coerced, schema))
                num_rows += batch.num_rows
    except SourceError as error:
        return UnitScan(error=error)
    return UnitScan(num_rows, keys=tuple(keys), dataset=dataset)


def start_dataset(schema: Schema, uri: str, split: str | None = None) -> DatasetState | None:
    """The state of a unit for the rules of a schema about the dataset; None if it has none.

    ``split`` is the split of its file, where the name of the file does not decide.
    """
    rules = build_dataset_rules(schema)
    return DatasetState.start(rules, Part(uri, split or split_of(uri))) if rules else None


def scan_batches(batches: Iterable[Batch], uri: str, rules: RuleSet, whole_file: WholeFile | None = None) -> UnitScan:
    """Check the batches of one unit, in the order of the rows; with ``whole_file`` they are all of their file."""
    checker = Checker(rules)
    dataset = start_dataset(rules.schema, uri)
    findings: list[Finding] = []
    keys: list[KeyHashes] = []
    names: dict[str | None, int] = {}
    num_rows = 0
    for batch in batches:
        coerced = coerce_batch(batch, rules.schema)
        findings += _to_findings(checker.check_coerced(batch, coerced), uri, is_sample=batch.is_sample)
        if batch.malformed:
            findings.append(malformed_finding(batch, uri))
        findings += [*map(error_finding, batch.unreadable), *batch.findings]
        for name, times in Counter(batch.names).items():
            names[name] = max(names.get(name, 0), times)
        if batch.counts_rows:
            num_rows += batch.num_rows + len(batch.malformed)
        keys += hash_unique_keys(coerced, rules.schema)
        if dataset is not None:
            dataset.update(null_missing(coerced, rules.schema))
        if whole_file is not None:
            whole_file.add(coerced)
        if len(findings) > 1000:
            findings = merge_findings(findings, keep_clean=True)
    if whole_file is not None:
        findings += _to_findings(_with_spread(whole_file), uri)
    return UnitScan(
        num_rows,
        tuple(merge_findings(findings, keep_clean=True)),
        checker.fields,
        tuple(name for name, times in names.items() for _ in range(times)),
        checker.num_values,
        tuple(keys),
        dataset=dataset,
    )


def _with_spread(whole_file: WholeFile) -> Iterator[Outcome]:
    return (outcome.with_spread() for outcome in whole_file.outcomes())


def _to_findings(outcomes: Iterable[Outcome], uri: str, *, is_sample: bool = False) -> list[Finding]:
    return [outcome.to_finding(uri, is_sample=is_sample) for outcome in outcomes if outcome.reported]


def error_finding(error: SourceError) -> Finding:
    """The finding for an input, or a part of it, that cannot be read."""
    detail = f"{error.problem}; {error.remedy}" if error.remedy else error.problem
    return Finding(error.code, error.uri, None, 1, 1, detail=detail)


def malformed_finding(batch: Batch, uri: str) -> Finding:
    """The finding for the malformed lines of a batch."""
    lines = batch.malformed
    examples = tuple(Example(line.row, None, (), line.text[:80], line.line) for line in lines[:5])
    return Finding(MALFORMED_ROW, uri, None, len(lines), batch.num_rows + len(lines), examples, detail=lines[0].problem)
