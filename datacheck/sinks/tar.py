"""WebDataset shards: kept samples are copied byte for byte, headers included, and repaired members are rewritten."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import python_value
from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.sinks.columns import arrow_array, column_name
from datacheck.sinks.json_patch import patched
from datacheck.sinks.writer import FileWriter, WriterSink
from datacheck.sources.tar import split_name
from datacheck.sources.tar_members import BLOCK, Member, header_with_size, read_members
from datacheck.text import plain

#: The end of an archive.
_END = bytes(2 * BLOCK)


class _Writer(FileWriter):
    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        if template.raw is None:
            raise OutputError("only samples of tar shards can be written as tar; parquet and arrow can hold other rows")
        self._file = self._open()

    def _write(self, batch: Batch) -> None:
        assert batch.raw is not None
        changed = {column_name(column): column for column in batch.columns if column.is_new}
        for row, content in enumerate(_samples(batch.raw.array)):
            if content is None:
                raise OutputError(
                    f"the sample in row {row} has a member that is too large to be copied; drop or quarantine it"
                )
            if changed or batch.dropped:
                content = memoryview(_rewritten(bytes(content), row, changed, batch.dropped))
            self._file.write(content)

    def _finish(self) -> None:
        self._file.write(_END)


class TarSink(WriterSink):
    """Writes shards."""

    format: ClassVar[str] = "tar"
    suffix: ClassVar[str] = ".tar"
    writer = _Writer


def _samples(array: pa.Array) -> Iterator[memoryview | None]:
    """The values of a binary array. They are large, and the scalars of Arrow would be copies."""
    array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    view = memoryview(data or b"")
    for is_valid, start, end in zip(array.is_valid(), ends, ends[1:], strict=False):
        yield view[start:end] if is_valid.as_py() else None


def _rewritten(raw: bytes, row: int, changed: dict[str, Column], dropped: tuple[str, ...]) -> bytes:
    """A sample with the members of repaired columns rewritten and of dropped columns left out."""
    parts = []
    for member in read_members(io.BytesIO(raw + _END), len(raw)):
        assert isinstance(member, Member)
        named = split_name(member.name)
        suffix = "" if named is None else named[1]
        if suffix in dropped:
            continue
        if suffix in changed and member.data is not None:
            content = _encoded(suffix, bytes(member.data), python_value(arrow_array(changed[suffix])[row]))
            if content != member.data:
                *before, header, _ = member.raw
                parts += [*before, header_with_size(header, len(content)), content, bytes(-len(content) % BLOCK)]
                continue
        parts += member.raw
    return b"".join(parts)


def _encoded(suffix: str, before: bytes, value: Any) -> bytes:
    kind = suffix.rpartition(".")[2]
    if value is None:
        return before
    if kind == "npy":
        stream = io.BytesIO()
        array = np.load(io.BytesIO(before), allow_pickle=False)
        order: Literal["C", "F"] = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        # The values of a column are in the order of the memory.
        np.save(stream, np.array(value, array.dtype).reshape(array.shape, order=order), allow_pickle=False)
        return stream.getvalue()
    if kind == "json":
        old = json.loads(before)
        new = patched(old, value)
        return before if new is old else json.dumps(new, ensure_ascii=False).encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | int):
        return before if before.strip() == str(value).encode() else str(value).encode()
    raise OutputError(f"a repaired member {plain(suffix)!r} cannot be written into a shard")
