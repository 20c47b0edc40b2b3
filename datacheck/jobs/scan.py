"""Scanning: run all checks of a schema on files, or on data in memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeGuard

from datacheck.checks.checker import RuleSet, load_libraries, whole_file_of
from datacheck.checks.reading import error_finding
from datacheck.dataset_rules.dataset_state import build_dataset_rules, columns_across_files, is_across_files
from datacheck.errors import SourceError, UsageError
from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.jobs.across_files import AcrossFiles
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike, map_in_order
from datacheck.jobs.file_differences import compare_files
from datacheck.jobs.file_results import FileScan
from datacheck.jobs.file_verdict import FileVerdict
from datacheck.jobs.progress import Progress, ProgressLike, following
from datacheck.jobs.reading_for_schema import array_name, read_options
from datacheck.jobs.row_lines import lines_of_files, with_lines
from datacheck.jobs.sample_files import require_rows
from datacheck.jobs.sampling import SMALL_FILE_BYTES, Sample, parse_share, unit_bytes
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.groups import group_units, read_keys_of_group, scan_group
from datacheck.jobs.units.scan import (
    UnitScan,
    lost_error,
    scan_batches,
    scan_whole_file,
    whole_file_of_unit,
)
from datacheck.jobs.units.small_files import group_small, hold_small, scan_small
from datacheck.jobs.units.unit_cache import UnitCache
from datacheck.jobs.unseen_fields import unseen_fields
from datacheck.reports.report import Report
from datacheck.schema.loading import SchemaLike
from datacheck.schema.model import Schema
from datacheck.schema.tolerances import apply_tolerances
from datacheck.sources.annotations import with_labels
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.detect import inspect_input
from datacheck.sources.discover import InputFile, Inputs, common_folder, discover, is_folder
from datacheck.sources.error_translation import translate_bugs
from datacheck.sources.indexes import check_folders
from datacheck.storage import storage_of
from datacheck.storage.documents import load_schema
from datacheck.storage.registry import release_memory
from datacheck.storage.truncated_files import surviving_truncation


def scan(
    data: Any,
    schema: SchemaLike = None,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
    options: ReadOptions | None = None,
    sample: str | float | None = None,
) -> Report:
    """Check data against a schema; arguments, result and errors are the same as for :func:`datacheck.scan`."""
    started = time.perf_counter()
    loaded = load_schema(schema)
    chosen = None if sample is None else Sample(parse_share(sample))
    execution = Execution(workers, executor)
    if execution.is_shared:
        require_files([data])
    if are_paths(data):
        inputs = with_labels(discover(data, options))
        require_rows(inputs.files, loaded)
        with following(progress) as follower, execution.job("scan", [data, loaded, options, sample]):
            report = _scan_inputs(inputs, loaded, replace(execution, progress=follower), chosen)
    elif chosen is not None:
        raise UsageError("sample: data in memory has no units to choose from; pass some of its rows")
    else:
        with following(progress) as follower:
            report = _scan_memory(data, loaded, follower)
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


def require_files(datasets: Iterable[Any]) -> None:
    """Raise ``UsageError`` for data in memory, which no other process sees."""
    for data in datasets:
        if not are_paths(data):
            raise UsageError(
                f"shards read files, got {type(data).__name__}; write it to a file, or scan it in one process"
            )


def inspect_file(file: InputFile, *, travels: bool = False, by_row_groups: bool = False) -> InputInfo | SourceError:
    """Read the header of a file, also for other machines if that ``travels``; return the error if it cannot be read.

    ``by_row_groups`` splits a Parquet file into units that stay the same where rows are added at its end.
    """
    try:
        with translate_bugs(file.uri):
            info = inspect_input(file)
            if by_row_groups and info.format == "parquet":
                from datacheck.sources.parquet_identity import split_by_row_groups

                info = split_by_row_groups(info)
            return info.for_other_machines() if travels else info
    except SourceError as error:
        return error


def _scan_inputs(inputs: Inputs, schema: Schema, execution: Execution, sample: Sample | None) -> Report:
    """Scan files in order, unit by unit, and look at them together."""
    with AcrossFiles(schema, execution if sample is None else None) as across:
        verdicts = list(scan_each(inputs.files, schema, across, execution, sample=sample))
        findings = [finding for verdict in verdicts for finding in verdict.findings]
        if sample is None:
            findings += lines_of_files(across.findings([file.uri for file in inputs.files]), inputs.files)
        else:
            findings += sample.findings(common_folder([file.uri for file in inputs.files]))
    findings += [*compare_files(verdicts, schema), *unseen_fields(verdicts), *check_folders(inputs)]
    num_rows = sum(verdict.num_rows for verdict in verdicts)
    num_bytes = sum(verdict.num_bytes for verdict in verdicts)
    return Report(
        tuple(findings), len(verdicts), num_rows, num_bytes, sample="" if sample is None else sample.summary()
    )


def scan_each(
    files: Sequence[InputFile],
    schema: Schema,
    across: AcrossFiles,
    execution: Execution,
    *,
    only_keys: Container[str] = (),
    sample: Sample | None = None,
    unit_cache: UnitCache | None = None,
) -> Generator[FileVerdict, None, None]:
    """Scan files, and yield the verdict on each, in order. What they say about the dataset is added to ``across``.

    From files in ``only_keys`` only the columns that this needs are read, and only an error in reading them is a finding.
    With a ``sample``, the verdicts are those on files with a unit in it. Units that ``unit_cache`` knows are not checked again.
    """
    load_libraries(schema)
    rules = RuleSet(schema)
    inspected = _inspect_files(files, rules, execution, sample, by_row_groups=unit_cache is not None)
    grouped = group_units(
        [() if isinstance(one.info, SourceError) or one.scan else one.info.units for one in inspected],
        None if unit_cache is None else sys.maxsize,
    )
    left = list(_remaining_work(inspected, grouped, rules, only_keys, unit_cache))
    results = _run_work(left, schema, across, execution)
    if not left:
        # A shard is done with this pass, although no result of it is asked for.
        next(results, None)
    before: tuple[_InspectedFile, FileVerdict] | None = None
    for one, groups in zip(inspected, grouped, strict=True):
        if isinstance(one.info, SourceError):
            yield FileVerdict(one.uri, (error_finding(one.info),), 0, file_size(one.uri))
            continue
        if before is not None and one.uri not in only_keys and _is_alike(one, before[0]):
            known = before[1]
            yield FileVerdict(one.uri, known.findings, known.num_rows, one.info.num_bytes, known.columns)
            continue
        merged = FileScan(one.uri, schema, is_partial=one.info.is_partial)
        for units in groups or [one.info.units]:
            result = one.scan or next(results)
            merged.add(result)
            across.add(one.uri, result)
            if unit_cache is not None:
                unit_cache.add(units[0], result)
            if one.scan is None:
                num_bytes = sum(unit_bytes(unit, one.info) for unit in units)
                execution.progress.advance(len(units), result.num_rows, num_bytes)
        if one.uri not in only_keys and _is_read_again(one.info, rules):
            merged.add(next(results))
        if one.uri in only_keys:
            yield FileVerdict(one.uri, tuple(merged.read_errors()), merged.num_rows, one.info.num_bytes)
        else:
            verdict = merged.verdict(one.info.num_bytes)
            if verdict.findings:
                verdict = replace(verdict, findings=tuple(with_lines(verdict.findings, {one.uri: one.info.units})))
            before = None if verdict.findings else (one, verdict)
            yield verdict


@dataclass(frozen=True, slots=True)
class _InspectedFile:
    """What a file's header says or why it cannot be read, and the file's scan if it is done already."""

    uri: str
    info: InputInfo | SourceError
    scan: UnitScan | None = None


def _is_alike(one: _InspectedFile, other: _InspectedFile) -> bool:
    """Whether two files were scanned together, without findings, and have the same verdict."""
    return one.scan is not None and one.scan is other.scan and format_of_name(one.uri) is format_of_name(other.uri)


def _with_options(files: Sequence[InputFile], schema: Schema) -> Iterator[InputFile]:
    """The files with the options for reading them, worked out once for files that are read alike."""
    known: dict[tuple[int, str | None], ReadOptions] = {}
    for file in files:
        name = array_name(file.uri, schema)
        key = id(file.options), name
        if key not in known:
            known[key] = read_options(replace(file.options, array_name=name), schema)
        yield InputFile(file.uri, known[key], file.format)


def _inspect_files(
    files: Sequence[InputFile], rules: RuleSet, execution: Execution, sample: Sample | None, *, by_row_groups: bool
) -> list[_InspectedFile]:
    """Inspect all files. Files of one unit are scanned at once, while they are open, unless they are one dataset."""
    files = list(_with_options(files, rules.schema))
    sizes = [file_size(file.uri) for file in files]
    if sample is not None:
        return _inspect_sample(files, sizes, rules.schema, execution, sample)
    execution.progress.start("scan", len(files), sum(sizes))
    inspect = partial(
        _inspect_group,
        rules=None if is_across_files(rules) else rules,
        travels=execution.travels,
        by_row_groups=by_row_groups,
    )
    inspected: list[_InspectedFile] = []

    def inspect_lost(group: Sequence[InputFile]) -> list[_InspectedFile]:
        """Inspect the files of a group one by one, to name the one that ends its process."""
        if len(group) == 1:
            return [_InspectedFile(group[0].uri, lost_error(group[0].uri))]
        alone = map_in_order(inspect, [[file] for file in group], execution.workers, execution.local, lost=inspect_lost)
        return [one for some in alone for one in some]

    stage = Stage("inspect")
    for group in execution.map(inspect, [files[some] for some in group_small(sizes)], inspect_lost, stage=stage):
        inspected += group
        for one in group:
            if one.scan is not None and isinstance(one.info, InputInfo):
                execution.progress.advance(1, one.scan.num_rows, one.info.num_bytes)
    return inspected


def _inspect_sample(
    files: Sequence[InputFile], sizes: Sequence[int], schema: Schema, execution: Execution, sample: Sample
) -> list[_InspectedFile]:
    """Inspect files that may have several units, and choose from these and from the small files."""

    def inspect(some: Sequence[InputFile]) -> dict[str, InputInfo | SourceError]:
        one = partial(inspect_file, travels=execution.travels)
        infos = execution.map(one, some, lost_inspection, stage=Stage("inspect"))
        return dict(zip([file.uri for file in some], infos, strict=True))

    are_small = [size <= SMALL_FILE_BYTES and not _is_folder(file) for file, size in zip(files, sizes, strict=True)]
    infos = inspect([file for file, is_small in zip(files, are_small, strict=True) if not is_small])
    units = [(file.uri, 0) for file, is_small in zip(files, are_small, strict=True) if is_small]
    units += [(uri, unit.index) for uri, info in infos.items() if isinstance(info, InputInfo) for unit in info.units]
    chosen = sample.choose(units)
    infos |= inspect(
        [file for file, is_small in zip(files, are_small, strict=True) if is_small and (file.uri, 0) in chosen]
    )
    inspected = []
    for file, size, is_small in zip(files, sizes, are_small, strict=True):
        info = infos.get(file.uri)
        if isinstance(info, InputInfo) and not is_small:
            size = info.num_bytes
            info = sample.restrict(info, chosen)
        sample.num_bytes += size
        if isinstance(info, SourceError) or (info is not None and info.units):
            inspected.append(_InspectedFile(file.uri, info))
            sample.num_bytes_chosen += size if isinstance(info, SourceError) else info.num_bytes
    sample.leave_out_rules(schema)
    execution.progress.start("scan", len(inspected), sample.num_bytes_chosen)
    return inspected


def lost_inspection(file: InputFile) -> SourceError:
    """The error of a file whose process died each time that its header was read."""
    return lost_error(file.uri)


def _is_folder(file: InputFile) -> bool:
    return bool(file.format) and is_folder(storage_of(file.uri), file.uri)


def _inspect_group(
    files: Sequence[InputFile], rules: RuleSet | None, *, travels: bool, by_row_groups: bool
) -> list[_InspectedFile]:
    """Inspect files and, given ``rules``, scan files of one unit, small ones together."""
    infos: list[InputInfo | SourceError] = []

    def units() -> Iterator[WorkUnit]:
        # Inspect and read each file in turn: a file that was just inspected is still open.
        for file in files:
            if rules is not None:
                hold_small(file.uri)
            info = inspect_file(file, travels=travels, by_row_groups=by_row_groups)
            infos.append(info)
            if _is_one_unit(info):
                yield info.units[0]

    try:
        # Once for the whole group: each file is then only added.
        with surviving_truncation():
            scans: Sequence[UnitScan | None] = (
                scan_small(units(), rules) if rules is not None else [None for _ in units()]
            )
    finally:
        release_memory()
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
    format: str
    scan: Callable[[], UnitScan]

    def run(self) -> UnitScan:
        return self.scan()


def _remaining_work(
    inspected: Iterable[_InspectedFile],
    grouped: Iterable[Sequence[Sequence[WorkUnit]]],
    rules: RuleSet,
    only_keys: Container[str],
    unit_cache: UnitCache | None,
) -> Iterator[_Work]:
    """The scans of units that are left and, where a check needs it, after the units of a file the scan of the whole file."""
    columns = columns_across_files(rules.schema)
    with_keys = is_across_files(rules)
    for one, groups in zip(inspected, grouped, strict=True):
        if isinstance(one.info, SourceError) or one.scan is not None:
            continue
        if unit_cache is not None and one.uri not in only_keys and len(one.info.units) > 1:
            unit_cache.look_up(one.info.units)
        is_whole_file = len(one.info.units) == 1 and not one.info.is_partial
        for units in groups:
            options = replace(units[0].options, columns=columns, by_columns=False, keep_going=False)
            keys = [replace(unit, options=options) for unit in units]
            work: Callable[[], UnitScan] | None = None
            if one.uri in only_keys:
                work = partial(read_keys_of_group, keys, rules.schema, with_dataset=True)
            elif unit_cache is not None:
                work = unit_cache.work(units[0], rules, keys[0] if with_keys else None)
            work = work or partial(scan_group, units, rules, is_whole_file=is_whole_file)
            yield _Work(one.uri, one.info.format, work)
        if one.uri not in only_keys and _is_read_again(one.info, rules):
            yield _Work(one.uri, one.info.format, partial(scan_whole_file, one.info.units, rules))


def _run_work(
    work: Sequence[_Work], schema: Schema, across: AcrossFiles, execution: Execution
) -> Generator[UnitScan, None, None]:
    """The results of what is left to do, in order; with a pass for duplicate keys to come, their hashes are left in files."""
    stage = Stage("scan", rules=build_dataset_rules(schema), is_last=not across.has_pass)
    run: Callable[[_Work], UnitScan] = _Work.run
    if across.has_pass:
        from datacheck.jobs.key_exchange import has_key_files, with_keys_in_files

        stage, run = replace(stage, is_valid=has_key_files), with_keys_in_files(run, execution)
    return execution.map(run, work, lambda one: UnitScan(error=lost_error(one.uri)), stage=stage)


def _is_read_again(info: InputInfo, rules: RuleSet) -> bool:
    """Whether a file of several units is read again, for the checks that need all of it."""
    return len(info.units) > 1 and not info.is_partial and whole_file_of_unit(info.units[0], rules) is not None


def file_size(uri: str) -> int:
    """The size of a file in bytes; 0 if it cannot be read."""
    try:
        return fingerprint_of(uri).size
    except SourceError:
        return 0


def _scan_memory(data: Any, schema: Schema, progress: Progress) -> Report:
    from datacheck.sources.memory import batches_of, parts_of

    parts = parts_of(data)
    findings: list[Finding] = []
    num_rows = num_bytes = 0
    progress.start("scan", len(parts), 0)
    with AcrossFiles(schema) as across:
        verdicts = []
        for uri, part in parts.items():
            scanned = FileScan(uri, schema, is_file=False)
            counter = _ByteCounter(progress)
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

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.num_bytes = 0

    def count(self, batches: Iterable[Any]) -> Iterable[Any]:
        for batch in batches:
            num_bytes = sum(column.num_bytes for column in batch.columns)
            self.num_bytes += num_bytes
            yield batch
            self._progress.advance(0, batch.num_rows if batch.counts_rows else 0, num_bytes)
