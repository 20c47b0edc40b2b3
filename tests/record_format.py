"""Two small formats of another package: a table of float64 columns, and one float64 array.

``.rec`` is a magic, the length of a JSON header, the header ``{"names": [...], "num_rows": n}``, and the columns one after
the other. ``.vec`` is a magic and the values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO, ClassVar

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.formats import Format
from datacheck.sinks.arrays import Segment, StoredArray
from datacheck.sinks.concatenate import Concatenator
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of, split_rows
from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors
from datacheck.storage import open_file, storage_of

REC_MAGIC, VEC_MAGIC = b"RECORDS1", b"VECTOR01"

REC = Format(
    name="rec",
    suffixes=(".rec",),
    magic=(REC_MAGIC,),
    source=f"{__name__}:RecSource",
    sink=f"{__name__}:RecSink",
    is_tabular=True,
)
VEC = Format(
    name="vec",
    suffixes=(".vec",),
    magic=(VEC_MAGIC,),
    source=f"{__name__}:VecSource",
    sink=f"{__name__}:VecSink",
    concatenator=f"{__name__}:JOIN_VEC",
    is_one_array=True,
)


class RecSource:
    format: ClassVar[str] = "rec"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        _, num_rows, _ = _read_header(uri)
        unit = WorkUnit(uri, self.format, 0, fingerprint, 0, num_rows, options=options)
        return InputInfo(uri, self.format, fingerprint.size, num_rows, (unit,))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        names, num_rows, start = _read_header(unit.uri)
        wanted = unit.options.columns
        with open_file(unit.uri) as file:
            columns = [
                Column(name, np.frombuffer(file.read_at(start + 8 * num_rows * index, 8 * num_rows)))
                for index, name in enumerate(names)
                if wanted is None or name in wanted
            ]
        yield Batch(tuple(columns), num_rows)


def _read_header(uri: str) -> tuple[list[str], int, int]:
    with open_file(uri) as file:
        assert file.read(8) == REC_MAGIC
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return header["names"], header["num_rows"], 16 + length


def rec_bytes(columns: dict[str, np.ndarray]) -> bytes:  # type: ignore[type-arg]
    num_rows = len(next(iter(columns.values())))
    header = json.dumps({"names": list(columns), "num_rows": num_rows}).encode()
    return b"".join(
        [REC_MAGIC, len(header).to_bytes(8, "little"), header, *(values.tobytes() for values in columns.values())]
    )


class _Writer:
    """Keeps the batches of a part until it is closed."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._batches: list[Batch] = []

    def write(self, batch: Batch) -> None:
        self._batches.append(batch)

    def close(self) -> int:
        columns: dict[str, list[np.ndarray]] = {}  # type: ignore[type-arg]
        for batch in self._batches:
            for column in batch.columns:
                columns.setdefault(str(column.name), []).append(np.asarray(column.data, np.float64))
        content = self._content({name: np.concatenate(parts) for name, parts in columns.items()})
        storage_of(self._uri).put(self._uri, content)
        return len(content)

    def abort(self) -> None:
        storage_of(self._uri).delete(self._uri)

    def _content(self, columns: dict[str, np.ndarray]) -> bytes:  # type: ignore[type-arg]
        return rec_bytes(columns)


class RecSink:
    format: ClassVar[str] = "rec"
    suffix: ClassVar[str] = ".rec"

    def open(self, uri: str, template: Batch) -> _Writer:
        return _Writer(uri)


class VecSource:
    format: ClassVar[str] = "vec"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        num_rows = (fingerprint.size - 8) // 8
        units = tuple(
            WorkUnit(uri, self.format, index, fingerprint, start, count, options=options)
            for index, (start, count) in enumerate(split_rows(num_rows, 8))
        )
        return InputInfo(uri, self.format, fingerprint.size, num_rows, units)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        count = unit.num_rows or 0
        with open_file(unit.uri) as file:
            values = np.frombuffer(file.read_at(8 + 8 * unit.row_start, 8 * count))
        yield Batch((Column(None, values),), count, unit.row_start)


class _VecWriter(_Writer):
    def _content(self, columns: dict[str, np.ndarray]) -> bytes:  # type: ignore[type-arg]
        (values,) = columns.values()
        return VEC_MAGIC + values.tobytes()


class VecSink:
    format: ClassVar[str] = "vec"
    suffix: ClassVar[str] = ".vec"

    def open(self, uri: str, template: Batch) -> _VecWriter:
        return _VecWriter(uri)


def _read_part(part: str, file: BinaryIO) -> list[StoredArray]:
    size = file.seek(0, 2) - len(VEC_MAGIC)
    return [StoredArray("array", np.dtype(np.float64), (), size // 8, (Segment(part, len(VEC_MAGIC), size),))]


def _write_joined(file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
    file.write(VEC_MAGIC)
    for segment in arrays[0].segments:
        assert isinstance(segment.source, str)
        with open_file(segment.source) as part:
            file.write(part.read_at(segment.offset, segment.size))


JOIN_VEC = Concatenator(_read_part, _write_joined)
