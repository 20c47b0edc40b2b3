"""Scanning: every check of a schema over files, or over data that is in memory already."""

from __future__ import annotations

import os
import time
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeGuard

from datacheck.checks.checker import RuleSet, has_row_checks, load_libraries
from datacheck.errors import SourceError, UsageError
from datacheck.jobs.executors.local import ExecutorLike, map_in_order
from datacheck.jobs.file_results import Duplicates, FileScan, error_finding
from datacheck.jobs.file_verdict import FileVerdict
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.units.scan import UnitScan, read_keys, scan_batches, scan_unit
from datacheck.jobs.units.small_files import group_small, scan_small
from datacheck.reports.report import Report
from datacheck.schema.keys import key_columns, unique_keys
from datacheck.schema.loading import SchemaLike, load_schema
from datacheck.schema.model import Schema
from datacheck.sources import expand_inputs, source_for
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.discover import InputFile

__all__ = ["are_paths", "inspect_file", "read_options", "scan", "scan_each", "scan_files"]


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
        data: a path, folder or glob, or several; or data in memory: a NumPy array whose first axis is the rows, a mapping of
            arrays, an Arrow table, a pandas or polars DataFrame or Series, a torch tensor or a mapping of tensors.
        schema: a schema, the path of a YAML schema, ``package.module:Model``, or a pandera schema or model. None checks
            that no floating-point or complex value is NaN or infinite.
        workers: how many units are worked on at a time; as many as there are processors, up to 16, unless set.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: told as units end.
        options: how files are read.

    Returns:
        The report. An input that cannot be read is a finding in it, and the others are checked.

    Raises:
        UsageError: a path stands for nothing, or the data is of no kind that can be checked.
        SchemaError: the schema is wrong.
    """
    started = time.perf_counter()
    loaded = load_schema(schema)
    if are_paths(data):
        files = expand_inputs(data, options)
        report = scan_files(files, loaded, workers=workers, executor=executor, progress=progress or NullProgress())
    else:
        report = _scan_memory(data, loaded)
    return replace(report, seconds=time.perf_counter() - started)


def are_paths(data: Any) -> bool:
    """Whether data is named by paths, and not in memory."""
    if isinstance(data, str | os.PathLike):
        return True
    if not isinstance(data, list | tuple):
        return False
    others = [item for item in data if not isinstance(item, str | os.PathLike)]
    if others and any(isinstance(item, os.PathLike) for item in data):
        raise UsageError(f"paths are strings or path objects, and one of these is of type {type(others[0]).__name__}")
    return bool(data) and not others


def read_options(options: ReadOptions, schema: Schema) -> ReadOptions:
    """How a file is read when ``schema`` is all that is asked of it."""
    dtypes = {
        path: field.dtype for path, field in schema.fields.items() if path is not None and field.dtype is not None
    }
    by_columns = not has_row_checks(schema) and all(len(key) == 1 for key in unique_keys(schema))
    return replace(options, by_columns=by_columns, dtypes=options.dtypes or tuple(dtypes.items()))


def inspect_file(file: InputFile) -> InputInfo | SourceError:
    """What the file's header says, or why it cannot be read."""
    try:
        return source_for(file.uri).inspect(file.uri, file.options)
    except SourceError as error:
        return error


def scan_files(
    files: Sequence[InputFile],
    schema: Schema,
    *,
    workers: int | None,
    executor: ExecutorLike,
    progress: Progress,
) -> Report:
    """Scan files in order, unit by unit."""
    with Duplicates() as duplicates:
        verdicts = list(scan_each(files, schema, duplicates, workers=workers, executor=executor, progress=progress))
        findings = [finding for verdict in verdicts for finding in verdict.findings]
        findings += duplicates.findings()
    num_rows = sum(verdict.num_rows for verdict in verdicts)
    num_bytes = sum(verdict.num_bytes for verdict in verdicts)
    return Report(tuple(findings), len(files), num_rows, num_bytes)


