"""``.npz``: arrays in a zip archive. Stored ones are mapped in place, compressed ones are streamed.

Nothing is unpickled or written under a member's name, and the size of an archive is bounded before anything is
decompressed.
"""

from __future__ import annotations

import math
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import IO, Any, ClassVar

import numpy as np

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.archive import check_zip, data_offset, open_zip, verify_stored
from datacheck.sources.arrays import ArrayLayout, check_layout, iter_rows, parse_npy_header, rows_of
from datacheck.sources.base import (
    REWRITE_FILE,
    TARGET_BATCH_BYTES,
    TARGET_UNIT_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
    split_rows,
)
from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors
from datacheck.sources.members import Member, plan_members
from datacheck.storage.base import DataFile
from datacheck.storage.local import scratch_reader
from datacheck.storage.registry import open_file

Array = np.ndarray[Any, Any]

#: The most compressed arrays that are decompressed side by side.
MAX_SIDE_BY_SIDE = 1024
#: The most unreadable members that one error names.
_MAX_NAMED = 20


class NpzSource:
    """Reads ``.npz`` files: as columns of one table if all arrays have the same number of rows, else one by one."""

    format: ClassVar[str] = "npz"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        with open_file(uri) as file, open_zip(file, options.max_members, uri) as archive:
            entries = check_zip(uri, archive, fingerprint.size, options)
            members = [_member(uri, archive, file, entry, options) for entry in entries]
        total = sum(member.num_bytes for member in members)
        problem = ""
        if len(members) > MAX_SIDE_BY_SIDE and total > TARGET_BATCH_BYTES and any(one.sequential for one in members):
            problem = f"{len(members):,} compressed arrays are too many to read side by side"
        return plan_members(uri, self.format, fingerprint, members, options, problem)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        with open_file(unit.uri) as file, open_zip(file, unit.options.max_members, unit.uri) as archive:
            entries = check_zip(unit.uri, archive, unit.fingerprint.size, unit.options)
            if unit.members:
                by_name = {_name(entry): entry for entry in entries}
                errors: list[SourceError] = []
                for name in unit.members:
                    try:
                        yield from _read_alone(unit, archive, file, by_name[name])
                    except SourceError as error:
                        errors.append(error)
                if errors:
                    if not unit.options.keep_going:
                        raise _one_error(errors)
                    yield Batch((), 0, counts_rows=False, unreadable=tuple(errors))
            else:
                wanted = unit.options.columns
                chosen = [entry for entry in entries if wanted is None or _name(entry) in wanted]
                yield from _read_together(unit, archive, file, chosen)


@dataclass(frozen=True, slots=True)
class _LocatedArray:
    """An array and its archive member. The offset is that in the file for a stored member, else that in the stream."""

    entry: zipfile.ZipInfo
    layout: ArrayLayout

    @property
    def is_stored(self) -> bool:
        return self.entry.compress_type == zipfile.ZIP_STORED


def _one_error(errors: list[SourceError]) -> SourceError:
    """The errors of several members as one, which names the members; of very many the first."""
    first, hidden = errors[0], len(errors) - _MAX_NAMED
    if len(errors) == 1:
        return first
    problems = "; ".join(dict.fromkeys(error.problem for error in errors[:_MAX_NAMED]))
    return SourceError(first.code, first.uri, problems + (f"; and {hidden:,} more" if hidden > 0 else ""), first.remedy)


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removesuffix(".npy")


def _member(uri: str, archive: zipfile.ZipFile, file: DataFile, entry: zipfile.ZipInfo, options: ReadOptions) -> Member:
    try:
        located = _locate_array(uri, archive, file, entry, options)
    except SourceError as error:
        # The other arrays are still read; reading this one raises the error.
        return Member(_name(entry), 0, 0, problem=error.problem)
    layout = located.layout
    return Member(_name(entry), layout.num_rows, layout.row_bytes, not layout.shape, sequential=not located.is_stored)


def _locate_array(
    uri: str, archive: zipfile.ZipFile, file: DataFile, entry: zipfile.ZipInfo, options: ReadOptions
) -> _LocatedArray:
    if not entry.filename.endswith(".npy"):
        raise SourceError(
            "DC901", uri, f"the member {entry.filename!r} is not an .npy array", "remove it from the archive"
        )
    with archive.open(entry) as stream:
        layout, header_bytes = parse_npy_header(stream.read, uri, _name(entry))
    check_layout(uri, layout, entry.file_size - header_bytes)
    if header_bytes + layout.num_bytes != entry.file_size:
        problem = f"the header of {_name(entry)!r} describes fewer bytes than the member has"
        raise SourceError("DC901", uri, problem, REWRITE_FILE)
    if entry.compress_type == zipfile.ZIP_STORED:
        layout = replace(layout, offset=data_offset(file, entry) + header_bytes)
    return _LocatedArray(entry, layout.with_rows(options.rows))


