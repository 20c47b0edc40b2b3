"""Arrow IPC files (Feather version 2), a record batch for each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import holds_union
from datacheck.batch import Batch
from datacheck.errors import OutputError
from datacheck.leaves import arrow_validity
from datacheck.sinks.columns import arrow_batch, arrow_schema
from datacheck.sinks.options import TableSink
from datacheck.sinks.writer import FileWriter
from datacheck.text import plain


class ArrowWriter(FileWriter):
    """Writes one Arrow IPC file.

    Values under nulls are arbitrary memory and are written as zeros, so that the same data gives the same bytes. A file
    has one dictionary per column, so batches with different dictionaries extend it with deltas.
    """

    def __init__(
        self, uri: str, template: Batch, compression: str, metadata: dict[str | bytes, str | bytes] | None
    ) -> None:
        super().__init__(uri)
        self.schema = arrow_schema(template, metadata)
        self._dictionaries: dict[int, pa.Array] = {}
        options = pa.ipc.IpcWriteOptions(
            compression=None if compression == "none" else compression, emit_dictionary_deltas=True
        )
        file = self._open()
        with self._guarded():
            self._writer = pa.ipc.new_file(file, self.schema, options=options)

    def _write(self, batch: Batch) -> None:
        self.write_arrow(arrow_batch(batch, self.schema))

    def write_arrow(self, batch: pa.RecordBatch) -> None:
        """Append an Arrow record batch of the writer's schema."""
        if not batch.num_rows:
            return
        arrays = [self._prepared(index, array) for index, array in enumerate(batch.columns)]
        try:
            self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
        except pa.ArrowInvalid as error:
            raise OutputError(f"arrow cannot hold the data: {plain(str(error))}; parquet can") from error

    def _prepared(self, index: int, array: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(array.type):
            array = self._with_common_dictionary(index, array)
        return with_zeros_under_nulls(array)

    def _with_common_dictionary(self, index: int, array: pa.DictionaryArray) -> pa.Array:
        known = self._dictionaries.get(index)
        if known is None or known.equals(array.dictionary):
            self._dictionaries[index] = array.dictionary
            return array
        new = array.dictionary.filter(pc.invert(pc.is_in(array.dictionary, value_set=known)))
        common = pa.concat_arrays([known, pc.unique(new)])
        positions = pc.index_in(array.dictionary, value_set=common)
        try:
            indices = positions.take(array.indices).cast(array.type.index_type)
        except pa.ArrowInvalid:
            raise OutputError(
                f"column '{plain(self.schema.field(index).name)}' has {len(common):,} categories in total, more than its"
                f" {array.type.index_type} indices can address; parquet can hold it"
            ) from None
        self._dictionaries[index] = common
        return pa.DictionaryArray.from_arrays(indices, common, ordered=array.type.ordered)

    def _finish(self) -> None:
        self._writer.close()


@dataclass(frozen=True, slots=True)
class ArrowSink(TableSink):
    """Writes Arrow IPC files: ``compression`` is none (the default, so that readers can map the file), lz4 or zstd."""

    format: ClassVar[str] = "arrow"
    suffix: ClassVar[str] = ".arrow"
    compressions: ClassVar[tuple[str, ...]] = ("lz4", "none", "zstd")
    writer = ArrowWriter


def with_zeros_under_nulls(array: pa.Array) -> pa.Array:
    """The array with zeros in its null slots, also inside structs, fixed-size lists and extension types.

    Null slots of variable-length lists and strings are empty, or hold what their reader wrote there. What contains unions
    stays as it is.
    """
    kind = array.type
    if holds_union(kind):
        return array
    if isinstance(kind, pa.BaseExtensionType):
        storage = with_zeros_under_nulls(array.storage)
        return array if storage is array.storage else pa.ExtensionArray.from_storage(kind, storage)
    if not _may_have_nulls(array):
        return array
    if pa.types.is_dictionary(kind):
        indices = with_zeros_under_nulls(array.indices)
        return pa.DictionaryArray.from_arrays(indices, array.dictionary, ordered=kind.ordered)
    if pa.types.is_struct(kind):
        # ``flatten`` propagates the struct's nulls to its children.
        children = [with_zeros_under_nulls(child) for child in array.flatten()]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if pa.types.is_fixed_size_list(kind):
        if not kind.list_size:
            return array
        # Taking a null gives null children, whose slots can then be zeroed too.
        rows = array.take(pc.if_else(array.is_valid(), pa.array(np.arange(len(array))), None))
        values = rows.values.slice(rows.offset * kind.list_size, len(rows) * kind.list_size)
        return pa.FixedSizeListArray.from_arrays(with_zeros_under_nulls(values), type=kind, mask=array.is_null())
    return _zeroed(array)


def _may_have_nulls(array: pa.Array) -> bool:
    if array.null_count:
        return True
    kind = array.type
    if pa.types.is_struct(kind):
        return any(_may_have_nulls(child) for child in array.flatten())
    return bool(pa.types.is_fixed_size_list(kind) and _may_have_nulls(array.flatten()))


def _zeroed(array: pa.Array) -> pa.Array:
    """A fixed-width array with zeros in its null slots; any other array unchanged."""
    kind = array.type
    if pa.types.is_boolean(kind):
        values = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
        return pa.array(values, mask=array.is_null().to_numpy(zero_copy_only=False))
    if not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind)):
        return array
    valid, size = arrow_validity(array), kind.bit_width // 8
    data = array.buffers()[1]
    if data is None or valid is None or not size:
        return array
    raw = np.frombuffer(data, np.uint8, count=(array.offset + len(array)) * size)[array.offset * size :]
    cleared = raw.reshape(len(array), size) * valid[:, None]
    validity = np.packbits(valid, bitorder="little")
    return pa.Array.from_buffers(kind, len(array), [pa.py_buffer(validity), pa.py_buffer(cleared)])
