"""Parquet: units are row groups; a scan reads a few columns at a time, a cleaning run whole rows.

Statistics in the footer prove nothing: Parquet's minimum and maximum ignore NaN.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.arrow_layouts import decoded_bytes, is_text, longest_repeated, no_rows, take_rows, validate
from datacheck.batch import Batch, split_decoded
from datacheck.errors import SourceError
from datacheck.sources.base import (
    TARGET_BATCH_BYTES,
    TARGET_UNIT_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    check_unchanged,
    fingerprint_of,
    plan_in_order,
)
from datacheck.sources.deleted_rows import without_deleted
from datacheck.sources.error_translation import (
    DECODED_BATCH_BYTES,
    check_bytes,
    check_expansion,
    check_members,
    to_source_error,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.parquet_footer import ChunkMetadata, check_footer, read_chunks
from datacheck.storage.base import DataFile, Fingerprint
from datacheck.storage.registry import held_in_memory, library_path, open_file
from datacheck.text import plain

#: Decoded bytes of the columns that a scan reads together: few enough to be in the cache when they are checked.
COLUMN_GROUP_BYTES = 4 << 20
#: Above this, columns of a row group that a scan reads together are streamed instead of read at once.
STREAM_ABOVE_BYTES = 2 * TARGET_UNIT_BYTES
#: Where text that is repeated may decode to more, it is read as dictionaries first.
MAX_REPEATED_BYTES = 256 << 20
#: Decoded bytes of a batch of whole rows: cleaning keeps several copies of each worker's batch, a scan none. Row groups of
#: no more are read at once, which is faster than to stream them.
ROW_BATCH_BYTES, SCANNED_ROW_BATCH_BYTES = TARGET_BATCH_BYTES // 4, 2 * TARGET_BATCH_BYTES
#: Bytes that streamed columns read ahead: all of them together, and the minimum and maximum for one.
STREAM_BUFFER_BYTES = TARGET_BATCH_BYTES // 4
MIN_BUFFER_BYTES, MAX_BUFFER_BYTES = 64 << 10, 1 << 20


#: What a value in a list takes while it is decoded: itself, the levels that say where lists begin, and room to grow.
_BYTES_OF_LIST_VALUE = 16
#: The values of lists may take this many times their encoded bytes, and this many times the file, if that is more than
#: ``max_expanded_bytes``.
MAX_REPEATS = 128
#: Decoded bytes of the fewest rows that are read at once.
MAX_BYTES_OF_ROWS = 128 << 20


class ParquetSource:
    """Reads Parquet files in bounded memory."""

    format: ClassVar[str] = "parquet"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        metadata = open_parquet(uri, fingerprint, options).metadata
        sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        unit = WorkUnit(uri, self.format, 0, fingerprint, 0, 0, options=options)
        parts = [(sum(counts[one] for one in groups), {"row_groups": tuple(groups)}) for groups in _grouped(sizes)]
        plan = plan_in_order(unit, parts)
        return plan if options.deleted is None else replace(plan, num_rows=sum(counts) - options.deleted.cardinality)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        deleted = unit.options.deleted
        return _read(unit) if deleted is None else without_deleted(_read(unit), deleted.read(unit.uri))


def _grouped(sizes: list[int]) -> list[list[int]]:
    """Group consecutive row groups into units of about ``TARGET_UNIT_BYTES``."""
    groups: list[list[int]] = []
    held = 0
    for index, size in enumerate(sizes):
        if not groups or held + size > TARGET_UNIT_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += size
    return groups


class _LastOpened(threading.local):
    """The file that this thread opened last, so that inspecting and reading a file open it once."""

    key: tuple[str, Fingerprint, bool] | None = None
    file: pq.ParquetFile = None


_last_opened = _LastOpened()
#: The decoded footer of the file that any thread opened last: threads that read one file share it.
_last_footer: tuple[tuple[str, Fingerprint], Any] | None = None


def _path_or_file(uri: str) -> str | pa.BufferReader | DataFile:
    """A file in memory, or the local path, both of which pyarrow reads without going through Python, or else the open file."""
    if (content := held_in_memory(uri)) is not None:
        return pa.BufferReader(content)
    path = library_path(uri)
    return open_file(uri) if path is None else path


@dataclass(frozen=True, slots=True)
class _Layout:
    """What follows from the schema of a file alone.

    ``widths`` are the bytes of one value of each column, None if values differ in size. ``nested`` are the names of columns
    with values inside values or with a dictionary, ``of_bytes`` of those that hold text or bytes.
    """

    schema: pa.Schema
    names: list[str]
    is_addressable: bool
    widths: list[int | None]
    holds_lists: bool
    nested: frozenset[str]
    of_bytes: frozenset[str]

    @classmethod
    def of(cls, schema: pa.Schema) -> _Layout:
        nested = (one.name for one in schema if one.type.num_fields or pa.types.is_dictionary(one.type))
        return cls(
            schema,
            schema.names,
            is_addressable(schema),
            [_row_bytes(one.type) for one in schema],
            any(_holds_lists(one.type) for one in schema),
            frozenset(nested),
            frozenset(one.name for one in schema if _holds_bytes(one.type)),
        )


#: That of the schema that any thread read last: most files of a dataset have the same.
_last_layout: _Layout | None = None


def _layout_of(schema: pa.Schema) -> _Layout:
    global _last_layout
    known = _last_layout
    if known is None or not known.schema.equals(schema):
        known = _last_layout = _Layout.of(schema)
    return known


def open_parquet(uri: str, fingerprint: Fingerprint, options: ReadOptions) -> pq.ParquetFile:
    global _last_footer
    key = (uri, fingerprint, options.verify_checksums)
    if _last_opened.key == key:
        return _last_opened.file
    known = _last_footer if _last_footer is not None and _last_footer[0] == key[:2] else None
    try:
        if known is None:
            check_footer(uri, fingerprint.size, options)
        # Not memory-mapped: truncating the file while it is read would kill the process with SIGBUS.
        file = _open_again(uri, options, metadata=None if known is None else known[1])
    except (pa.ArrowException, OSError) as error:
        if "Exceeded size limit" in str(error):
            check_members(uri, options.max_members + 1, options.max_members, "members in a list of its footer")
        if "ncrypt" not in str(error) and "decrypt" not in str(error):
            raise
        problem = str(error).strip().splitlines()[0]
        raise SourceError("DC905", uri, problem, "decrypt it first: datacheck does not take keys") from None
    if _last_opened.file is not None:
        _last_opened.file.close()
    _last_opened.key, _last_opened.file, _last_footer = key, file, (key[:2], file.metadata)
    return file


def _open_again(uri: str, options: ReadOptions, **arguments: Any) -> pq.ParquetFile:
    return pq.ParquetFile(
        _path_or_file(uri),
        pre_buffer=False,
        page_checksum_verification=options.verify_checksums,
        thrift_container_size_limit=options.max_members,
        **arguments,
    )


def _read(unit: WorkUnit) -> Iterator[Batch]:
    file = open_parquet(unit.uri, unit.fingerprint, unit.options)
    schema, metadata = file.schema_arrow, file.metadata
    layout = _layout_of(schema)
    names = layout.names if unit.options.columns is None else [n for n in layout.names if n in unit.options.columns]
    if not unit.row_groups:
        yield Batch.from_arrow(_no_rows(schema, names))
        return
    by_columns = unit.options.by_columns and layout.is_addressable
    lists = read_chunks(unit.uri, unit.fingerprint, unit.options.max_bytes_at_once) if layout.holds_lists else []
    row_start = unit.row_start
    for group in unit.row_groups:
        row_group = metadata.row_group(group)
        check_group(unit, group, row_group.total_byte_size)
        sizes = _column_bytes(row_group, layout)
        if lists:
            sizes |= _list_bytes(unit, group, schema, lists, names)
        for columns in _column_groups(sizes, names) if by_columns else [names]:
            reader = GroupReader(file, schema, layout, unit, group, row_start, by_columns=by_columns)
            yield from reader.read(columns, sizes, counts_rows=not by_columns or columns[0] == names[0])
        row_start += row_group.num_rows


def check_group(unit: WorkUnit, group: int, num_bytes: int) -> None:
    """Raise ``SourceError`` (DC904) for a large row group that hardly takes a byte of the file: its pages may be huge."""
    if num_bytes > unit.options.max_bytes_at_once:
        check_expansion(unit.uri, num_bytes, unit.fingerprint.size, group, unit.options)


def _list_bytes(
    unit: WorkUnit, group: int, schema: pa.Schema, chunks: Sequence[Sequence[ChunkMetadata]], names: Sequence[str]
) -> dict[str, int]:
    """Decoded bytes of each column of lists; raises ``SourceError`` (DC904) for one in which a few bytes stand for far more."""
    sizes: dict[str, int] = {}
    limit = unit.options.max_bytes_at_once
    for chunk in chunks[group] if group < len(chunks) else ():
        name = next((one for one in schema.names if chunk.path == one or chunk.path.startswith(f"{one}.")), None)
        if name is None or not _holds_lists(schema.field(name).type):
            continue
        num_bytes = chunk.num_values * _BYTES_OF_LIST_VALUE
        stored = min(chunk.encoded_bytes, unit.fingerprint.size)
        if name in names and num_bytes > limit and num_bytes > stored * MAX_REPEATS:
            what = f"the values of {plain(repr(name))} in row group {group}, stored as {stored:,} bytes,"
            check_bytes(unit.uri, num_bytes, limit, what)
        sizes[name] = sizes.get(name, 0) + num_bytes
    return sizes


def _holds_lists(kind: pa.DataType) -> bool:
    """Whether a type is, or contains, lists of any length."""
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_lists(kind.storage_type)
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind) or types.is_list_view(kind):
        return True
    return any(_holds_lists(kind.field(index).type) for index in range(kind.num_fields))


def _no_rows(schema: pa.Schema, names: list[str]) -> pa.RecordBatch:
    wanted = set(names)
    return no_rows(field for field in schema if field.name in wanted)


def is_addressable(schema: pa.Schema) -> bool:
    """Whether each column can be selected by name: no duplicates, none with a dot (a path in Parquet)."""
    names = schema.names
    return bool(names) and len(set(names)) == len(names) and not any("." in name for name in names)


def _column_bytes(row_group: Any, layout: _Layout) -> dict[str, int]:
    """Decoded bytes of each top-level column of a row group, estimated from its size and the types.

    The footer has sizes by column, but pyarrow crashes the process if that part of it is encrypted or damaged.
    """
    sizes = dict.fromkeys(layout.names, 0)
    num_rows, num_bytes = row_group.num_rows, row_group.total_byte_size
    share = num_bytes / max(1, layout.widths.count(None))
    for name, width in zip(layout.names, layout.widths, strict=True):
        # A dictionary-encoded column decodes to more than its share of the size.
        sizes[name] += int(max(share, num_rows)) if width is None else width * num_rows
    return sizes


def _row_bytes(kind: pa.DataType) -> int | None:
    """The bytes of one value; None if values differ in size."""
    if isinstance(kind, pa.BaseExtensionType):
        return _row_bytes(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        width = _row_bytes(kind.value_type)
        return None if width is None else width * kind.list_size
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return None


def _column_groups(sizes: Mapping[str, int], names: list[str]) -> list[list[str]]:
    groups: list[list[str]] = []
    held = 0
    for name in names:
        if not groups or held + sizes[name] > COLUMN_GROUP_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += sizes[name]
    return groups


@dataclass(frozen=True, slots=True)
class GroupReader:
    """Reads columns of one row group. What cannot be read is named by row group and column."""

    file: pq.ParquetFile
    schema: pa.Schema
    layout: _Layout
    unit: WorkUnit
    group: int
    row_start: int
    by_columns: bool

    def read(
        self, columns: list[str], sizes: Mapping[str, int], *, counts_rows: bool, skip: int = 0
    ) -> Iterator[Batch]:
        """Batches of some columns, without their first ``skip`` rows."""
        row = 0
        try:
            for batch in self._record_batches(columns, sizes):
                row += batch.num_rows
                kept = batch if row - batch.num_rows >= skip else batch.slice(max(0, batch.num_rows - (row - skip)))
                if kept.num_rows or not skip:
                    first = self.row_start + row - kept.num_rows
                    yield Batch.from_arrow(kept, first, self.group, counts_rows=counts_rows)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            check_unchanged(self.unit.uri, self.unit.fingerprint)
            errors = self._errors(columns, sizes, error)
            if not self.unit.options.keep_going:
                raise next(iter(errors.values())) from error
            rest = self.file.metadata.row_group(self.group).num_rows - max(row, skip) if self.by_columns else 0
            first, unreadable = self.row_start + max(row, skip), tuple(errors.values())
            yield Batch((), rest, first, self.group, counts_rows=counts_rows, unreadable=unreadable)
            for name in columns if self.by_columns else ():
                if name not in errors:
                    yield from self.read([name], sizes, counts_rows=False, skip=max(row, skip))

    def _errors(self, columns: list[str], sizes: Mapping[str, int], error: Exception) -> dict[str, SourceError]:
        """The columns that cannot be read, and why."""
        found: dict[str, SourceError] = {}
        for name in dict.fromkeys(columns) if len(set(columns)) == len(columns) > 1 else ():
            try:
                for _ in self._record_batches([name], sizes):
                    pass
            except (pa.ArrowException, OSError, UnicodeDecodeError) as inner:
                found[name] = self._error(inner, f", column '{plain(name)}'")
        column = f", column '{plain(columns[0])}'" if len(columns) == 1 else ""
        return found or {columns[0] if len(columns) == 1 else "": self._error(error, column)}

    def _error(self, error: Exception, column: str) -> SourceError:
        one = to_source_error(self.unit.uri, error)
        return SourceError(one.code, one.uri, f"row group {self.group}{column}: {one.problem}", one.remedy)

    def _record_batches(self, columns: list[str], sizes: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        """Record batches in bounded memory, whose offsets and indices are in range."""
        is_nested = not self.layout.nested.isdisjoint(columns)
        if self._may_expand(columns):
            batches = self._through_dictionaries(columns, sizes)
        else:
            batches = self._decoded(columns, sizes)
        for batch in batches:
            if is_nested:
                validate(batch)
            yield batch

    def _may_expand(self, columns: list[str]) -> bool:
        """Whether a few stored bytes of a column can expand to very many: text or bytes that a dictionary repeats."""
        if self.layout.of_bytes.isdisjoint(columns):
            return False
        row_group = self.file.metadata.row_group(self.group)
        return bool(row_group.num_rows * row_group.total_byte_size > MAX_REPEATED_BYTES)

    def _through_dictionaries(self, columns: list[str], sizes: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        """Read text and bytes as dictionaries, which show how large they are decoded before that happens."""
        fields = [field for field in self.schema if field.name in columns]
        names = self.layout.of_bytes.intersection(columns)
        paths = [self.file.schema.column(index).path for index in range(len(self.file.schema))]
        chosen = [path for path in paths if path in names or path.split(".", 1)[0] in names]
        options, metadata = self.unit.options, self.file.metadata
        with _open_again(self.unit.uri, options, metadata=metadata, read_dictionary=chosen) as file:
            wanted = sorted(names) if self.layout.is_addressable else None
            probe = next(file.iter_batches(1, [self.group], columns=wanted, use_threads=False), None)
            num_rows = metadata.row_group(self.group).num_rows
            largest = sum(map(longest_repeated, probe.columns)) if probe is not None else 0
            if largest * num_rows <= MAX_REPEATED_BYTES:
                yield from self._decoded(columns, sizes)
                return
            wanted = None if len(columns) == len(self.layout.names) else columns
            rows = _rows_at_once(sum(sizes[name] for name in columns), num_rows, TARGET_BATCH_BYTES)
            for batch in file.iter_batches(rows, [self.group], columns=wanted, use_threads=False):
                for part in split_decoded(Batch.from_arrow(batch), DECODED_BATCH_BYTES):
                    arrays = [column.data for column in part.columns if isinstance(column.data, pa.Array)]
                    for name, array in zip(batch.schema.names, arrays, strict=True):
                        what = f"one value of {plain(repr(name))} in row group {self.group}"
                        if part.num_rows == 1:
                            check_bytes(self.unit.uri, decoded_bytes(array), options.max_bytes_at_once, what)
                    if not self.by_columns:
                        # Whole rows are written again, in the types that they had. A cast decodes the values of all rows
                        # that a list shares its values with, so that these rows are copied first.
                        rows_of_part = np.arange(part.num_rows)
                        arrays = [
                            take_rows(array, rows_of_part).cast(field.type)
                            for array, field in zip(arrays, fields, strict=True)
                        ]
                    yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    def _decoded(self, columns: list[str], sizes: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        """Columns of the row group: all at once if that takes little memory, else streamed."""
        file, group = self.file, self.group
        num_rows = file.metadata.row_group(group).num_rows
        wanted = None if len(columns) == len(self.layout.names) else columns
        total = sum(sizes[name] for name in dict.fromkeys(columns))
        of_rows = SCANNED_ROW_BATCH_BYTES if self.unit.options.keep_going else ROW_BATCH_BYTES
        if total <= (STREAM_ABOVE_BYTES if self.by_columns else of_rows):
            table = file.read_row_group(group, columns=wanted, use_threads=False)
            # Each column is one chunk, unless a string column is too long for that; batches then follow the common chunks.
            yield from table.to_batches() or [_no_rows(self.schema, columns)]
            return
        rows = _rows_at_once(total, num_rows, TARGET_BATCH_BYTES if self.by_columns else of_rows)
        buffer_bytes = min(MAX_BUFFER_BYTES, max(MIN_BUFFER_BYTES, STREAM_BUFFER_BYTES // max(1, len(columns))))
        uri, options = self.unit.uri, self.unit.options
        with _open_again(uri, options, metadata=file.metadata, buffer_size=buffer_bytes) as streamed:
            yield from streamed.iter_batches(batch_size=rows, row_groups=[group], columns=wanted, use_threads=False)


def _rows_at_once(num_bytes: int, num_rows: int, target: int) -> int:
    row_bytes = max(1.0, num_bytes / max(1, num_rows))
    return max(1, int(min(1024, MAX_BYTES_OF_ROWS / row_bytes)), int(target / row_bytes))


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a type is, or contains, text or bytes of any length."""
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_bytes(kind.storage_type)
    if is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or kind == pa.binary_view():
        return True
    if pa.types.is_dictionary(kind):
        return False
    return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))
