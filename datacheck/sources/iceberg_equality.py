"""Rows that an Iceberg table has deleted by their values: equality deletes.

Follows https://iceberg.apache.org/spec/#equality-delete-files: a row is deleted if its values in some columns are those of a
row in a file of deletes, where null equals null. Such a file is for older data files alone, of its partition if it has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.distinct import distinct
from datacheck.leaves import IntArray
from datacheck.sources.base import ReadOptions
from datacheck.sources.dataset_folders import log_error
from datacheck.sources.error_translation import check_bytes
from datacheck.sources.parquet_footer import check_footer
from datacheck.storage.registry import open_file
from datacheck.text import plain

_COMPACT = "compact the table first, or export the snapshot that you train on to plain Parquet"
#: The most rows that may be deleted by their values.
_MAX_KEYS = 1 << 20
_FIELD_ID = b"PARQUET:field_id"


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that a manifest lists: where it is, its record, and what decides which deletes are for which data.

    ``partition`` is its rows' partition, with the number of the specification; None for deletes that are for all partitions.
    """

    path: str
    record: Mapping[str, Any]
    sequence: int
    partition: tuple[int, str] | None

    def is_for(self, data: ListedFile) -> bool:
        """Whether these deletes by value are for a data file."""
        return self.sequence > data.sequence and self.partition in (None, data.partition)


def deleted_by_value(
    uri: str, files: Sequence[ListedFile], deletes: Sequence[ListedFile], options: ReadOptions
) -> Iterator[tuple[str, IntArray]]:
    """The rows of each Parquet data file that files of deletes name by their values; raises ``SourceError``."""
    keys: dict[str, pa.Table] = {}
    for one in deletes:
        if str(one.record["file_format"]).upper() != "PARQUET":
            kind = plain(str(one.record["file_format"]), 40)
            raise log_error(uri, f"its files of deleted values are {kind}, which is not supported", _COMPACT)
        wanted = {str(number): None for number in one.record.get("equality_ids") or ()}
        parts = list(_columns_by_id(one.path, wanted, options))
        if not wanted or not parts or len(parts[0][0].schema.names) != len(wanted):
            raise log_error(uri, f"{plain(one.path)} does not have the columns whose values it deletes", _COMPACT)
        keys[one.path] = pa.Table.from_batches([batch for batch, _ in parts])
        if sum(table.num_rows for table in keys.values()) > _MAX_KEYS:
            raise log_error(uri, f"more than {_MAX_KEYS:,} of its rows are deleted by their values", _COMPACT)
    for data in files:
        chosen = [keys[one.path] for one in deletes if one.is_for(data)]
        if chosen:
            yield data.path, _matching_rows(uri, data.path, chosen, options)


def _matching_rows(uri: str, path: str, keys: Sequence[pa.Table], options: ReadOptions) -> IntArray:
    # The name that a column has in a file of deletes finds it in a data file without numbers of fields.
    wanted = {
        name: _name_of(field) for table in keys for name, field in zip(table.column_names, table.schema, strict=True)
    }
    found, start = [np.empty(0, np.int64)], 0
    for batch, num_rows in _columns_by_id(path, wanted, options):
        for table in keys:
            columns = [
                batch.column(name) if name in batch.schema.names else pa.nulls(num_rows) for name in table.column_names
            ]
            found.append(start + _matches(uri, columns, table))
        start += num_rows
    return distinct(np.concatenate(found))


def _matches(uri: str, columns: Sequence[pa.Array], keys: pa.Table) -> IntArray:
    """The rows whose values in all columns are equal to one row of ``keys``."""
    own, others = [], []
    for column, key in zip(columns, keys.columns, strict=True):
        schemas = [pa.schema([pa.field("x", one.type)]) for one in (column, key)]
        kind = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        if pa.types.is_floating(kind) or pa.types.is_nested(kind):
            raise log_error(uri, f"its rows are deleted by values of {kind}, which is not applied", _COMPACT)
        own.append(column.cast(kind))
        others.append(key.combine_chunks().cast(kind))
    is_found = [pc.is_in(one, value_set=other, skip_nulls=False) for one, other in zip(own, others, strict=True)]
    rows = np.flatnonzero(np.logical_and.reduce([one.to_numpy(zero_copy_only=False) for one in is_found]))
    if len(own) == 1 or not len(rows):
        return rows
    deleted = set(zip(*(other.to_pylist() for other in others), strict=True))
    mine = zip(*(one.take(pa.array(rows)).to_pylist() for one in own), strict=True)
    return rows[[values in deleted for values in mine]]


def _name_of(field: pa.Field) -> str:
    metadata: dict[bytes, bytes] = field.metadata or {}
    return metadata.get(b"name", b"").decode()


def _columns_by_id(
    path: str, wanted: Mapping[str, str | None], options: ReadOptions
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The columns of a file that have these numbers, which become their names, or else these names; and the number of rows."""
    import pyarrow.parquet as pq

    check_footer(path, None, options)
    with open_file(path) as file, pq.ParquetFile(file, thrift_container_size_limit=options.max_members) as parquet:
        check_bytes(path, parquet.metadata.num_rows, options.max_bytes_in_steps, "a file of an Iceberg table")
        schema = parquet.schema_arrow
        numbers = {name: (schema.field(name).metadata or {}).get(_FIELD_ID, b"").decode() for name in schema.names}
        if not any(numbers.values()):
            numbers = {str(name): number for number, name in wanted.items()}
        chosen = [name for name in schema.names if numbers.get(name) in wanted]
        fields = [pa.field(numbers[name], schema.field(name).type, metadata={"name": name}) for name in chosen]
        # A file that has none of the columns still has rows.
        columns = chosen or schema.names[:1]
        for batch in parquet.iter_batches(1 << 16, columns=columns, use_threads=False):
            arrays = [batch.column(name) for name in chosen]
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)), batch.num_rows
