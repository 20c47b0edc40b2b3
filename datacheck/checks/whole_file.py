"""Checks that need all rows of a file: its batches are concatenated, within a bound, and judged as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.checks.base import Outcome
from datacheck.checks.row_checks import build_file_checks, may_be_in
from datacheck.checks.sample_arrays import SampleArrays
from datacheck.checks.sentinels import null_missing
from datacheck.schema.model import Schema
from datacheck.text import plain


@dataclass(frozen=True, slots=True)
class _Rows:
    """The batches with the same columns, in order."""

    batches: list[Batch]

    def with_row_groups(self, outcome: Outcome) -> Outcome:
        """The outcome with the row group of each example, and with rows of the file instead of the batch."""
        groups: dict[int, int | None] = {}
        wanted = {example.row for example in outcome.examples}
        for batch in self.batches:
            if batch.row_group is not None:
                found = batch.file_rows(np.arange(batch.num_rows, dtype=np.int64)).tolist()
                groups |= {row: batch.row_group for row in found if row in wanted}
        examples = tuple(replace(example, row_group=groups.get(example.row or 0)) for example in outcome.examples)
        return replace(outcome, examples=examples)


class WholeFile:
    """Collects the batches of one file, and runs the checks that need all of them.

    ``max_bytes`` bounds the decoded bytes of the columns that the checks need; None for data in memory already. Beyond
    it no check is run, and each is a finding (DC005).
    """

    def __init__(self, schema: Schema, max_bytes: int | None, *, is_table: bool = True) -> None:
        self._arrays = None if is_table else SampleArrays(schema, max_bytes)
        self.checks = build_file_checks(schema)
        self._schema = schema
        self._max_bytes = max_bytes
        self._groups: dict[tuple[str | None, ...], _Rows] = {}
        self._num_bytes = 0
        self._paths = [path for check in self.checks for path in check.paths or ()]
        self._needs_all = any(check.paths is None for check in self.checks)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns to read; None for all. A field inside a struct is in the column that its path begins with."""
        if self._needs_all or None in self._paths or self._arrays is not None:
            return None
        found: dict[str, None] = {}
        for path in filter(None, self._paths):
            found.update({path[:place]: None for place, letter in enumerate(path) if letter in ".["})
            found[path] = None
        return tuple(found)

    @property
    def is_full(self) -> bool:
        """Whether the batches exceed the bound, so that no more of them are needed."""
        return self._max_bytes is not None and self._num_bytes > self._max_bytes

    def add(self, batch: Batch) -> None:
        """Add the next batch, in the dtypes of the schema."""
        if batch.is_alone and self._arrays is not None:
            self._arrays.add(batch)
        if not self.checks:
            return
        batch = null_missing(batch, self._schema)
        columns = tuple(column for column in batch.columns if self._needs_all or self._is_needed(column))
        self._num_bytes += sum(_decoded_bytes(column) for column in columns)
        if self.is_full:
            self._groups.clear()
        else:
            self._groups.setdefault(tuple(batch.names), _Rows([])).batches.append(batch.with_columns(columns))

    def outcomes(self) -> list[Outcome]:
        """The outcome of each check, with rows of the file."""
        return [*self._of_arrays(), *self._of_rows()]

    def _of_arrays(self) -> Iterable[Outcome]:
        return () if self._arrays is None else self._arrays.outcomes()

    def _of_rows(self) -> list[Outcome]:
        if self.is_full:
            problem = (
                f"needs the whole file, whose decoded columns take more than {self._max_bytes:,} bytes; raise"
                " max_whole_file_bytes, or judge each value by itself (element_wise=True)"
            )
            return [outcome for check in self.checks for outcome in check.not_run(problem)]
        return [outcome for rows in self._groups.values() for outcome in self._judge(rows)]

    def _judge(self, rows: _Rows) -> Iterable[Outcome]:
        try:
            batch = concatenate_batches(rows.batches)
        except (ValueError, TypeError, pa.ArrowException) as error:
            problem = f"needs the whole file, whose batches do not fit together: {plain(str(error).splitlines()[0])}"
            for check in self.checks:
                yield from check.not_run(problem)
            return
        for check in self.checks:
            for outcome in check.run(batch):
                found = None if outcome.rows is None else batch.file_rows(outcome.rows)
                yield replace(rows.with_row_groups(outcome), rows=found)

    def _is_needed(self, column: Column) -> bool:
        return any(may_be_in(path, [column.name or ""]) for path in self._paths)


def concatenate_batches(batches: Sequence[Batch]) -> Batch:
    """Batches with the same columns as one; raises ``ValueError``, ``TypeError`` and ``ArrowException`` for others."""
    columns = zip(*(batch.columns for batch in batches), strict=True)
    rows = [batch.file_rows(np.arange(batch.num_rows, dtype=np.int64)) for batch in batches]
    return Batch(tuple(map(_concatenate, columns)), sum(map(len, rows)), rows=np.concatenate(rows))


def _decoded_bytes(column: Column) -> int:
    data = column.data
    if isinstance(data, pa.DictionaryArray) and len(data.dictionary):
        return int(max(data.nbytes, len(data) * data.dictionary.nbytes // len(data.dictionary)))
    return int(data.nbytes)


def _concatenate(columns: Sequence[Column]) -> Column:
    first = columns[0]
    if len(columns) == 1:
        return first
    data: Any
    if isinstance(first.data, np.ndarray):
        arrays = [column.data for column in columns]
        masked = any(isinstance(array, np.ma.MaskedArray) for array in arrays)
        data = np.ma.concatenate(arrays) if masked else np.concatenate(arrays)  # type: ignore[no-untyped-call]
    else:
        chunks = pa.chunked_array([column.data for column in columns])
        data = (chunks.unify_dictionaries() if pa.types.is_dictionary(chunks.type) else chunks).combine_chunks()
        if isinstance(data, pa.ChunkedArray):
            raise ValueError("a column is longer than an Arrow array can be")
    return replace(first, data=data, unconvertible=None)