def _read_alone(unit: WorkUnit, archive: zipfile.ZipFile, file: DataFile, entry: zipfile.ZipInfo) -> Iterator[Batch]:
    """One array, whole or (where it is the only one of the unit) the unit's rows of it."""
    located = _locate_array(unit.uri, archive, file, entry, unit.options)
    start, count = unit.range_of(located.layout.num_rows)
    yield from _batches(unit, archive, file, [located], start, count)


def _read_together(
    unit: WorkUnit, archive: zipfile.ZipFile, file: DataFile, entries: list[zipfile.ZipInfo]
) -> Iterator[Batch]:
    """The unit's rows of all arrays, as columns."""
    located = [_locate_array(unit.uri, archive, file, entry, unit.options) for entry in entries]
    count = unit.num_rows if unit.num_rows is not None else max((one.layout.num_rows for one in located), default=0)
    yield from _batches(unit, archive, file, located, unit.row_start, count)


def _batches(
    unit: WorkUnit, archive: zipfile.ZipFile, file: DataFile, located: list[_LocatedArray], start: int, count: int
) -> Iterator[Batch]:
    if start == 0 and unit.options.verify_checksums:
        # Decompressing verifies the others.
        for one in located:
            if one.is_stored:
                verify_stored(unit.uri, file, one.entry)
    if all(one.is_stored for one in located):
        for first, number, columns in iter_rows(file, [one.layout for one in located], start, count):
            yield Batch(tuple(columns), number, first)
        return
    ranges = split_rows(count, sum(one.layout.row_bytes for one in located), TARGET_BATCH_BYTES)
    with ExitStack() as opened:
        if len(ranges) == 1:
            # One at a time, so that thousands of small arrays are not open together.
            columns = [one.layout.column(_read_whole(archive, file, one)) for one in located]
            yield Batch(tuple(columns), count, start)
            return
        readers = [_row_reader(archive, file, one, opened) for one in located]
        for first, number in ranges:
            columns = [one.layout.column(read(first, number)) for one, read in zip(located, readers, strict=True)]
            yield Batch(tuple(columns), number, first)


def _read_whole(archive: zipfile.ZipFile, file: DataFile, located: _LocatedArray) -> Array:
    with ExitStack() as opened:
        return _row_reader(archive, file, located, opened)(0, located.layout.num_rows)


def _row_reader(
    archive: zipfile.ZipFile, file: DataFile, located: _LocatedArray, opened: ExitStack
) -> Callable[[int, int], Array]:
    """A function that reads ranges of rows of one member, in order."""
    layout = located.layout
    if located.is_stored:
        return lambda start, count: rows_of(file, layout, start, count)
    stream = opened.enter_context(archive.open(located.entry))
    _read_exactly(stream, layout.offset)
    if layout.is_copied or layout.row_bytes > TARGET_UNIT_BYTES:
        # An array in Fortran order must be decompressed as a whole before its rows can be gathered, and a row that is
        # larger than a unit does not fit into memory.
        spooled = opened.enter_context(tempfile.TemporaryFile(prefix="datacheck-"))  # noqa: SIM115 - the stack closes it
        left = layout.num_bytes
        while left:
            left -= spooled.write(_read_exactly(stream, min(left, 1 << 20)))
        spooled.flush()
        moved, scratch = replace(layout, offset=0), opened.enter_context(scratch_reader(spooled))
        return lambda start, count: rows_of(scratch, moved, start, count)

    def read(_start: int, count: int) -> Array:
        shape = (count, *layout.shape[1:]) if layout.shape else ()
        data = _read_exactly(stream, math.prod(shape) * layout.dtype.itemsize)
        return np.frombuffer(data, layout.dtype).reshape(shape) if data else np.zeros(shape, layout.dtype)

    return read


def _read_exactly(stream: IO[bytes], num_bytes: int) -> bytes:
    parts = []
    left = num_bytes
    while left:
        part = stream.read(left)
        if not part:
            raise EOFError("the archive ends inside an array")
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
