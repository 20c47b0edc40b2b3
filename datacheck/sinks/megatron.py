"""Megatron: the ids of kept sequences one after the other, and an index beside them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.errors import OutputError
from datacheck.sinks.writer import FileWriter, WriterSink
from datacheck.sources.tokens import INDEX_MAGIC, TOKENS

_CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "float64": 6, "float32": 7, "uint16": 8}
_BIN, _INDEX = ".bin", ".idx"


class MegatronSink(WriterSink):
    """Writes ``.bin`` and ``.idx``."""

    format: ClassVar[str] = "megatron"
    suffix: ClassVar[str] = _BIN
    #: Files that are written beside the one with ``suffix``, from the same rows.
    more_suffixes: ClassVar[tuple[str, ...]] = (_INDEX,)

    def open(self, uri: str, template: Batch) -> FileWriter:
        return _IndexWriter(uri, template) if uri.endswith(_INDEX) else _BinWriter(uri, template)


def _ids_of(batch: Batch) -> pa.Array:
    data: Any = next((column.data for column in batch.columns if column.name == TOKENS), None)
    is_list = isinstance(data, pa.Array) and (pa.types.is_large_list(data.type) or pa.types.is_list(data.type))
    if not is_list or str(data.type.value_type.to_pandas_dtype().__name__) not in _CODES:
        raise OutputError(
            "megatron: expected a column 'tokens' of lists of numbers; parquet and arrow can hold other rows"
        )
    return data


class _BinWriter(FileWriter):
    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        _ids_of(template)
        self._file = self._open()

    def _write(self, batch: Batch) -> None:
        self._file.write(np.ascontiguousarray(_ids_of(batch).flatten().to_numpy(zero_copy_only=False)).tobytes())


class _IndexWriter(FileWriter):
    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        self._dtype = np.dtype(_ids_of(template).type.value_type.to_pandas_dtype())
        self._lengths: list[np.ndarray[Any, Any]] = []
        self._documents: list[np.ndarray[Any, Any]] = []
        self._file = self._open()

    def _write(self, batch: Batch) -> None:
        offsets = _ids_of(batch).offsets.to_numpy(zero_copy_only=False)
        self._lengths.append(np.diff(offsets))
        numbers: Any = next((column.data for column in batch.columns if column.name == "document"), None)
        # Without documents, each sequence is one.
        single = np.arange(batch.num_rows) + sum(map(len, self._documents))
        self._documents.append(single if numbers is None else numbers.to_numpy(zero_copy_only=False))

    def _finish(self) -> None:
        lengths = np.concatenate([np.empty(0, np.int64), *self._lengths])
        documents = np.concatenate([np.empty(0, np.int64), *self._documents])
        pointers = (np.cumsum(lengths) - lengths) * self._dtype.itemsize
        begins = np.flatnonzero(np.diff(documents, prepend=-1) != 0) if len(documents) else np.empty(0, np.int64)
        starts = np.append(begins, len(lengths))
        self._file.write(INDEX_MAGIC + (1).to_bytes(8, "little") + bytes([_CODES[self._dtype.name]]))
        self._file.write(len(lengths).to_bytes(8, "little") + len(starts).to_bytes(8, "little"))
        for values, dtype in ((lengths, "<i4"), (pointers, "<i8"), (starts, "<i8")):
            self._file.write(values.astype(dtype).tobytes())
