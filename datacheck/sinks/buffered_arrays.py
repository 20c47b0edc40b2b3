"""Writing several arrays batch by batch in a format that stores each array contiguously."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import BinaryIO, ClassVar

from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.sinks.arrays import Array, Segment, StoredArray, raw_bytes
from datacheck.sinks.columns import check_types, column_name, logical_dtype, numpy_array
from datacheck.sinks.writer import FileWriter
from datacheck.text import plain


class BufferedArraysWriter(FileWriter):
    """Buffers batches in a temporary file, from which it assembles the part when it is closed.

    Memory is bounded by one batch; the disk holds the values twice until the part is closed.
    """

    format: ClassVar[str]

    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        self._names = [self.checked_name(column) for column in template.columns]
        duplicates = sorted({name for name in self._names if self._names.count(name) > 1})
        if duplicates:
            raise OutputError(
                f"{self.format} cannot hold two arrays named '{plain(duplicates[0])}'; rename or drop one"
            )
        arrays = [self.checked_array(column) for column in template.columns]
        self._kinds = [(array.dtype, array.shape[1:]) for array in arrays]
        self._logical = [logical_dtype(column) for column in template.columns]
        self._segments: list[list[Segment]] = [[] for _ in arrays]
        self._is_sample = template.is_sample
        self._num_rows = 0
        self._num_buffered = 0
        self._buffer = self._open_buffer()
        self._file = self._open()

    def checked_name(self, column: Column) -> str:
        """The array's name; raises ``OutputError`` if the format cannot hold it."""
        name = column_name(column)
        try:
            name.encode()
        except UnicodeEncodeError:
            raise OutputError(
                f"{self.format} cannot hold an array named '{plain(name)}': the name is not valid Unicode"
            ) from None
        return name

    def checked_array(self, column: Column) -> Array:
        """The array as the format stores it; raises ``OutputError`` if it cannot."""
        return numpy_array(column)

    @abstractmethod
    def assemble(self, file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
        """Write the whole part."""

    def _write(self, batch: Batch) -> None:
        arrays = [self.checked_array(column) for column in batch.columns]
        check_types(batch, [(array.dtype, array.shape[1:]) for array in arrays], self._kinds)
        for array, segments in zip(arrays, self._segments, strict=True):
            self._buffer.write(raw_bytes(array))
            segments.append(Segment(self._buffer, self._num_buffered, array.nbytes))
            self._num_buffered += array.nbytes
        self._num_rows += batch.num_rows

    def _finish(self) -> None:
        arrays = [
            StoredArray(name, dtype, row_shape, self._num_rows, tuple(segments), logical, self._is_sample)
            for name, (dtype, row_shape), segments, logical in zip(
                self._names, self._kinds, self._segments, self._logical, strict=True
            )
        ]
        self.assemble(self._file, arrays)
