"""TFRecord: records that were not repaired are copied byte for byte, the others serialized again, always in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.sinks.columns import arrow_array, column_name
from datacheck.sinks.writer import FileWriter, WriterSink
from datacheck.sources.tf_example import sequence_class
from datacheck.sources.tfrecord import frame
from datacheck.text import plain

_HEADER_BYTES, _CHECKSUM_BYTES = 12, 4


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

    def _records(self, batch: Batch) -> Iterator[bytes]:
        kept = None if batch.raw is None else batch.raw.array
        changed = [_Feature(column) for column in batch.columns if kept is None or column.is_new]
        for row in range(batch.num_rows):
            whole: bytes = b"" if kept is None else kept[row].as_py()
            if kept is not None and not changed and not batch.dropped:
                yield whole
                continue
            # An example is a sequence without steps, byte for byte.
            example = sequence_class().FromString(whole[_HEADER_BYTES:-_CHECKSUM_BYTES])
            before = example.SerializeToString(deterministic=True)
            for name in batch.dropped:
                example.context.feature.pop(name, None)
                example.feature_lists.feature_list.pop(name, None)
            for feature in changed:
                feature.put(example, row)
            after = example.SerializeToString(deterministic=True)
            yield whole if whole and after == before else frame(after, self._crc32c)


class TfrecordSink(WriterSink):
    """Writes ``.tfrecord``, one ``tf.train.Example`` a row, or ``SequenceExample`` if it has lists of lists."""

    format: ClassVar[str] = "tfrecord"
    suffix: ClassVar[str] = ".tfrecord"
    writer = _Writer


def _kind_of(column: Column) -> tuple[str, bool]:
    """The list of a feature that holds a column, and whether its rows are steps; raises ``OutputError`` if none can."""
    kind, lengths = arrow_array(column).type, []
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths.append(kind.list_size if pa.types.is_fixed_size_list(kind) else None)
        kind = kind.value_type
    is_steps = len(lengths) > 1 and None in lengths
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        found = "int64_list"
    elif kind in (pa.float16(), pa.float32()):
        found = "float_list"
    elif any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    ):
        found = "bytes_list"
    else:
        found = ""
    if not found or (is_steps and len(lengths) > 2):
        what = f"which is {arrow_array(column).type if found else kind}; {'' if found else 'cast it, or '}write parquet"
        raise OutputError(f"tfrecord cannot hold '{plain(column_name(column))}', {what}")
    return found, is_steps


class _Feature:
    """The values of a column, to be put into records."""

    def __init__(self, column: Column) -> None:
        self._name, self._array = column_name(column), arrow_array(column)
        self._kind, self._is_steps = _kind_of(column)

    def put(self, example: Any, row: int) -> None:
        value = self._array[row].as_py()
        if value is None:
            return
        if self._is_steps:
            steps = example.feature_lists.feature_list[self._name].feature
            del steps[:]
            for step in value:
                self._put(steps.add(), step)
        else:
            values = [value] if not isinstance(value, list) else np.array(value, object).reshape(-1).tolist()
            self._put(example.context.feature[self._name], values)

    def _put(self, feature: Any, values: list[Any]) -> None:
        if None in values:
            raise OutputError(f"tfrecord cannot hold the nulls in '{plain(self._name)}'; impute them, or write parquet")
        held = getattr(feature, self._kind)
        del held.value[:]
        held.value.extend(one.encode() if isinstance(one, str) else one for one in values)
        held.SetInParent()
