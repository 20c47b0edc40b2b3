"""Several arrays as ``.npz``: an uncompressed zip of ``.npy`` members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, ClassVar

from datacheck.batch import Column
from datacheck.errors import OutputError
from datacheck.sinks.arrays import Array, StoredArray, npy_header, write_npz
from datacheck.sinks.buffered_arrays import BufferedArraysWriter
from datacheck.sinks.columns import numpy_array
from datacheck.sinks.writer import WriterSink
from datacheck.text import plain

#: The longest name of a zip member, ``.npy`` included, in bytes.
_NAME_LIMIT = 65_535


class NpzWriter(BufferedArraysWriter):
    """Writes one ``.npz`` file."""

    format: ClassVar[str] = "npz"

    def checked_name(self, column: Column) -> str:
        name = super().checked_name(column)
        if "\0" in name or len(name.encode()) + len(".npy") > _NAME_LIMIT:
            raise OutputError(f"npz cannot hold an array named '{plain(name)}'; rename it, or write parquet")
        return name

    def checked_array(self, column: Column) -> Array:
        values = numpy_array(column)
        npy_header(values.dtype, values.shape)
        return values

    def assemble(self, file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
        write_npz(file, arrays)


class NpzSink(WriterSink):
    """Writes ``.npz``. bfloat16 and float8 are stored as unsigned integers, since the format has no dtype for them."""

    format: ClassVar[str] = "npz"
    suffix: ClassVar[str] = ".npz"
    writer = NpzWriter
