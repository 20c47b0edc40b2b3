"""TFRecord: records that were not repaired are copied byte for byte, the others serialized anew, always in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.sinks.columns import arrow_array, column_name
from datacheck.sinks.writer import FileWriter
from datacheck.sources.tf_example import example_class
from datacheck.sources.tfrecord import frame
from datacheck.text import plain

__all__ = ["TfrecordSink"]

_HEADER_BYTES, _CHECKSUM_BYTES = 12, 4


class TfrecordSink:
    """Writes ``.tfrecord``, one ``tf.train.Example`` a row."""

    format: ClassVar[str] = "tfrecord"
    suffix: ClassVar[str] = ".tfrecord"

    def open(self, uri: str, template: Batch) -> _Writer:
        return _Writer(uri, template)


class _Writer(FileWriter):
    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        try:
            import google.protobuf  # noqa: F401
            from google_crc32c import value
        except ImportError:
            raise OutputError(
                "google-crc32c and protobuf are required to write TFRecord: pip install 'datacheck-ml[tfrecord]'"
            ) from None
        self._crc32c: Callable[[bytes], int] = value
        for column in template.columns:
            if column.problem:
                raise OutputError(f"column '{plain(column_name(column))}' cannot be written: {column.problem}")
            _kind_of(column)
        self._file = self._open()

    def _write(self, batch: Batch) -> None:
        for record in self._records(batch):
            self._file.write(record)

    def _finish(self) -> None:
        pass

    def _records(self, batch: Batch) -> Iterator[bytes]:
        kept = None if batch.raw is None else batch.raw.array
        changed = [_Feature(column) for column in batch.columns if kept is None or column.is_new]
        for row in range(batch.num_rows):
            whole: bytes = b"" if kept is None else kept[row].as_py()
            if kept is not None and not changed and not batch.dropped:
                yield whole
                continue
            example = example_class().FromString(whole[_HEADER_BYTES:-_CHECKSUM_BYTES])
            for name in batch.dropped:
                example.features.feature.pop(name, None)
            for feature in changed:
                feature.put(example, row)
            yield frame(example.SerializeToString(deterministic=True), self._crc32c)


def _kind_of(column: Column) -> str:
    """The list of a feature that holds a column; raises ``OutputError`` if none can."""
    kind = arrow_array(column).type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "int64_list"
    if kind in (pa.float16(), pa.float32()):
        return "float_list"
    if any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    ):
        return "bytes_list"
    raise OutputError(
        f"tfrecord cannot hold '{plain(column_name(column))}', which is {kind}; cast it, or write parquet"
    )


class _Feature:
    """The values of a column, to be put into records."""

    def __init__(self, column: Column) -> None:
        self._name, self._kind, self._array = column_name(column), _kind_of(column), arrow_array(column)

    def put(self, example: Any, row: int) -> None:
        value = self._array[row].as_py()
        if value is None:
            return
        values = [value] if not isinstance(value, list) else np.array(value, object).reshape(-1).tolist()
        if self._kind == "bytes_list":
            values = [one.encode() if isinstance(one, str) else one for one in values]
        held = getattr(example.features.feature[self._name], self._kind)
        del held.value[:]
        held.value.extend(values)
