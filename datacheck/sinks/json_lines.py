"""JSON Lines: rows that were not repaired are copied byte for byte, and the others are rewritten.

JSON has neither NaN nor infinities. Where they were kept, they stay the words that they were (``NaN``, ``Infinity``), as
Python and pyarrow read them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np

from datacheck.batch import Batch
from datacheck.errors import OutputError
from datacheck.sinks.columns import column_name, row_values
from datacheck.sinks.json_patch import ABSENT, patched
from datacheck.sinks.writer import FileWriter, WriterSink
from datacheck.text import plain


class _Writer(FileWriter):
    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        for column in template.columns:
            if column.problem:
                raise OutputError(f"column '{plain(column_name(column))}' cannot be written as JSON: {column.problem}")
        self._file = self._open()

    def _write(self, batch: Batch) -> None:
        for line in _lines_of(batch):
            self._file.write(line)


class JsonLinesSink(WriterSink):
    """Writes JSON Lines, one object per row."""

    format: ClassVar[str] = "jsonl"
    suffix: ClassVar[str] = ".jsonl"
    writer = _Writer


def _lines_of(batch: Batch) -> Iterator[bytes]:
    if batch.raw is None:
        columns = [(column_name(column), row_values(column)) for column in batch.columns]
        for row in range(batch.num_rows):
            yield _line({name: values(row) for name, values in columns})
        return
    raw = batch.raw.array
    changed = [(column_name(column), row_values(column)) for column in batch.columns if column.is_new]
    if not changed and not batch.dropped:
        offsets = np.frombuffer(raw.buffers()[1], np.int64)[raw.offset : raw.offset + len(raw) + 1]
        yield memoryview(raw.buffers()[2])[int(offsets[0]) : int(offsets[-1])].tobytes() if len(raw) else b""
        return
    for row in range(batch.num_rows):
        line: bytes = raw[row].as_py()
        before = json.loads(line)
        is_object = isinstance(before, dict)
        record = before if is_object else {batch.columns[0].name: before}
        new = dict(record)
        for name in batch.dropped:
            new.pop(name, None)
        for name, values in changed:
            value = patched(new.get(name, ABSENT), values(row))
            if value is not ABSENT:
                new[name] = value
        is_same = len(new) == len(record) and all(new[name] is record.get(name, ABSENT) for name in new)
        yield line if is_same else _line(new if is_object else next(iter(new.values())))


def _line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False, default=_as_json).encode("utf-8", "backslashreplace") + b"\n"


def _as_json(value: Any) -> Any:
    """A value that JSON has no type for."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise OutputError(
        f"a value of type {type(value).__name__} cannot be written as JSON; parquet and arrow can hold it"
    )
