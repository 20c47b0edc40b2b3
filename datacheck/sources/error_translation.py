"""What every source does around reading: refuse pointers and changed files, translate exceptions, add hive columns."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import decoded_bytes
from datacheck.batch import Batch, Column, split_decoded
from datacheck.errors import DatacheckError, SourceError
from datacheck.formats import find_format, get_format
from datacheck.sources.base import REWRITE_FILE, InputInfo, ReadOptions, WorkUnit, check_unchanged
from datacheck.sources.dtypes import arrow_type
from datacheck.sources.media import with_media
from datacheck.sources.probe import read_head
from datacheck.sources.steps import count_step
from datacheck.storage.base import FileChangedError
from datacheck.storage.os_errors import machine_failure
from datacheck.storage.registry import storage_of
from datacheck.storage.truncated_files import surviving_truncation
from datacheck.text import plain

#: Null in the folder names of a hive layout.
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
#: Archives below this size are harmless, however well they compress.
HARMLESS_BYTES = 32 << 20
#: About how many bytes the dictionaries and runs of one batch decode to.
DECODED_BATCH_BYTES = 128 << 20
#: What a row takes that is compared with others: its hashes in both datasets, and what is worked out of them.
BYTES_OF_KEPT_ROW = 256
#: A file with more rows than this must have bytes for them.
MAX_EMPTY_ROWS = 1 << 24
#: In a file of records that are decoded one by one: more than this many count as expansion, at so many bytes each. The time
#: that a record takes does not depend on how few bytes of a compressed file it has.
HARMLESS_RECORDS, BYTES_OF_RECORD = 1 << 20, 512

S = TypeVar("S", bound="_Reader")


class _Reader(Protocol):
    """What is wrapped here: a source."""

    format: ClassVar[str]


def translate_inspect_errors(
    inspect: Callable[[S, str, ReadOptions], InputInfo],
) -> Callable[[S, str, ReadOptions], InputInfo]:
    """Wrap ``Source.inspect``: check first that the file can be data, and turn every failure into a ``SourceError``."""

    @functools.wraps(inspect)
    def wrapped(self: S, uri: str, options: ReadOptions) -> InputInfo:
        read_head(uri)
        if options.rows == "file":
            _check_is_arrays(uri, self.format)
        try:
            with surviving_truncation(uri) as truncated:
                info = inspect(self, uri, options)
            if truncated:
                raise truncated_error(uri)
            return info
        except DatacheckError:
            raise
        except Exception as error:
            raise to_source_error(uri, error, self.format) from error

    return wrapped


def translate_read_errors(read: Callable[[S, WorkUnit], Iterator[Batch]]) -> Callable[[S, WorkUnit], Iterator[Batch]]:
    """Wrap ``Source.read``: turn every failure into a ``SourceError``, refuse a file that has changed, add hive columns."""

    @functools.wraps(read)
    def wrapped(self: S, unit: WorkUnit) -> Iterator[Batch]:
        check = _check_of_repeats(unit)
        try:
            for batch in read(self, unit):
                check_unchanged(unit.uri, unit.fingerprint)
                count_step()
                if unit.options.rows == "file":
                    batch = batch.with_columns(tuple(replace(column, is_sample=True) for column in batch.columns))
                if unit.options.look_into and not get_format(self.format).is_sample:
                    batch = with_media(batch)
                for part in _bounded(batch, unit, check):
                    yield _with_partitions(part, unit) if unit.options.partitions and part.counts_rows else part
                # The next batch takes the memory of this one.
                del batch, part
        except DatacheckError:
            check_unchanged(unit.uri, unit.fingerprint)
            raise
        except Exception as error:
            # Hostile bytes can make a reader raise anything. A changed file explains all of it.
            check_unchanged(unit.uri, unit.fingerprint)
            raise to_source_error(unit.uri, error, self.format) from error
        check_unchanged(unit.uri, unit.fingerprint)

    return wrapped


def _check_is_arrays(uri: str, format_: str) -> None:
    """Raise ``SourceError`` for a table that is to be read as one sample."""
    if not (get_format(format_).is_arrays or get_format(format_).is_sample):
        problem = f"'rows: file' makes one sample of each file of arrays, but a {format_} file is a table of many rows"
        raise SourceError("DC901", uri, problem, "leave it out, or read it as an input of its own without 'rows: file'")


def to_source_error(uri: str, error: Exception, format_: str = "") -> SourceError:
    """A library's exception as a ``SourceError`` with the first line of its message, which need not name the format."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return SourceError("DC902", uri, error.strerror or str(error), "check the path and its permissions")
    if isinstance(error, FileChangedError):
        return SourceError("DC908", uri, "it changed while it was read", "run again when no other process writes to it")
    if (failure := machine_failure(error)) is not None:
        return SourceError("DC910", uri, *failure)
    lines = str(error).strip().splitlines()
    problem = plain(lines[0].rstrip("."), 400) if lines else type(error).__name__
    if isinstance(error, OSError | pa.ArrowException) and "crypt" in problem:
        return SourceError("DC905", uri, problem, "decrypt it first: datacheck does not take keys")
    if isinstance(error, LookupError | RecursionError):
        problem = f"it is malformed ({type(error).__name__}: {problem})"
    record = find_format(format_) if format_ else None
    if record is not None and record.title.lower() not in problem.lower():
        problem = f"the {record.title} reader says: {problem}"
    return SourceError("DC901", uri, problem, REWRITE_FILE)


