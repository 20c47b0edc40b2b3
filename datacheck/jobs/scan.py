"""Scanning: run all checks of a schema on files, or on data in memory."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeGuard

from datacheck.checks.checker import RuleSet, has_row_checks, load_libraries, whole_file_of
from datacheck.dataset_rules.dataset_state import build_dataset_rules, columns_across_files, reads_single_columns
from datacheck.errors import SourceError, UsageError
from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.jobs.across_files import AcrossFiles
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.file_differences import compare_files
from datacheck.jobs.file_results import FileScan
from datacheck.jobs.file_verdict import FileVerdict
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.sample_files import require_rows
from datacheck.jobs.units.scan import (
    UnitScan,
    error_finding,
    lost_error,
    read_keys,
    scan_batches,
    scan_unit,
    scan_whole_file,
    whole_file_of_unit,
)
from datacheck.jobs.units.small_files import group_small, scan_small
from datacheck.jobs.unseen_fields import unseen_fields
from datacheck.reports.report import Report
from datacheck.schema.keys import unique_keys
from datacheck.schema.loading import SchemaLike, load_schema
from datacheck.schema.model import Field, Schema
from datacheck.schema.tolerances import apply_tolerances
from datacheck.sources import source_for
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.discover import InputFile, Inputs, discover, skipped_findings
from datacheck.sources.error_translation import translate_bugs
from datacheck.sources.indexes import check_indexes

__all__ = ["are_paths", "inspect_file", "read_options", "scan", "scan_each", "text_dtypes"]

#: How a date or time in ISO format begins.
_TIME = re.compile(r"\d{4}-\d\d")


def scan(
    data: Any,
    schema: SchemaLike = None,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    options: ReadOptions | None = None,
) -> Report:
    """Check data against a schema.

    Args:
        data: a path, folder or glob, or a list of them; or data in memory: a NumPy array whose first axis is the rows, a
            mapping of arrays, an Arrow table, a pandas or polars DataFrame or Series, a Hugging Face dataset or its splits, a
            torch tensor or a mapping of tensors.
        schema: a schema, the path of a YAML schema, ``package.module:Model``, or a pandera schema or model. None checks
            that no floating-point or complex value is NaN or infinite.
        workers: the number of units processed at a time; one per available processor, up to 16, by default.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: called as units finish.
        options: how to read the files.

    Returns:
        The report. An input that cannot be read is a finding; the others are checked.

    Raises:
        UsageError: a path matches no file, or the data is of an unsupported type.
        SchemaError: the schema is invalid.
    """
    started = time.perf_counter()
    loaded = load_schema(schema)
    if are_paths(data):
        inputs = discover(data, options)
        require_rows(inputs.files, loaded)
        report = _scan_inputs(inputs, loaded, Execution(workers, executor, progress or NullProgress()))
    else:
        report = _scan_memory(data, loaded)
    findings = tuple(apply_tolerances(report.findings, loaded.tolerances))
    return replace(report, findings=findings, seconds=time.perf_counter() - started)


def are_paths(data: Any) -> bool:
    """Whether data is given as paths, and is not in memory."""
    if isinstance(data, str | os.PathLike):
        return True
    if not isinstance(data, list | tuple):
        return False
    others = [item for item in data if not isinstance(item, str | os.PathLike)]
    if others and any(isinstance(item, os.PathLike) for item in data):
        raise UsageError(f"expected strings or path objects, got {type(others[0]).__name__} among them")
    return bool(data) and not others


def read_options(options: ReadOptions, schema: Schema) -> ReadOptions:
    """The options for reading a file that is checked against ``schema`` and nothing else."""
    dtypes = text_dtypes(schema)
    by_columns = not has_row_checks(schema) and all(len(key) == 1 for key in unique_keys(schema))
    by_columns = by_columns and reads_single_columns(build_dataset_rules(schema))
    words = tuple(value for value in schema.missing if isinstance(value, str) and value not in options.csv_null_values)
    return replace(
        options,
        by_columns=by_columns,
        keep_going=True,
        dtypes=options.dtypes or dtypes,
        look_into=True,
        csv_null_values=(*options.csv_null_values, *words),
    )


def array_name(uri: str, schema: Schema) -> str | None:
    """The field that a file of one array holds: that with the name of the file, if the schema has several fields."""
    record = format_of_name(uri)
    if record is None or not record.is_one_array or None in schema.fields or len(schema.fields) < 2:
        return None
    stem = uri.rpartition("/")[2].partition(".")[0]
    return stem if stem in schema.fields else None


def text_dtypes(schema: Schema) -> tuple[tuple[str, str], ...]:
    """The dtypes of a schema's fields, for formats without dtypes. A field with constraints on text is text."""
    dtypes = ((path, field.dtype or ("string" if _is_text(field) else None)) for path, field in schema.fields.items())
    return tuple((path, dtype) for path, dtype in dtypes if path is not None and dtype is not None)