def scan_each(
    files: Sequence[InputFile],
    schema: Schema,
    duplicates: Duplicates,
    *,
    only_keys: Container[str] = (),
    workers: int | None,
    executor: ExecutorLike,
    progress: Progress,
) -> Generator[FileVerdict, None, None]:
    """What there is to say of each file, in order; their keys are added to ``duplicates``.

    Of files named in ``only_keys`` nothing but the columns of keys is read, and nothing is found but that they cannot be
    read.
    """
    files = [replace(file, options=read_options(file.options, schema)) for file in files]
    sizes = [_size(file.uri) for file in files]
    progress.start("scan", len(files), sum(sizes))
    load_libraries(schema)
    rules = RuleSet(schema)
    keys = unique_keys(schema)
    columns = key_columns(schema)
    # Most files of a data set of many are one unit: read at once, they are opened once.
    look = partial(_look, rules=rules if not keys else None)
    looks: list[tuple[InputInfo | SourceError, UnitScan | None]] = []
    for some in map_in_order(look, [files[group] for group in group_small(sizes)], workers, executor):
        looks += some
        for info, scanned in some:
            if scanned is not None and isinstance(info, InputInfo):
                progress.advance(1, scanned.num_rows, info.num_bytes)
    units = [
        (_limited(unit, columns), schema) if file.uri in only_keys else (unit, rules)
        for file, (info, done) in zip(files, looks, strict=True)
        if isinstance(info, InputInfo) and done is None
        for unit in info.units
    ]
    results = map_in_order(_scan_or_read_keys, units, workers, executor)
    for file, (info, done) in zip(files, looks, strict=True):
        if isinstance(info, SourceError):
            yield FileVerdict(file.uri, (error_finding(info),), 0, _size(file.uri))
            continue
        collected = FileScan(file.uri, schema)
        for unit in info.units:
            result = done or next(results)
            collected.add(result)
            duplicates.add(file.uri, result.keys)
            if done is None:
                progress.advance(1, result.num_rows, unit_bytes(unit, info))
        found = collected.unread() if file.uri in only_keys else collected.findings()
        yield FileVerdict(file.uri, tuple(found), collected.num_rows, info.num_bytes)


def _limited(unit: WorkUnit, columns: tuple[str, ...]) -> WorkUnit:
    return replace(unit, options=replace(unit.options, columns=columns, by_columns=False))


def _scan_or_read_keys(task: tuple[WorkUnit, RuleSet | Schema]) -> UnitScan:
    unit, asked = task
    return scan_unit(unit, asked) if isinstance(asked, RuleSet) else read_keys(unit, asked)


def _look(files: Sequence[InputFile], rules: RuleSet | None) -> list[tuple[InputInfo | SourceError, UnitScan | None]]:
    """What each file's header says, and its scan where it is one unit and ``rules`` are given."""
    infos: list[InputInfo | SourceError] = []

    def units() -> Iterator[WorkUnit]:
        # One after the other: a file that was just looked at is still open.
        for file in files:
            info = inspect_file(file)
            infos.append(info)
            if _is_one_unit(info):
                yield info.units[0]

    scanned: Sequence[UnitScan | None] = scan_small(units(), rules) if rules is not None else [None for _ in units()]
    results = iter(scanned)
    return [(info, next(results) if _is_one_unit(info) else None) for info in infos]


def _is_one_unit(info: InputInfo | SourceError) -> TypeGuard[InputInfo]:
    return isinstance(info, InputInfo) and len(info.units) == 1


def unit_bytes(unit: WorkUnit, info: InputInfo) -> int:
    """The part of the file's bytes that one of its units stands for, for progress."""
    share, rest = divmod(info.num_bytes, len(info.units))
    return share + (rest if unit is info.units[-1] else 0)


def _size(uri: str) -> int:
    try:
        return fingerprint_of(uri).size
    except SourceError:
        return 0


def _scan_memory(data: Any, schema: Schema) -> Report:
    from datacheck.sources.memory import batches_of

    uri, batches = batches_of(data)
    scanned = FileScan(uri, schema, is_file=False)
    counter = _ByteCounter()
    with Duplicates() as duplicates:
        result: UnitScan = scan_batches(counter.count(batches), uri, RuleSet(schema))
        scanned.add(result)
        duplicates.add(uri, result.keys)
        findings = [*scanned.findings(), *duplicates.findings()]
    return Report(tuple(findings), 1, scanned.num_rows, counter.num_bytes)


class _ByteCounter:
    """Adds up the bytes of batches as they pass."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def count(self, batches: Iterable[Any]) -> Iterable[Any]:
        for batch in batches:
            self.num_bytes += sum(column.data.nbytes for column in batch.columns)
            yield batch
