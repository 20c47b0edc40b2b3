"""Writing several arrays batch by batch into a format that wants each of them in one piece."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, ClassVar

from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.sinks.arrays import Array, Segment, StoredArray, raw_bytes
from datacheck.sinks.columns import check_types, column_name, logical_dtype, numpy_array
from datacheck.sinks.writer import FileWriter
from datacheck.storage.atomic import partial_path
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

__all__ = ["SpoolingWriter"]


class SpoolingWriter(FileWriter):
    """Writes batches to one temporary file as they come, and puts the part together from it at the end.

    Memory is bounded by a batch; the disk holds the values twice until the part is closed.
    """

    format: ClassVar[str]

    def __init__(self, path: Path, template: Batch) -> None:
        super().__init__(path)
        self._names = [self.checked_name(column) for column in template.columns]
        duplicates = sorted({name for name in self._names if self._names.count(name) > 1})
        if duplicates:
            raise OutputError(
                f"two arrays are called '{plain(duplicates[0])}', which {self.format} cannot hold; rename or drop one"
            )
        arrays = [self.checked_array(column) for column in template.columns]
        self._kinds = [(array.dtype, array.shape[1:]) for array in arrays]
        self._logical = [logical_dtype(column) for column in template.columns]
        self._segments: list[list[Segment]] = [[] for _ in arrays]
        self._num_rows = 0
        self._spooled = 0
        self._spool_path = partial_path(path.with_name(path.name + ".spool"))
        with output_errors(path):
            self._spool = self._spool_path.open("xb")

    def checked_name(self, column: Column) -> str:
        """The array's name; raises ``OutputError`` where the format cannot hold it."""
        name = column_name(column)
        try:
            name.encode()
        except UnicodeEncodeError:
            raise OutputError(
                f"{self.format} cannot hold an array called '{plain(name)}': its name is no valid text"
            ) from None
        return name

    def checked_array(self, column: Column) -> Array:
        """The array as the format stores it; raises ``OutputError`` where it cannot."""
        return numpy_array(column)

    @abstractmethod
    def assemble(self, file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
        """Write the whole part."""

    def _write(self, batch: Batch) -> None:
        arrays = [self.checked_array(column) for column in batch.columns]
        check_types(batch, [(array.dtype, array.shape[1:]) for array in arrays], self._kinds)
        for array, segments in zip(arrays, self._segments, strict=True):
            self._spool.write(raw_bytes(array))
            segments.append(Segment(self._spool_path, self._spooled, array.nbytes))
            self._spooled += array.nbytes
        self._num_rows += batch.num_rows

    def _finish(self) -> None:
        self._spool.close()
        arrays = [
            StoredArray(name, dtype, row_shape, self._num_rows, tuple(segments), logical)
            for name, (dtype, row_shape), segments, logical in zip(
                self._names, self._kinds, self._segments, self._logical, strict=True
            )
        ]
        with self.partial.open("xb") as file:
            self.assemble(file, arrays)
        self._spool_path.unlink()

    def _discard(self) -> None:
        with suppress(OSError):
            self._spool.close()
        with suppress(OSError):
            self._spool_path.unlink()
