"""MDS shards: kept samples are copied byte for byte, repaired fields re-encoded, and an index names the shards of a split."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.sinks.columns import arrow_array, cannot_hold, column_name, row_values
from datacheck.sinks.json_patch import ABSENT, patched
from datacheck.sinks.writer import FileWriter, WriterSink, write_file
from datacheck.sources.sample_encodings import MDS_DTYPES, mds_array_header
from datacheck.sources.sample_shards import MDS_LAYOUT, split_sample
from datacheck.storage import open_file
from datacheck.text import plain

_MAX_BYTES = (1 << 32) - 1
#: MDS's names for the numbers of Arrow, and its encodings for other types.
_DTYPES = {pa.from_numpy_dtype(np.dtype(kind)): name for name, kind in MDS_DTYPES.items() if name != "int"}
_KINDS: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "str": (pa.types.is_string, pa.types.is_large_string),
    "bytes": (pa.types.is_binary, pa.types.is_large_binary),
    "json": (pa.types.is_struct, pa.types.is_list, pa.types.is_large_list),
}
#: How values that are stored as text are read.
_TEXTS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "str_int": int,
    "str_float": float,
    "str_decimal": float,
}


class _Writer(FileWriter):
    """Buffers the samples in a temporary file: the place of each comes before the first."""

    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        layout = {} if template.raw is None else json.loads(template.raw.layout)
        self._copied = list(zip(*(layout[key] for key in MDS_LAYOUT), strict=True)) if layout else []
        names = {name for name, *_ in self._copied}
        new = [column for column in template.columns if column_name(column) not in names]
        self._fields = [field for field in self._copied if field[0] not in template.dropped]
        self._fields += [(column_name(column), *_encoding_of(column)) for column in new]
        self._new = {column_name(column) for column in new}
        self._lengths: list[int] = []
        self._buffer = self._open_buffer()
        self._file = self._open()

    def _write(self, batch: Batch) -> None:
        columns = {column_name(column): column for column in batch.columns}
        changed = {name: row_values(one) for name, one in columns.items() if one.is_new or name in self._new}
        for row in range(batch.num_rows):
            sample = b"" if batch.raw is None else batch.raw.array[row].as_py()
            if changed or batch.dropped:
                sample = self._encoded(sample, {name: value(row) for name, value in changed.items()})
            self._buffer.write(sample)
            self._lengths.append(len(sample))

    def _encoded(self, sample: bytes, changed: dict[str, Any]) -> bytes:
        """A sample with the new values of some fields, and without those that are dropped."""
        sizes = [(name, size) for name, _, size in self._copied]
        before = {
            name: bytes(part) for (name, _), part in zip(sizes, split_sample(memoryview(sample), sizes), strict=True)
        }
        parts = [
            _encoded(name, kind, changed[name], before.get(name)) if name in changed else before[name]
            for name, kind, _ in self._fields
        ]
        own_sizes = [len(part) for part, (*_, size) in zip(parts, self._fields, strict=True) if size is None]
        return np.array(own_sizes, "<u4").tobytes() + b"".join(parts)

    def _finish(self) -> None:
        layout = dict(zip(MDS_LAYOUT, map(list, zip(*self._fields, strict=True)), strict=True))
        config = {"version": 2, "format": "mds", "compression": None, "hashes": [], "size_limit": None, **layout}
        header = json.dumps(config, sort_keys=True).encode()
        start = 4 * (len(self._lengths) + 2) + len(header)
        places = np.cumsum([start, *self._lengths])
        if places[-1] > _MAX_BYTES:
            raise OutputError(
                f"an MDS shard has at most {_MAX_BYTES:,} bytes, and these are {places[-1]:,}; write parquet"
            )
        self._file.write(len(self._lengths).to_bytes(4, "little") + places.astype("<u4").tobytes() + header)
        self._buffer.seek(0)
        while chunk := self._buffer.read(1 << 20):
            self._file.write(chunk)


class MdsSink(WriterSink):
    """Writes shards of MosaicML Streaming."""

    format: ClassVar[str] = "mds"
    suffix: ClassVar[str] = ".mds"
    writer = _Writer


def _encoding_of(column: Column) -> tuple[str, int | None]:
    """The encoding of a column that no MDS index describes, and how many bytes a value has, if all have as many."""
    kind = arrow_array(column).type
    tensor = isinstance(kind, pa.FixedShapeTensorType)
    shape = tuple(kind.shape) if tensor else (kind.list_size,) if pa.types.is_fixed_size_list(kind) else ()
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    number = _DTYPES.get(kind.value_type if shape or is_list else kind) if column.dtype is None else None
    if number is not None and is_list:
        return f"ndarray:{number}", None
    if number is not None:
        size = math.prod(shape) * np.dtype(number).itemsize
        return (f"ndarray:{number}:{','.join(map(str, shape))}" if shape else number), size
    for encoding, tests in _KINDS.items():
        if any(test(kind) for test in tests):
            return encoding, None
    raise cannot_hold(column, kind, "MDS has no encoding for it: cast it, or write parquet")


def _encoded(name: str, kind: str, value: Any, before: bytes | None) -> bytes:
    """The bytes of a value; ``before`` are those that it had in its shard."""
    encoding, _, arguments = kind.partition(":")
    if value is None and (before is not None or encoding == "json"):
        return b"null" if before is None else before
    if value is None:
        raise OutputError(f"MDS cannot hold the null in '{plain(name)}'; impute it or drop the row, or write parquet")
    if encoding == "ndarray":
        values = np.array(value)
        # One axis, whose length takes 8 bytes.
        header = bytes([4 | 3]) + len(values).to_bytes(8, "little") if ":" not in arguments else b""
        data = memoryview(header if before is None else before)
        dtype, _, start = mds_array_header(arguments, data)
        return bytes(data[:start]) + values.astype(dtype).tobytes()
    if parse := _TEXTS.get(encoding):
        old = ABSENT if before is None else parse(before)
        new = patched(old, value)
        if new is old and before is not None:
            return before
        return (json.dumps(new, ensure_ascii=False) if encoding == "json" else str(new)).encode()
    if encoding in MDS_DTYPES:
        return np.array(value, MDS_DTYPES[encoding]).tobytes()
    return value.encode() if isinstance(value, str) else bytes(value)


def write_index(uri: str, shards: Sequence[tuple[str, str]]) -> int:
    """Write the index of shards, each given by its name in the index and its place; returns its size in bytes."""
    records = []
    for name, place in shards:
        with open_file(place) as file:
            count, num_bytes = int.from_bytes(file.read_at(0, 4), "little"), file.seek(0, 2)
            start = 4 * (count + 2)
            config = json.loads(file.read_at(start, int.from_bytes(file.read_at(4, 4), "little") - start))
        raw = {"basename": name, "bytes": num_bytes, "hashes": {}}
        records.append({**config, "raw_data": raw, "samples": count, "zip_data": None})
    content = json.dumps({"shards": records, "version": 2}, sort_keys=True).encode()

    def fill(file: BinaryIO) -> None:
        file.write(content)

    return write_file(uri, fill)
