"""Several arrays as safetensors, with bfloat16 and float8 dtypes. Does not need the safetensors package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, ClassVar

from datacheck.batch import Column
from datacheck.errors import OutputError
from datacheck.sinks.arrays import Array, StoredArray, safetensors_dtype, write_safetensors
from datacheck.sinks.buffered_arrays import BufferedArraysWriter
from datacheck.sinks.columns import cannot_hold, column_name, logical_dtype, numpy_array
from datacheck.sinks.writer import WriterSink


class SafetensorsWriter(BufferedArraysWriter):
    """Writes one safetensors file."""

    format: ClassVar[str] = "safetensors"

    def checked_name(self, column: Column) -> str:
        if column_name(column) == "__metadata__":
            raise OutputError("safetensors cannot hold an array named '__metadata__', a reserved name; rename it")
        return super().checked_name(column)

    def checked_array(self, column: Column) -> Array:
        values = numpy_array(column)
        if safetensors_dtype(values.dtype, logical_dtype(column)) is None:
            raise cannot_hold(column, values.dtype, "safetensors cannot hold it; npy, npz and, for tables, parquet can")
        return values.astype(values.dtype.newbyteorder("<"), copy=False)

    def assemble(self, file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
        write_safetensors(file, arrays)


class SafetensorsSink(WriterSink):
    """Writes safetensors, byte for byte as its library does; big-endian arrays become little-endian."""

    format: ClassVar[str] = "safetensors"
    suffix: ClassVar[str] = ".safetensors"
    writer = SafetensorsWriter