def _is_text(field: Field) -> bool:
    """Whether only text can satisfy the constraints of a field without a dtype."""
    members = [member for member in field.isin or () if isinstance(member, str) and not _TIME.match(member)]
    return bool(members) or field.str_matches is not None or any(name.startswith("str_") for name in field.checks)


def inspect_file(file: InputFile) -> InputInfo | SourceError:
    """Read the header of a file; return the error if the file cannot be read."""
    try:
        with translate_bugs(file.uri):
            return source_for(file.uri, file.format).inspect(file.uri, file.options)
    except SourceError as error:
        return error


def _scan_inputs(inputs: Inputs, schema: Schema, execution: Execution) -> Report:
    """Scan files in order, unit by unit, and look at them together."""
    with AcrossFiles(schema) as across:
        verdicts = list(scan_each(inputs.files, schema, across, execution))
        findings = [finding for verdict in verdicts for finding in verdict.findings]
        findings += across.findings([file.uri for file in inputs.files])
    findings += [*compare_files(verdicts, schema), *check_indexes(inputs)]
    findings += [*unseen_fields(verdicts), *skipped_findings(inputs)]
    num_rows = sum(verdict.num_rows for verdict in verdicts)
    num_bytes = sum(verdict.num_bytes for verdict in verdicts)
    return Report(tuple(findings), len(inputs.files), num_rows, num_bytes)


def scan_each(
    files: Sequence[InputFile],
    schema: Schema,
    across: AcrossFiles,
    execution: Execution,
    *,
    only_keys: Container[str] = (),
) -> Generator[FileVerdict, None, None]:
    """Scan files, and yield the verdict on each, in order. What they say about the dataset is added to ``across``.

    From files in ``only_keys`` only the columns that this needs are read, and only an error in reading them is a finding.
    """
    load_libraries(schema)
    rules = RuleSet(schema)
    inspected = _inspect_files(files, rules, execution)
    left = list(_remaining_work(inspected, rules, only_keys))
    results = execution.map(_Work.run, left, lambda work: UnitScan(error=lost_error(work.uri)))
    for one in inspected:
        if isinstance(one.info, SourceError):
            yield FileVerdict(one.uri, (error_finding(one.info),), 0, _size(one.uri))
            continue
        merged = FileScan(one.uri, schema)
        for unit in one.info.units:
            result = one.scan or next(results)
            merged.add(result)
            across.add(one.uri, result)
            if one.scan is None:
                execution.progress.advance(1, result.num_rows, unit_bytes(unit, one.info))
        if one.uri not in only_keys and _is_read_again(one.info, rules):
            merged.add(next(results))
        if one.uri in only_keys:
            yield FileVerdict(one.uri, tuple(merged.read_errors()), merged.num_rows, one.info.num_bytes)
        else:
            yield merged.verdict(one.info.num_bytes)


@dataclass(frozen=True, slots=True)
class _InspectedFile:
    """What a file's header says or why it cannot be read, and the file's scan if it is done already."""

    uri: str
    info: InputInfo | SourceError
    scan: UnitScan | None = None


def _inspect_files(files: Sequence[InputFile], rules: RuleSet, execution: Execution) -> list[_InspectedFile]:
    """Inspect all files. Those of one unit are scanned at once, while they are open, unless they are one dataset."""
    files = [
        replace(
            file,
            options=read_options(replace(file.options, array_name=array_name(file.uri, rules.schema)), rules.schema),
        )
        for file in files
    ]
    sizes = [_size(file.uri) for file in files]
    execution.progress.start("scan", len(files), sum(sizes))
    is_across_files = bool(unique_keys(rules.schema) or build_dataset_rules(rules.schema))
    inspect = partial(_inspect_group, rules=None if is_across_files else rules)
    inspected: list[_InspectedFile] = []

    def inspect_lost(group: Sequence[InputFile]) -> list[_InspectedFile]:
        """Inspect the files of a group one by one, to name the one that ends its process."""
        if len(group) == 1:
            return [_InspectedFile(group[0].uri, lost_error(group[0].uri))]
        return [one for some in execution.map(inspect, [[file] for file in group], inspect_lost) for one in some]

    for group in execution.map(inspect, [files[some] for some in group_small(sizes)], inspect_lost):
        inspected += group
        for one in group:
            if one.scan is not None and isinstance(one.info, InputInfo):
                execution.progress.advance(1, one.scan.num_rows, one.info.num_bytes)
    return inspected


