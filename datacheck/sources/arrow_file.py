"""Arrow IPC files (``.arrow``, Feather V2) and streams (``.arrows``, and the ``.arrow`` of Hugging Face datasets).

Memory-mapped. Units are ranges of record batches; a record batch larger than a unit is sliced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from datacheck.arrow_layouts import no_rows, num_bytes_of, validate, viewed_bytes
from datacheck.batch import Batch, Column
from datacheck.errors import SourceError
from datacheck.sources.arrow_messages import IpcContents, read_ipc_contents
from datacheck.sources.base import (
    TARGET_BATCH_BYTES,
    TARGET_UNIT_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
    split_rows,
)
from datacheck.sources.error_translation import (
    check_bytes,
    check_expansion,
    check_members,
    check_rows,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.storage.registry import library_path, open_file

_MAGIC = b"ARROW1"
#: Smaller record batches are concatenated, so that the checks' fixed costs are paid once.
JOIN_BELOW_BYTES = 4 << 20


class ArrowSource:
    """Reads Arrow IPC files and streams."""

    format: ClassVar[str] = "arrow"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        is_stream = _is_stream(uri)
        with _open_file(uri) as source:
            contents = read_ipc_contents(uri, source, is_stream=is_stream)
        with _open_reader(uri, options) as (reader, _, _):
            check_members(uri, len(reader.schema), options.max_members, "columns")
            if not is_stream and reader.num_record_batches != len(contents.batches):
                num_batches = len(contents.batches)
                problem = f"its footer lists {reader.num_record_batches} record batches, but the file has {num_batches}"
                raise SourceError("DC901", uri, problem, "rewrite the file")
        num_rows = sum(batch.num_rows for batch in contents.batches)
        check_expansion(uri, contents.num_bytes, fingerprint.size, len(contents.batches), options)
        check_bytes(uri, contents.bytes_at_once, options.max_bytes_at_once, "its largest record batch")
        check_rows(uri, num_rows, contents.num_bytes)
        units = tuple(
            WorkUnit(
                uri, self.format, index, fingerprint, start, count, (first,), row_group_starts=(at,), options=options
            )
            for index, (start, count, first, at) in enumerate(_plan_units(contents, is_stream))
        )
        return InputInfo(uri, self.format, fingerprint.size, num_rows, units)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        with _open_reader(unit.uri, unit.options) as (reader, columns, unreadable):
            start = unit.row_start
            for batch in _join_small(_read_slices(reader, unit, columns)):
                yield _with_unreadable(Batch.from_arrow(batch, start), unreadable)
                start += batch.num_rows
            if start != unit.row_start + (unit.num_rows or 0):
                raise SourceError(
                    "DC901", unit.uri, "its record batches do not have the rows that they claim", "rewrite the file"
                )
            if start == unit.row_start:
                batch = Batch.from_arrow(no_rows(reader.schema.field(index) for index in columns), start)
                yield _with_unreadable(batch, unreadable)


def _with_unreadable(batch: Batch, names: list[str]) -> Batch:
    """The batch with a column for each that pyarrow cannot read."""
    if not names:
        return batch
    data, problem = np.zeros(batch.num_rows, np.uint8), "pyarrow cannot read its Arrow type"
    return batch.with_columns((*batch.columns, *(Column(name, data, "unknown", problem) for name in names)))


def _is_stream(uri: str) -> bool:
    with open_file(uri) as file:
        head = file.read(8)
    if head.startswith(b"FEA1"):
        problem = "it is Feather V1, which is not supported"
        remedy = "rewrite it with pyarrow.feather.write_feather(..., version=2)"
        raise SourceError("DC901", uri, problem, remedy)
    return not head.startswith(_MAGIC)


def _open_file(uri: str) -> pa.NativeFile:
    """The file, mapped where it has a local path."""
    path = library_path(uri)
    return pa.PythonFile(open_file(uri), "r") if path is None else pa.memory_map(path)


@contextmanager
def _open_reader(uri: str, options: ReadOptions) -> Iterator[tuple[Any, list[int], list[str]]]:
    """A reader of the requested columns, their positions in its batches, and the names of those that it cannot read."""
    with _open_file(uri) as source:
        open_reader = ipc.open_stream if _is_stream(uri) else ipc.open_file
        reader = open_reader(source)
        names = reader.schema.names
        wanted = [index for index, name in enumerate(names) if options.columns is None or name in options.columns]
        readable = [index for index in wanted if _is_readable(reader.schema, index)]
        if len(readable) == len(names):
            yield reader, readable, []
            return
        # Arrow always reads some column.
        if readable or len(wanted) > len(readable):
            source.seek(0)
            reader = open_reader(source, options=ipc.IpcReadOptions(included_fields=readable or [0]))
        yield reader, list(range(len(readable))), [names[index] for index in wanted if index not in readable]


def _is_readable(fields: pa.Schema | pa.DataType, index: int) -> bool:
    """Whether pyarrow has the type of a field. Decodes every name inside it, so that an invalid one raises here."""
    try:
        field = fields.field(index)
        str(field.name)
        kind = field.type
        if not kind.num_fields and not isinstance(kind, pa.BaseExtensionType):
            pa.nulls(0, kind)
    except (KeyError, pa.ArrowNotImplementedError):
        return False
    return all(_is_readable(kind, inner) for inner in range(kind.num_fields))


def _plan_units(contents: IpcContents, is_stream: bool) -> list[tuple[int, int, int, int]]:
    """Units of about ``TARGET_UNIT_BYTES``, as ``(row_start, num_rows, first batch, its first row)``."""
    batches = contents.batches
    num_rows = sum(batch.num_rows for batch in batches)
    if is_stream and any(batch.compressed for batch in batches):
        # Reading from the middle would decompress everything before.
        return [(0, num_rows, 0, 0)]
    parts: list[tuple[int, int, int, int]] = []
    held = TARGET_UNIT_BYTES + 1
    row = 0
    for index, batch in enumerate(batches):
        if batch.num_bytes > 2 * TARGET_UNIT_BYTES and not batch.compressed:
            for start, count in split_rows(batch.num_rows, batch.num_bytes / max(batch.num_rows, 1)):
                parts.append((row + start, count, index, row))
            held = TARGET_UNIT_BYTES + 1
        elif held + batch.num_bytes > TARGET_UNIT_BYTES:
            parts.append((row, batch.num_rows, index, row))
            held = batch.num_bytes
        else:
            start, count, first, at = parts[-1]
            parts[-1] = (start, count + batch.num_rows, first, at)
            held += batch.num_bytes
        row += batch.num_rows
    return parts or [(0, 0, 0, 0)]


def _read_slices(reader: Any, unit: WorkUnit, columns: list[int]) -> Iterator[pa.RecordBatch]:
    """The unit's rows of some columns, in validated record batches of about a batch's bytes."""
    row, stop = unit.row_group_starts[0], unit.row_start + (unit.num_rows or 0)
    for batch in _batches_from(reader, unit.row_groups[0]):
        if row >= stop:
            return
        begin, end = max(unit.row_start - row, 0), min(batch.num_rows, stop - row)
        if begin < end:
            # Validating follows every view, however often they show the same bytes.
            viewed = sum(map(viewed_bytes, batch.columns))
            check_bytes(unit.uri, viewed, unit.options.max_bytes_in_steps, "what its views show")
            # Not `nbytes`, which follows offsets that have not been validated yet.
            row_bytes = batch.get_total_buffer_size() / batch.num_rows
            chosen = batch.select(columns)
            for first, count in split_rows(end - begin, row_bytes, TARGET_BATCH_BYTES):
                piece = chosen.slice(begin + first, count)
                # Readers follow a file's offsets and indices without checking them.
                validate(piece)
                yield piece
        row += batch.num_rows


def _batches_from(reader: Any, first: int) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, ipc.RecordBatchFileReader):
        for index in range(first, reader.num_record_batches):
            yield reader.get_batch(index)
    else:
        for index, batch in enumerate(reader):
            if index >= first:
                yield batch


def _join_small(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, with runs of small batches concatenated."""
    held: list[pa.RecordBatch] = []
    held_bytes = 0
    for batch in batches:
        if held and held_bytes + num_bytes_of(batch) > JOIN_BELOW_BYTES:
            yield from _concatenate(held)
            held, held_bytes = [], 0
        held.append(batch)
        held_bytes += num_bytes_of(batch)
    if held:
        yield from _concatenate(held)


def _concatenate(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    if len(batches) == 1:
        return batches
    try:
        joined: list[pa.RecordBatch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    except pa.ArrowNotImplementedError:
        return batches
    return joined
