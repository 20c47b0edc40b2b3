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
from datacheck.checks.reading import error_finding, malformed_finding, to_findings
from datacheck.checks.sentinels import null_missing
from datacheck.checks.structure import FieldFacts
from datacheck.dataset_rules.base import Part
from datacheck.dataset_rules.dataset_state import DatasetState, build_dataset_rules, is_across_files
from datacheck.errors import SourceError
from datacheck.findings import Finding, merge_findings
from datacheck.hashing.key_files import KeyFile
from datacheck.hashing.keys import KeyHashes, hash_unique_keys
from datacheck.jobs.split_names import split_of
from datacheck.jobs.units.proofs import Proofs, can_prove
from datacheck.numerics import keep_freed_memory
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit
from datacheck.sources.error_translation import translate_bugs, with_bounded_rows

if TYPE_CHECKING:
    from datacheck.checks.whole_file import WholeFile


@dataclass(frozen=True, slots=True)
class UnitScan:
    """The scan of one unit; the scans of a file's units are merged in order.

    Attributes:
        fields: the facts of each leaf, by path.
        names: the names of the columns, with duplicates.
        num_values: for each path the number of slots, and of those that hold a value. Findings about values get their
            ``num_checked`` from it once the whole file is merged.
        keys: the hashes of unique keys.
        key_files: the files that hold them, if they do not travel with the result.
        dataset: what the rules about the dataset know of the unit; None without such rules.
        error: why the input cannot be read.
        pages: a hash of what was read, of a scan that may be remembered.
    """

    num_rows: int = 0
    findings: tuple[Finding, ...] = ()
    fields: Mapping[str | None, FieldFacts] = field(default_factory=dict)
    names: tuple[str | None, ...] = ()
    num_values: Mapping[str | None, tuple[int, int]] = field(default_factory=dict)
    keys: tuple[KeyHashes, ...] = ()
    error: SourceError | None = None
    dataset: DatasetState | None = None
    pages: str = ""
    key_files: tuple[KeyFile, ...] = ()


def lost_error(uri: str) -> SourceError:
    """The error of a file whose worker process died each time it was tried."""
    return SourceError(
        "DC910",
        uri,
        "the process that read it died each time: a library crashed or hung, or it was killed, perhaps for its memory use",
        "a file that crashes a library is usually damaged: fetch or write it again; if memory is short, use fewer workers",
    )


def lost_scan(unit: WorkUnit) -> UnitScan:
    """The scan of a unit whose worker process died each time it was tried."""
    return UnitScan(error=lost_error(unit.uri))


def read_unit(unit: WorkUnit) -> Iterator[Batch]:
    """The batches of a unit; of a file that is not a table, each batch has one array."""
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
            if can_prove(unit, rules):
                return _scan_unproven(Proofs(unit, rules))
            batches = read_unit(unit)
            if is_across_files(rules):
                batches = with_bounded_rows(batches, unit)
            return scan_batches(batches, unit.uri, rules, whole)
    except SourceError as error:
        return UnitScan(error=error)


def _scan_unproven(proofs: Proofs) -> UnitScan:
    """Scan what statistics do not prove of a unit."""
    scan = scan_batches(proofs.batches(), proofs.unit.uri, proofs.rules)
    counts = dict(scan.num_values)
    for path, (slots, present) in proofs.num_values.items():
        read = counts.get(path, (0, 0))
        counts[path] = read[0] + slots, read[1] + present
    findings = (*scan.findings, proofs.finding()) if proofs.num_proven else scan.findings
    return replace(scan, findings=findings, num_values=counts)


def scan_whole_file(units: Sequence[WorkUnit], rules: RuleSet) -> UnitScan:
    """Read the units of one file, and run only the checks that need all its rows; an error if it cannot be read."""
    whole = whole_file_of_unit(units[0], rules)
    if whole is None:
        return UnitScan()
    columns = whole.columns
    try:
        with translate_bugs(*units[0].uris):
            for unit in units:
                unit = unit if columns is None else replace(unit, options=replace(unit.options, columns=columns))
                for batch in read_unit(unit):
                    whole.add(coerce_batch(batch, rules.schema))
                    if whole.is_full:
                        break
            return UnitScan(findings=tuple(to_findings(_with_spread(whole), units[0].uri)))
    except SourceError as error:
        return UnitScan(error=error)


def read_keys(unit: WorkUnit, schema: Schema, *, with_dataset: bool = False, split: str | None = None) -> UnitScan:
    """Read the unique keys of a unit, and check nothing. If the input cannot be read, the result has its ``error``.

    ``with_dataset`` also reads what the rules about the dataset need; ``split`` is the split of the file.
    """
    keys: list[KeyHashes] = []
    dataset = start_dataset(schema, unit.uri, split) if with_dataset else None
    num_rows = 0
    try:
        with translate_bugs(unit.uri):
            for batch in with_bounded_rows(get_source(unit.format).read(unit), unit):
                coerced = coerce_batch(batch, schema)
                keys += hash_unique_keys(coerced, schema)
                if dataset is not None:
                    dataset.update(null_missing(coerced, schema))
                num_rows += batch.num_rows
    except SourceError as error:
        return UnitScan(error=error)
    return UnitScan(num_rows, keys=tuple(keys), dataset=dataset)


def start_dataset(schema: Schema, uri: str, split: str | None = None) -> DatasetState | None:
    """The state of a unit for the rules of a schema about the dataset, unique keys included; None if it has none.

    ``split`` is the split of its file, where the name of the file does not decide.
    """
    rules = build_dataset_rules(schema)
    return DatasetState.start(rules, part_of(uri, split)) if rules or unique_keys(schema) else None


def part_of(uri: str, split: str | None = None) -> Part:
    """A file as a part of the dataset; ``split`` is its split, where its name does not decide."""
    return Part(uri, split or split_of(uri))


def scan_batches(batches: Iterable[Batch], uri: str, rules: RuleSet, whole_file: WholeFile | None = None) -> UnitScan:
    """Check the batches of one unit, in the order of the rows; with ``whole_file`` they are all of their file."""
    keep_freed_memory()
    checker = Checker(rules)
    dataset = start_dataset(rules.schema, uri) if rules.has_rules_across_files else None
    findings: list[Finding] = []
    keys: list[KeyHashes] = []
    names: dict[str | None, int] = {}
    num_rows = 0
    for batch in batches:
        coerced = coerce_batch(batch, rules.schema)
        findings += to_findings(checker.check_coerced(batch, coerced), uri, is_sample=batch.is_sample)
        if batch.malformed:
            findings.append(malformed_finding(batch, uri))
        findings += [*map(error_finding, batch.unreadable), *batch.findings]
        for name, times in Counter(batch.names).items():
            names[name] = max(names.get(name, 0), times)
        if batch.counts_rows:
            num_rows += batch.num_rows + len(batch.malformed)
        if rules.has_rules_across_files:
            keys += hash_unique_keys(coerced, rules.schema)
        if dataset is not None:
            dataset.update(null_missing(coerced, rules.schema))
        if whole_file is not None:
            whole_file.add(coerced)
        if len(findings) > 1000:
            findings = merge_findings(findings, keep_clean=True)
        # Else the next one is read into memory that was not used before.
        del batch, coerced
    if whole_file is not None:
        findings += to_findings(_with_spread(whole_file), uri)
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