class translate_bugs:  # noqa: N801 - used like a function; as one it would take several times as long
    """Around all work on one input: an exception that datacheck did not foresee becomes a ``SourceError`` (DC915).

    So does (DC908) what was worked out of a file that was truncated while it was mapped. An input may have several files.
    """

    def __init__(self, *uris: str) -> None:
        self._uris, self._watch = uris, surviving_truncation(*uris)

    def __enter__(self) -> None:
        self._truncated = self._watch.__enter__()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._watch.__exit__()
        known = _known_error(error, self._uris)
        if self._truncated and (error is None or isinstance(known, DatacheckError)):
            raise truncated_error(min(self._truncated)) from error
        if known is not error and known is not None:
            raise known from error


def truncated_error(uri: str) -> SourceError:
    """The error of a file that was truncated while it was mapped."""
    problem = "another program truncated it while it was being read"
    return SourceError("DC908", uri, problem, "run again once nothing writes to it, or copy it")


def _known_error(error: BaseException | None, uris: tuple[str, ...]) -> BaseException | None:
    """The error that is reported for one that ended the work on an input."""
    uri = uris[0]
    if error is None or isinstance(error, DatacheckError) or not isinstance(error, Exception):
        return error
    if isinstance(error, OSError):
        # If it is about an input, that is gone or became something else: between two calls anything can happen to a file.
        return to_source_error(error.filename, error) if error.filename in uris else error
    if isinstance(error, MemoryError):
        return to_source_error(uri, error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "datacheck" in frame.filename]
    at = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    text = plain(str(error).strip().partition("\n")[0], 300)
    problem = f"{type(error).__name__}: {text}{at}"
    remedy = "the other files were processed; please report this as a bug of datacheck, with the file if you can"
    return SourceError("DC915", uri, problem, remedy)


def check_expansion(uri: str, expanded: int, packed: int, members: int, options: ReadOptions) -> None:
    """Raise ``SourceError`` (DC904) for an archive that would exceed the limits once decompressed."""
    check_members(uri, members, options.max_members)
    check_bytes(uri, expanded, options.max_bytes_in_steps)
    if expanded > HARMLESS_BYTES and expanded > packed * options.max_expansion_ratio:
        problem = (
            f"{packed:,} bytes would become {expanded:,}, more than {options.max_expansion_ratio:,} times the size"
        )
        raise SourceError("DC904", uri, problem, "if the file is trusted, raise the limit max_expansion_ratio")


def check_members(uri: str, members: int, limit: int, what: str = "members") -> None:
    """Raise ``SourceError`` (DC904) for an input of more than ``limit`` members, or of whatever else it consists of."""
    if members > limit:
        problem = f"it has more than {limit:,} {what}"
        raise SourceError("DC904", uri, problem, "if it is trusted, raise the limit max_members")