def _inspect_group(files: Sequence[InputFile], rules: RuleSet | None) -> list[_InspectedFile]:
    """Inspect files and, given ``rules``, scan those of one unit, small ones together."""
    infos: list[InputInfo | SourceError] = []

    def units() -> Iterator[WorkUnit]:
        # Inspect and read each file in turn: a file that was just inspected is still open.
        for file in files:
            info = inspect_file(file)
            infos.append(info)
            if _is_one_unit(info):
                yield info.units[0]

    scans: Sequence[UnitScan | None] = scan_small(units(), rules) if rules is not None else [None for _ in units()]
    results = iter(scans)
    return [
        _InspectedFile(file.uri, info, next(results) if _is_one_unit(info) else None)
        for file, info in zip(files, infos, strict=True)
    ]


def _is_one_unit(info: InputInfo | SourceError) -> TypeGuard[InputInfo]:
    return isinstance(info, InputInfo) and len(info.units) == 1


@dataclass(frozen=True, slots=True)
class _Work:
    """What is left to do with a file, or with a unit of it."""

    uri: str
    scan: Callable[[], UnitScan]

    def run(self) -> UnitScan:
        return self.scan()


def _remaining_work(inspected: Iterable[_InspectedFile], rules: RuleSet, only_keys: Container[str]) -> Iterator[_Work]:
    """The scans of units that are left and, where a check needs it, after the units of a file the scan of the whole file."""
    columns = columns_across_files(rules.schema)
    for one in inspected:
        if isinstance(one.info, SourceError) or one.scan is not None:
            continue
        units = one.info.units
        for unit in units:
            if one.uri in only_keys:
                options = replace(unit.options, columns=columns, by_columns=False, keep_going=False)
                keys = replace(unit, options=options)
                yield _Work(one.uri, partial(read_keys, keys, rules.schema, with_dataset=True))
            else:
                yield _Work(one.uri, partial(scan_unit, unit, rules, is_whole_file=len(units) == 1))
        if one.uri not in only_keys and _is_read_again(one.info, rules):
            yield _Work(one.uri, partial(scan_whole_file, units, rules))


def _is_read_again(info: InputInfo, rules: RuleSet) -> bool:
    """Whether a file of several units is read once more, for the checks that need all of it."""
    return len(info.units) > 1 and whole_file_of_unit(info.units[0], rules) is not None


def unit_bytes(unit: WorkUnit, info: InputInfo) -> int:
    """The share of a unit in the bytes of its file, for progress."""
    share, rest = divmod(info.num_bytes, len(info.units))
    return share + (rest if unit is info.units[-1] else 0)


def _size(uri: str) -> int:
    try:
        return fingerprint_of(uri).size
    except SourceError:
        return 0


def _scan_memory(data: Any, schema: Schema) -> Report:
    from datacheck.sources.memory import batches_of, parts_of

    parts = parts_of(data)
    findings: list[Finding] = []
    num_rows = num_bytes = 0
    with AcrossFiles(schema) as across:
        verdicts = []
        for uri, part in parts.items():
            scanned = FileScan(uri, schema, is_file=False)
            counter = _ByteCounter()
            whole = whole_file_of(schema, None, is_table=False)
            batches = counter.count(batches_of(part)[1])
            result: UnitScan = scan_batches(batches, uri, RuleSet(schema), whole)
            scanned.add(result)
            across.add(uri, result)
            verdicts.append(scanned.verdict(counter.num_bytes))
            findings += verdicts[-1].findings
            num_rows, num_bytes = num_rows + scanned.num_rows, num_bytes + counter.num_bytes
        findings += [*across.findings(list(parts)), *unseen_fields(verdicts)]
    return Report(tuple(findings), len(parts), num_rows, num_bytes)


class _ByteCounter:
    """Adds up the bytes of the batches that pass through."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def count(self, batches: Iterable[Any]) -> Iterable[Any]:
        for batch in batches:
            self.num_bytes += sum(column.data.nbytes for column in batch.columns)
            yield batch
