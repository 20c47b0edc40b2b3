"""Parquet files. Row groups consist of whole batches and hold about a million rows or 32 MiB, whichever comes first."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.arrow_layouts import num_bytes_of
from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.sinks.columns import arrow_batch, arrow_schema, cannot_hold
from datacheck.sinks.options import TableSink
from datacheck.sinks.writer import FileWriter
from datacheck.text import plain

ROW_GROUP_ROWS = 1 << 20
ROW_GROUP_BYTES = 32 << 20
#: How many values are sampled to decide about dictionary encoding, and the share of distinct values that rules it out.
_SAMPLE = 8192
_DISTINCT_SHARE = 0.9
_HOLDER = "parquet cannot hold it, arrow can"


class ParquetWriter(FileWriter):
    """Writes one Parquet file. Holds at most one row group in memory, as the batches it was given, without a copy."""

    def __init__(
        self, uri: str, template: Batch, compression: str, metadata: dict[str | bytes, str | bytes] | None
    ) -> None:
        super().__init__(uri)
        self.schema = arrow_schema(template, metadata)
        self._compression = compression
        self._paths = leaf_paths(self.schema, template.columns)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._file = self._open()

    def _write(self, batch: Batch) -> None:
        self.write_arrow(arrow_batch(batch, self.schema))

    def write_arrow(self, batch: pa.RecordBatch) -> None:
        """Append an Arrow record batch of the writer's schema."""
        if not batch.num_rows:
            return
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += _num_bytes(batch)
        if self._pending_rows >= ROW_GROUP_ROWS or self._pending_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._pending, self.schema)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if self._writer is None:
            self._writer = self._start(table)
        try:
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise OutputError(f"parquet cannot hold the data: {plain(str(error))}; arrow can") from error

    def _start(self, table: pa.Table) -> pq.ParquetWriter:
        dictionary = _dictionary_columns(table, self._paths)
        return pq.ParquetWriter(self._file, self.schema, compression=self._compression, use_dictionary=dictionary)

    def _finish(self) -> None:
        if self._pending:
            self._flush()
        if self._writer is None:
            self._writer = self._start(self.schema.empty_table())
        self._writer.close()

    def _discard(self) -> None:
        self._pending = []
        if self._writer is not None:
            # Otherwise its finalizer would write a footer to the removed file.
            self._writer.is_open = False


@dataclass(frozen=True, slots=True)
class ParquetSink(TableSink):
    """Writes Parquet: ``compression`` is snappy (the default), zstd, lz4, gzip, brotli or none.

    Columns of nearly all distinct numbers are not dictionary-encoded: building and discarding a dictionary would take
    longer than all the rest.
    """

    format: ClassVar[str] = "parquet"
    suffix: ClassVar[str] = ".parquet"
    compressions: ClassVar[tuple[str, ...]] = ("brotli", "gzip", "lz4", "none", "snappy", "zstd")
    writer = ParquetWriter
    compression: str = "snappy"


def _num_bytes(batch: pa.RecordBatch) -> int:
    try:
        return num_bytes_of(batch)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return int(batch.get_total_buffer_size())


def leaf_paths(schema: pa.Schema, columns: tuple[Column, ...]) -> list[list[str]]:
    """The Parquet paths of each column's leaves; raises ``OutputError`` for a type that Parquet cannot hold."""
    try:
        paths = _paths(schema)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        for column, arrow_field in zip(columns, schema, strict=True):
            try:
                _paths(pa.schema([arrow_field]))
            except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
                raise cannot_hold(column, arrow_field.type, _HOLDER) from None
        raise
    if len(paths) == len(schema):
        return [[path] for path in paths]
    remaining = iter(paths)
    return [[next(remaining) for _ in _paths(pa.schema([arrow_field]))] for arrow_field in schema]


@functools.lru_cache(maxsize=64)
def _paths(schema: pa.Schema) -> tuple[str, ...]:
    buffer = io.BytesIO()
    pq.ParquetWriter(buffer, schema).close()
    parquet_schema = pq.ParquetFile(io.BytesIO(buffer.getvalue())).schema
    return tuple(parquet_schema.column(index).path for index in range(len(parquet_schema)))


def _dictionary_columns(table: pa.Table, paths: list[list[str]]) -> bool | list[str]:
    """Which leaves to dictionary-encode: True for all of them."""
    plain_encoded = {
        path[0] for column, path in zip(table.columns, paths, strict=True) if len(path) == 1 and _is_diverse(column)
    }
    return [path for group in paths for path in group if path not in plain_encoded] if plain_encoded else True


def _is_diverse(column: pa.ChunkedArray) -> bool:
    """Whether nearly all numbers of a column are distinct, estimated from a sample of its first chunk."""
    if not column.num_chunks:
        return False
    chunk = column.chunk(0)
    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    if pa.types.is_fixed_size_list(chunk.type):
        chunk = chunk.flatten()
    kind = chunk.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or len(chunk) - chunk.null_count < _SAMPLE:
        return False
    dtype = np.dtype(f"u{kind.bit_width // 8}")
    bits = np.frombuffer(chunk.buffers()[1], dtype, count=chunk.offset + len(chunk))[chunk.offset :]
    # Sorting so few takes a fraction of the time of np.unique, which hashes them.
    sample = np.sort(bits[:: len(bits) // _SAMPLE])
    num_distinct = 1 + int(np.count_nonzero(sample[1:] != sample[:-1]))
    return num_distinct >= _DISTINCT_SHARE * len(sample)
