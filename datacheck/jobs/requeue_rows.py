"""The rows of a quarantine, and the fixed rows that replace them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import is_text
from datacheck.batch import RAW_NAME, Batch, Column
from datacheck.errors import SourceError, UsageError, nearest_name
from datacheck.formats import format_of_name, get_format
from datacheck.jobs.executors.isolated import Isolated
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.reading_for_schema import text_dtypes
from datacheck.jobs.requeue_shards import batch_of_shard, keys_of_samples, table_of_shard
from datacheck.jobs.units.scan import lost_error
from datacheck.leaves import IntArray
from datacheck.publishing.output_names import QUARANTINE, ROWS, stem_of
from datacheck.sinks.columns import arrow_batch, arrow_schema
from datacheck.sinks.concatenate import supports_concatenation
from datacheck.sinks.quarantine import NUMPY_KEY, restored_array
from datacheck.sources.base import ReadOptions, WorkUnit
from datacheck.sources.detect import get_source, source_for
from datacheck.sources.discover import InputFile
from datacheck.sources.json_lines import read_records
from datacheck.sources.memory import batches_of
from datacheck.storage import storage_of
from datacheck.storage.base import Fingerprint
from datacheck.text import join_limited, plain

#: The columns that a quarantine has after the data's columns.
_NUM_EXTRA = 5
_IS_SAMPLE = "is one sample ('rows: file'): give its fixed file, not a row of a table"
#: Formats that an output can have more files of.
_FORMATS = ("arrow", "csv", "parquet")
#: The formats whose quarantine has the records as they are in the file.
_LINES, _SHARDS = "jsonl", ("tar", "tfrecord")


@dataclass(frozen=True, slots=True)
class QuarantinedRows:
    """The quarantined rows of one input: for each file its name in the output, its table, and the column with the row."""

    tables: tuple[tuple[str, pa.Table, str], ...]


@dataclass(frozen=True, slots=True)
class FixedRows:
    """The fixed rows of one input: the index of its account, the rows of the input, and the data as one batch of them.

    ``format`` is the output's, ``stems`` are the names of the published files without their suffixes.
    """

    account: int
    rows: IntArray
    batch: Batch
    format: str
    stems: tuple[str, ...]


def read_quarantined(output: str, manifest: Mapping[str, Any]) -> list[QuarantinedRows]:
    """The quarantine of each input of a run, in the order of its manifest."""
    found = []
    for account in manifest["inputs"]:
        tables = []
        for part in account["outputs"]:
            if part["kind"] == QUARANTINE and part["path"].endswith(".parquet") and account["rows"] != "file":
                uri = f"{output}/{part['path']}"
                with storage_of(uri).open(uri) as file:
                    table = pq.read_table(file)
                tables.append((part["path"], table, table.column_names[-1]))
        found.append(QuarantinedRows(tuple(tables)))
    return found


def read_fixed(
    fixed: Any, quarantined: Sequence[QuarantinedRows], pipeline: Pipeline, manifest: Mapping[str, Any]
) -> list[FixedRows]:
    """The fixed rows in files (``InputFile``) or in memory, by input and in the order of its rows, in the types of the output.

    Raises ``UsageError`` for rows that are not in the quarantine, or given twice, and for tables that lack a column.
    """
    accounts = manifest["inputs"]
    uris = [str(account["uri"]) for account in accounts]
    places = [_rows_of(one) for one in quarantined]
    by_input: dict[int, list[tuple[pa.Table, str]]] = {}
    for uri, table in _tables_of(fixed, quarantined):
        file_column, row_column = _identity_columns(table, uri)
        names, rows = table[file_column].to_pylist(), table[row_column].to_pylist()
        chosen: dict[int, list[int]] = {}
        for position, (name, row) in enumerate(zip(names, rows, strict=True)):
            where = f"{plain(uri)}: row {position}"
            if name not in uris:
                hint = nearest_name(str(name), uris)
                raise UsageError(f"{where}: {plain(str(name))!r} is not an input of this output{hint}")
            index = uris.index(name)
            if accounts[index].get("rows") == "file":
                raise UsageError(f"{where}: {plain(str(name))} {_IS_SAMPLE}")
            if row not in places[index]:
                raise UsageError(
                    f"{where}: row {row} of {plain(str(name))} is not in quarantine: it was taken back, or was never there"
                )
            chosen.setdefault(index, []).append(position)
        for index, positions in chosen.items():
            by_input.setdefault(index, []).append((table.take(positions), row_column))
    if not by_input:
        raise UsageError("the files hold no rows; nothing was changed")
    types = _output_types(pipeline, manifest)
    return [
        _fixed_rows(index, tables, quarantined[index], pipeline, accounts[index], types)
        for index, tables in sorted(by_input.items())
    ]


def _rows_of(quarantined: QuarantinedRows) -> set[int]:
    return {row for _, table, column in quarantined.tables for row in table[column].to_pylist()}


def _tables_of(fixed: Any, quarantined: Sequence[QuarantinedRows]) -> Iterator[tuple[str, pa.Table]]:
    """The tables in files, each with its path, or the one in memory."""
    if isinstance(fixed, list) and all(isinstance(file, InputFile) for file in fixed):
        samples: dict[str, list[tuple[str, int]]] = {}
        for file in fixed:
            record = get_format(file.format) if file.format else format_of_name(file.uri)
            if record is not None and record.name == "tar":
                samples = samples or keys_of_samples(one for some in quarantined for one in some.tables)
                yield file.uri, table_of_shard(file, samples)
            else:
                yield file.uri, Isolated(_read, _lost)(file)
        return
    uri, batches = batches_of(fixed)
    yield uri, _as_table(list(batches))


def _as_table(batches: Sequence[Batch]) -> pa.Table:
    tables = [pa.Table.from_batches([arrow_batch(batch, arrow_schema(batch))]) for batch in batches]
    return pa.concat_tables(tables, promote_options="permissive")


def _read(file: InputFile) -> pa.Table:
    """A whole file as a table; raises ``UsageError`` if it cannot be read."""
    try:
        info = source_for(file.uri, file.format).inspect(file.uri, ReadOptions())
        batches = [batch for unit in info.units for batch in get_source(info.format).read(unit)]
        if not get_format(info.format).is_tabular or any(batch.malformed for batch in batches):
            raise UsageError(f"{plain(file.uri)}: expected a table of fixed rows, in Parquet, Arrow or CSV")
        return _as_table(batches)
    except SourceError as error:
        raise UsageError(str(error)) from None


def _lost(file: InputFile) -> pa.Table:
    raise UsageError(str(lost_error(file.uri)))


def _identity_columns(table: pa.Table, uri: str) -> tuple[str, str]:
    """The columns that say which rows they are."""
    for prefix in ("datacheck_", ""):
        names = (f"{prefix}file", f"{prefix}row")
        if all(name in table.column_names for name in names):
            return names
    raise UsageError(
        f"{plain(uri)}: has no columns 'file' and 'row', which say where each row belongs; keep the quarantine's columns"
    )


def _output_types(pipeline: Pipeline, manifest: Mapping[str, Any]) -> dict[str, pa.DataType]:
    """The types of the columns that were published, if they are tables."""
    for account in manifest["inputs"]:
        for part in account["outputs"]:
            record = format_of_name(part["path"])
            if part["kind"] != ROWS or record is None or not record.is_tabular:
                continue
            uri = f"{pipeline.output}/{part['path']}"
            info = source_for(uri).inspect(uri, replace(ReadOptions(), dtypes=text_dtypes(pipeline.schema)))
            first = next(iter(get_source(info.format).read(info.units[0])), None)
            if first is not None:
                schema = arrow_schema(first)
                return dict(zip(schema.names, schema.types, strict=True))
    return {}


def _fixed_rows(
    index: int,
    tables: Sequence[tuple[pa.Table, str]],
    quarantined: QuarantinedRows,
    pipeline: Pipeline,
    account: Mapping[str, Any],
    types: Mapping[str, pa.DataType],
) -> FixedRows:
    uri = str(account["uri"])
    _, template, _ = quarantined.tables[0]
    published = [part["path"] for part in account["outputs"] if part["kind"] == ROWS and not part.get("rows")]
    own_format = _output_format(published[0] if published else uri)
    format_ = pipeline.format or own_format
    names = template.column_names[:-_NUM_EXTRA]
    # Records may be published as the rows of a table.
    kind = (_output_format(uri) or own_format) if names == [RAW_NAME] else ""
    if format_ not in _FORMATS and not supports_concatenation(format_) and not (format_ == kind in (_LINES, *_SHARDS)):
        raise UsageError(
            f"{plain(uri)}: rows of {format_ or 'this format'} cannot be added to its output; put the fixed rows into a"
            " separate file, add it to the inputs, and run the pipeline again"
        )
    rows, whole = _in_order(tables, names, template, types, uri)
    if kind in _SHARDS:
        batch = replace(batch_of_shard(whole[RAW_NAME], kind, pipeline, uri), rows=rows)
    elif kind == _LINES:
        batch = _batch_of_records(whole[RAW_NAME], template[RAW_NAME], rows, pipeline, uri)
    else:
        whole = _with_missing(whole, rows, quarantined)
        batch = replace(_batch_of_table(whole, template.schema), rows=rows)
    if kind in (_LINES, *_SHARDS) and format_ != kind:
        batch = batch.with_columns(tuple(_as_published(column, types) for column in batch.columns))
    first = next(part["path"] for part in account["outputs"] if part["kind"] == QUARANTINE)
    stems = [stem_of(path) for path in published or [first]]
    return FixedRows(index, rows, batch, format_, tuple(stems))


def _output_format(uri: str) -> str:
    """The format of cleaned files of a file; empty if its name does not say it."""
    record = format_of_name(uri)
    return "" if record is None else record.output_name


def _as_published(column: Column, types: Mapping[str, pa.DataType]) -> Column:
    """A column of records in the type that the table has: it was found in all records of a file, and these are some."""
    kind = types.get(column.name or "")
    if kind is None or isinstance(column.data, np.ndarray) or column.unconvertible is not None:
        return column
    return replace(column, data=_cast(pa.chunked_array([column.data]), kind, column.name or "").combine_chunks())


def _kinds_of_arrays(schema: pa.Schema) -> dict[str, Any]:
    """What is known of each NumPy array in a quarantine."""
    return dict(json.loads((schema.metadata or {}).get(NUMPY_KEY, b"{}")))


def _batch_of_table(whole: pa.Table, stored: pa.Schema) -> Batch:
    """A table as a batch, with NumPy arrays where the input had them."""
    (batch,) = (Batch.from_arrow(part) for part in whole.to_batches())
    kinds = _kinds_of_arrays(stored)
    columns = [
        restored_array(whole[name], stored.field(name), kinds[name]) if name in kinds else column
        for name, column in zip(whole.column_names, batch.columns, strict=True)
    ]
    return batch.with_columns(tuple(columns))


def _in_order(
    tables: Sequence[tuple[pa.Table, str]],
    names: Sequence[str],
    template: pa.Table,
    types: Mapping[str, pa.DataType],
    uri: str,
) -> tuple[IntArray, pa.Table]:
    """The numbers of the fixed rows of an input, ascending, and their columns in the types of the output."""
    # A text table has the cells of a column as they were, where some of them did not convert.
    own = [template.schema.field(name).type for name in names]
    kinds = [types.get(name, kind) if is_text(kind) else kind for name, kind in zip(names, own, strict=True)]
    parts, numbers = [], []
    arrays = _kinds_of_arrays(template.schema)
    for table, row_column in tables:
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise UsageError(f"the fixed rows of {plain(uri)} have no column {join_limited(missing)}")
        columns = [
            table[name] if name in arrays else _cast(table[name], kind, name)
            for name, kind in zip(names, kinds, strict=True)
        ]
        parts.append(pa.Table.from_arrays(columns, names=names))
        numbers.append(table[row_column].to_numpy().astype(np.int64))
    rows = np.concatenate(numbers)
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    if (twice := rows[1:][rows[1:] == rows[:-1]]).size:
        raise UsageError(f"row {twice[0]} of {plain(uri)} is given twice; keep one of them")
    return rows, pa.concat_tables(parts).take(pa.array(order)).combine_chunks()


def _with_missing(whole: pa.Table, rows: IntArray, quarantined: QuarantinedRows) -> pa.Table:
    """The table with the null or NaN of the quarantine where it has either: pandas and CSV do not tell them apart."""
    for _, table, row_column in quarantined.tables:
        places = pc.index_in(pa.array(rows), value_set=table[row_column].combine_chunks())
        for index, name in enumerate(whole.column_names):
            values = whole[name]
            if pa.types.is_floating(values.type) and table[name].type == values.type:
                before = table[name].combine_chunks().take(places)
                stays = pc.and_(pc.is_valid(places), pc.and_(_is_missing(values), _is_missing(before)))
                whole = whole.set_column(index, name, pc.if_else(stays, before, values))
    return whole.combine_chunks()


def _is_missing(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.is_null(values, nan_is_null=True)


def _batch_of_records(
    records: pa.ChunkedArray, quarantined: pa.ChunkedArray, rows: IntArray, pipeline: Pipeline, uri: str
) -> Batch:
    """Records of JSON Lines, parsed in the same way as the file's."""
    lines = []
    for row, record in zip(rows.tolist(), records.to_pylist(), strict=True):
        line = (record or b"").strip()
        if not line:
            raise UsageError(f"row {row} of {plain(uri)} has no {RAW_NAME!r}; write the whole record as JSON")
        if b"\n" in line:
            try:
                json.loads(line)
            except ValueError as error:
                raise UsageError(f"row {row} of {plain(uri)}: {RAW_NAME!r} is not JSON: {error}") from None
            # JSON has line breaks between its parts only.
            line = line.replace(b"\n", b" ")
        lines.append(line + b"\n")
    are_objects = any(line.startswith(b"{") for line in [*lines, *filter(None, quarantined.to_pylist())])
    options = replace(ReadOptions(), dtypes=text_dtypes(pipeline.schema))
    unit = WorkUnit(uri, _LINES, 0, Fingerprint(0), options=options)
    batch, *others = read_records(unit, b"".join(lines), are_objects=are_objects)
    if others:
        raise UsageError(
            f"the fixed records of {plain(uri)} have too many different keys; give fewer of them at a time"
        )
    malformed = tuple(replace(line, row=int(rows[line.row]), line=None) for line in batch.malformed)
    return replace(
        batch, rows=rows[batch.file_rows(np.arange(batch.num_rows))], malformed=malformed, line_start=None, lines=None
    )


def _cast(column: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    """A column in the type that was published; raises ``UsageError`` for a value that it cannot hold."""
    if column.type == kind:
        return column
    plain_kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    try:
        if is_text(column.type) and not is_text(plain_kind):
            column = pc.utf8_trim_whitespace(column)
        cast = column.cast(plain_kind)
        return cast.dictionary_encode().cast(kind) if plain_kind is not kind else cast
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f"column {plain(name)!r} of the fixed rows is {column.type}, and the output has {kind}: {plain(str(error), 120)}"
        ) from None
