"""One array as ``.npy``, streamed: the header is rewritten at the end, when the number of rows is known."""

from __future__ import annotations

from typing import ClassVar

from datacheck.batch import Batch
from datacheck.errors import OutputError
from datacheck.sinks.arrays import npy_header, raw_bytes
from datacheck.sinks.columns import check_types, numpy_array
from datacheck.sinks.writer import FileWriter, WriterSink
from datacheck.text import join_limited


class NpyWriter(FileWriter):
    """Writes one ``.npy`` file."""

    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        if len(template.columns) != 1:
            names = join_limited([name or "" for name in template.names])
            raise OutputError(
                f"npy holds one array, got {len(template.columns)} columns ({names}); npz and safetensors hold several"
                " arrays, parquet holds a table"
            )
        values = numpy_array(template.columns[0])
        self._dtype, self._row_shape = values.dtype, values.shape[1:]
        self._is_sample = template.is_sample
        self._num_rows = 0
        self._file = self._open()
        with self._guarded():
            self._file.write(self._header())

    def _header(self) -> bytes:
        return npy_header(self._dtype, self._row_shape if self._is_sample else (self._num_rows, *self._row_shape))

    def _write(self, batch: Batch) -> None:
        arrays = [numpy_array(column) for column in batch.columns]
        check_types(batch, [(array.dtype, array.shape[1:]) for array in arrays], [(self._dtype, self._row_shape)])
        self._file.write(raw_bytes(arrays[0]))
        self._num_rows += len(arrays[0])

    def _finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())


class NpySink(WriterSink):
    """Writes ``.npy``: one array in C order, byte order preserved.

    bfloat16 and float8 are stored as unsigned integers, since the format has no dtype for them; a schema gives their
    dtype.
    """

    format: ClassVar[str] = "npy"
    suffix: ClassVar[str] = ".npy"
    writer = NpyWriter
