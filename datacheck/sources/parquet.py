"""Parquet: units are row groups; a scan reads a few columns at a time, a cleaning run whole rows.

Statistics in the footer prove nothing: Parquet's minimum and maximum ignore NaN.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.base import (
    TARGET_BATCH_BYTES,
    TARGET_UNIT_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
)
from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors
from datacheck.storage.base import DataFile, Fingerprint
from datacheck.storage.registry import open_file, storage_of

__all__ = ["ParquetSource"]

#: Decoded bytes of the columns that a scan reads together: few enough to be in the cache when they are checked.
COLUMN_GROUP_BYTES = 4 << 20
#: Above this, columns of a row group that a scan reads together are streamed instead of read at once.
STREAM_ABOVE_BYTES = 2 * TARGET_UNIT_BYTES
#: Decoded bytes of a batch of whole rows: cleaning keeps several copies of each worker's batch.
ROW_BATCH_BYTES = TARGET_BATCH_BYTES // 2
#: Bytes that streamed columns read ahead: all of them together, and the minimum and maximum for one.
STREAM_BUFFER_BYTES = TARGET_BATCH_BYTES // 2
MIN_BUFFER_BYTES, MAX_BUFFER_BYTES = 64 << 10, 1 << 20


class ParquetSource:
    """Reads Parquet files in bounded memory."""

    format: ClassVar[str] = "parquet"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        metadata = _open(uri, fingerprint).metadata
        sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        units: list[WorkUnit] = []
        row_start = 0
        for groups in _grouped(sizes) or [[]]:
            num_rows = sum(counts[group] for group in groups)
            units.append(
                WorkUnit(uri, self.format, len(units), fingerprint, row_start, num_rows, tuple(groups), options=options)
            )
            row_start += num_rows
        return InputInfo(uri, self.format, fingerprint.size, row_start, tuple(units))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        return _read(unit)


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

    key: tuple[str, Fingerprint] | None = None
    file: pq.ParquetFile = None


_last_opened = _LastOpened()


def _path_or_file(uri: str) -> str | DataFile:
    """The local path, which pyarrow reads without going through Python, or else the open file."""
    path = storage_of(uri).local_path(uri)
    return open_file(uri) if path is None else path


def _open(uri: str, fingerprint: Fingerprint) -> pq.ParquetFile:
    if _last_opened.key == (uri, fingerprint):
        return _last_opened.file
    try:
        # Not memory-mapped: truncating the file while it is read would kill the process with SIGBUS.
        file = pq.ParquetFile(_path_or_file(uri), pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        if "ncrypt" not in str(error) and "decrypt" not in str(error):
            raise
        problem = str(error).strip().splitlines()[0]
        raise SourceError("DC905", uri, problem, "decrypt it first: datacheck does not take keys") from None
    if _last_opened.file is not None:
        _last_opened.file.close()
    _last_opened.key, _last_opened.file = (uri, fingerprint), file
    return file


def _read(unit: WorkUnit) -> Iterator[Batch]:
    file = _open(unit.uri, unit.fingerprint)
    schema, metadata = file.schema_arrow, file.metadata
    names = schema.names if unit.options.columns is None else [n for n in schema.names if n in unit.options.columns]
    if not unit.row_groups:
        yield Batch.from_arrow(_no_rows(schema, names))
        return
    by_columns = unit.options.by_columns and _addressable(schema)
    is_nested = any(field.type.num_fields or pa.types.is_dictionary(field.type) for field in schema)
    row_start = unit.row_start
    for group in unit.row_groups:
        row_group = metadata.row_group(group)
        sizes = _column_bytes(row_group, schema)
        for columns in _column_groups(sizes, names) if by_columns else [names]:
            is_first = not by_columns or columns[0] == names[0]
            start = row_start
            for batch in _batches(file, unit.uri, group, columns, sizes, by_columns=by_columns):
                if is_nested:
                    # The offsets and indices of a damaged file may be out of range.
                    batch.validate(full=True)
                yield Batch.from_arrow(batch, start, group, counts_rows=is_first)
                start += batch.num_rows
        row_start += row_group.num_rows


def _no_rows(schema: pa.Schema, names: list[str]) -> pa.RecordBatch:
    fields = [field for field in schema if field.name in set(names)]
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in fields], schema=pa.schema(fields))


def _addressable(schema: pa.Schema) -> bool:
    """Whether each column can be selected by name: no duplicates, none with a dot (a path in Parquet)."""
    names = schema.names
    return bool(names) and len(set(names)) == len(names) and not any("." in name for name in names)


def _column_bytes(row_group: Any, schema: pa.Schema) -> dict[str, int]:
    """Decoded bytes of each top-level column of a row group, estimated from its size and the types.

    The footer has sizes by column, but pyarrow crashes the process if that part of it is encrypted or damaged.
    """
    sizes = dict.fromkeys(schema.names, 0)
    widths = [_row_bytes(field.type) for field in schema]
    share = row_group.total_byte_size / max(1, widths.count(None))
    for name, width in zip(schema.names, widths, strict=True):
        # A dictionary-encoded column decodes to more than its share of the size.
        sizes[name] += int(max(share, row_group.num_rows)) if width is None else width * row_group.num_rows
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


def _batches(
    file: pq.ParquetFile, uri: str, group: int, columns: list[str], sizes: Mapping[str, int], *, by_columns: bool
) -> Iterator[pa.RecordBatch]:
    """Columns of a row group: all at once if that takes little memory, else streamed."""
    schema, num_rows = file.schema_arrow, file.metadata.row_group(group).num_rows
    wanted = None if len(columns) == len(schema.names) else columns
    total = sum(sizes[name] for name in dict.fromkeys(columns))
    if total <= (STREAM_ABOVE_BYTES if by_columns else ROW_BATCH_BYTES):
        table = file.read_row_group(group, columns=wanted, use_threads=False)
        # Each column is one chunk, unless a string column is too long for that; batches then follow the common chunks.
        yield from table.to_batches() or [_no_rows(schema, columns)]
        return
    target = TARGET_BATCH_BYTES if by_columns else ROW_BATCH_BYTES
    rows = max(1024, int(target / max(1.0, total / max(1, num_rows))))
    buffer_bytes = min(MAX_BUFFER_BYTES, max(MIN_BUFFER_BYTES, STREAM_BUFFER_BYTES // max(1, len(columns))))
    with pq.ParquetFile(
        _path_or_file(uri), metadata=file.metadata, pre_buffer=False, buffer_size=buffer_bytes
    ) as streamed:
        yield from streamed.iter_batches(batch_size=rows, row_groups=[group], columns=wanted, use_threads=False)