def check_bytes(uri: str, num_bytes: int, limit: int, what: str = "it") -> None:
    """Raise ``SourceError`` (DC904) for what would take more than ``limit`` bytes."""
    if num_bytes > limit:
        problem = f"{what} would take {num_bytes:,} bytes, more than {limit:,}"
        raise SourceError("DC904", uri, problem, "if the file is trusted, raise the limit max_expanded_bytes")


def check_rows(uri: str, num_rows: int, num_bytes: int, what: str = "it") -> None:
    """Raise ``SourceError`` (DC904) for an absurd number of rows that take no bytes."""
    if num_rows > MAX_EMPTY_ROWS and num_bytes < num_rows // 64:
        problem = f"{what} claims {num_rows:,} rows but holds {num_bytes:,} bytes"
        raise SourceError("DC904", uri, problem, REWRITE_FILE)


def check_records(uri: str, num_records: int, packed: int, options: ReadOptions) -> None:
    """Raise ``SourceError`` (DC904) for far more records than the ``packed`` bytes of a file can tell apart."""
    if num_records > HARMLESS_RECORDS and num_records * BYTES_OF_RECORD > packed * options.max_expansion_ratio:
        limit = options.max_expansion_ratio / BYTES_OF_RECORD
        problem = f"it has {num_records:,} records or more in {packed:,} bytes, above {limit:.2g} for each byte"
        raise SourceError("DC904", uri, problem, "if the file is trusted, raise the limit max_expansion_ratio")


def with_bounded_rows(batches: Iterable[Batch], unit: WorkUnit) -> Iterator[Batch]:
    """The batches of a unit, if something of each row is kept; raises ``SourceError`` (DC904) for far more rows than bytes."""
    options, size = unit.options, unit.fingerprint.size
    limit = max(options.max_bytes_at_once, size * options.max_expansion_ratio)
    is_file = unit.data is None and storage_of(unit.uri).stat(unit.uri).kind == "file"
    for batch in batches:
        num_rows = batch.row_start + batch.num_rows
        if is_file and num_rows * BYTES_OF_KEPT_ROW > limit:
            what = f"comparing its rows, of which {num_rows:,} in {size:,} bytes were read,"
            check_bytes(unit.uri, num_rows * BYTES_OF_KEPT_ROW, limit, what)
        yield batch


def _check_of_repeats(unit: WorkUnit) -> Callable[[int], None]:
    """Raises ``SourceError`` (DC904) once the dictionaries, runs and views of a unit decode to more than the limit, in all.

    Each slice takes little memory, but a small file can have slices without end.
    """
    total = 0

    def check(num_bytes: int) -> None:
        nonlocal total
        total += num_bytes
        what = f"decoding its repeated values from row {unit.row_start:,} on"
        check_bytes(unit.uri, total, unit.options.max_bytes_in_steps, what)

    return check


def _bounded(batch: Batch, unit: WorkUnit, check: Callable[[int], None]) -> Iterator[Batch]:
    """The batch in slices whose dictionaries and runs decode to little memory; raises ``SourceError`` (DC904)."""
    for part in split_decoded(batch, DECODED_BATCH_BYTES, check):
        for column in part.columns if part is not batch else ():
            if part.num_rows == 1 and not isinstance(column.data, np.ndarray):
                what = f"one value of {plain(repr(column.name))} in row {int(part.file_rows(np.zeros(1, np.int64))[0])}"
                check_bytes(unit.uri, decoded_bytes(column.data), unit.options.max_bytes_at_once, what)
        yield part


def _with_partitions(batch: Batch, unit: WorkUnit) -> Batch:
    dtypes, wanted = dict(unit.options.dtypes), unit.options.columns
    present = set(batch.names)
    added = []
    for name, text in unit.options.partitions:
        if name in present or (wanted is not None and name not in wanted):
            continue
        kind = arrow_type(dtypes.get(name, "string")) or pa.string()
        value = pa.array([None if text == HIVE_NULL else text], pa.string())
        try:
            scalar = value.cast(kind)[0]
        except pa.ArrowException:
            problem = f"the folder {plain(f'{name}={text}')!r} does not have a value of type {kind}"
            raise SourceError(
                "DC901", unit.uri, problem, "rename the folder, or change the dtype in the schema"
            ) from None
        added.append(Column(name, pa.repeat(scalar, batch.num_rows)))
    return replace(batch, columns=(*batch.columns, *added)) if added else batch
