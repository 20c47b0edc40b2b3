"""Rows with 128-bit keys, in dataset order: grouped by their keys, in memory or, beyond a limit, in partitions on disk."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import decode, is_encoded, take_rows, with_kernels
from datacheck.batch import Batch, Column
from datacheck.distinct import distinct
from datacheck.hashing.keys import convertible_rows, find_column, hash_columns
from datacheck.hashing.numbers import Hashes
from datacheck.leaves import BoolArray, IntArray
from datacheck.storage.os_errors import scratch_errors

#: Bytes of groups that a state keeps in memory.
SPILL_BYTES = 128 << 20
#: Groups that wait to be merged with those that are known.
_PENDING_ROWS = 1 << 16
_NUM_PARTITIONS = 64
#: Rows sampled to see whether many have equal keys; a large odd number takes them from everywhere.
_PROBE, _PROBE_STEP = 2048, 2_654_435_761
#: Odd numbers that mix the words of a key.
_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63], np.uint64
)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Rows by equal keys. ``order`` sorts the rows by key, stably; a group is ``order[starts[i]:stops[i]]``."""

    order: IntArray
    starts: IntArray
    stops: IntArray

    @property
    def firsts(self) -> IntArray:
        return self.order[self.starts]

    @property
    def lasts(self) -> IntArray:
        return self.order[self.stops - 1]

    def pairs(self) -> tuple[IntArray, IntArray]:
        """Each row that is not the first of its group, and the row of its group before it."""
        follows = np.ones(len(self.order), np.bool_)
        follows[self.starts] = False
        places = np.flatnonzero(follows)
        return self.order[places - 1], self.order[places]

    def group_of_rows(self) -> IntArray:
        """The number of each row's group."""
        numbers = np.empty(len(self.order), np.int64)
        numbers[self.order] = np.repeat(np.arange(len(self.starts)), self.stops - self.starts)
        return numbers

    def sum(self, values: IntArray) -> IntArray:
        """The sum of values by group."""
        found: IntArray = np.add.reduceat(values[self.order], self.starts) if len(self.starts) else values[:0]
        return found


def group_equal(keys: Hashes) -> Grouping:
    """Group rows by keys ``(rows, words)``; rows of a group are in order."""
    if not len(keys):
        empty = np.empty(0, np.int64)
        return Grouping(empty, empty, empty)
    # Keys that differ in a mixture of their words differ; the opposite is checked.
    mixed = keys[:, 0] if keys.shape[1] <= 2 else (keys * _FACTORS[: keys.shape[1]]).sum(axis=1, dtype=np.uint64)
    order = _stable_order(mixed)
    ordered = mixed[order]
    is_new = ordered[1:] != ordered[:-1]
    unmixed = keys.T[1:] if keys.shape[1] <= 2 else keys.T
    if any(_differ_together(words[order], is_new) for words in unmixed):
        order = np.lexsort(keys.T[::-1])
        is_new = _differs(keys[order])
    starts = np.flatnonzero(np.concatenate([[True], is_new]))
    return Grouping(order.astype(np.int64), starts, np.append(starts[1:], len(keys)))


def _differ_together(words: Hashes, is_new: BoolArray) -> bool:
    """Whether words differ from the one before them that are not new."""
    return bool(((words[1:] != words[:-1]) & ~is_new).any())


def _stable_order(words: Hashes) -> IntArray:
    """``np.argsort(words, kind="stable")``, faster where many words are equal."""
    probed = words[np.arange(_PROBE) * _PROBE_STEP % len(words)] if len(words) > 2 * _PROBE else words
    if len(words) > 2 * _PROBE and len(distinct(probed)) <= _PROBE * 3 // 4:
        encoded = pc.dictionary_encode(pa.array(words))
        different = encoded.dictionary.to_numpy()
        if len(different) <= 1 << 16:
            # NumPy sorts integers of 16 bits by radix.
            ranks = np.empty(len(different), np.uint16)
            ranks[np.argsort(different)] = np.arange(len(different), dtype=np.uint16)
            words = ranks[encoded.indices.to_numpy()]
    return np.argsort(words, kind="stable")


def _differs(keys: Hashes) -> BoolArray:
    """Whether each key but the first differs from the one before it."""
    mask: BoolArray = keys[1:, 0] != keys[:-1, 0]
    for column in range(1, keys.shape[1]):
        mask |= keys[1:, column] != keys[:-1, column]
    return mask


def run_starts(*keys: Hashes) -> IntArray:
    """The rows that differ in one of several keys from the row before them; the first row is one."""
    if not len(keys[0]):
        return np.empty(0, np.int64)
    differs = np.ones(len(keys[0]), np.bool_)
    differs[1:] = _differs(keys[0])
    for key in keys[1:]:
        differs[1:] |= _differs(key)
    return np.flatnonzero(differs)


@dataclass(frozen=True, slots=True)
class Runs:
    """The groups of rows by runs of neighbouring rows with equal keys, which are few where groups stand together."""

    starts: IntArray
    stops: IntArray
    grouping: Grouping

    @classmethod
    def of(cls, keys: Hashes) -> Runs:
        starts = run_starts(keys)
        return cls(starts, np.append(starts[1:], len(keys))[: len(starts)], group_equal(keys[starts]))

    @property
    def firsts(self) -> IntArray:
        """The first row of each group."""
        return self.starts[self.grouping.firsts]

    @property
    def lasts(self) -> IntArray:
        """The last row of each group."""
        return self.stops[self.grouping.lasts] - 1

    @property
    def counts(self) -> IntArray:
        """The number of rows of each group."""
        return self.grouping.sum(self.stops - self.starts)

    def resumed(self) -> IntArray:
        """The rows that continue a group after rows of others."""
        return np.sort(self.starts[self.grouping.pairs()[1]])

    def pairs_across(self) -> tuple[IntArray, IntArray]:
        """The last row of each run and the row that continues its group; other neighbours are next to each other."""
        earlier, later = self.grouping.pairs()
        return self.stops[earlier] - 1, self.starts[later]

    def group_of_rows(self) -> IntArray:
        """The number of each row's group."""
        return np.repeat(self.grouping.group_of_rows(), self.stops - self.starts)


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """The columns of a key in one batch, the hash of each row's, ``(rows, 2)``, and the rows that have one (None: all)."""

    columns: Sequence[Column]
    hashes: Hashes
    known: BoolArray | None

    def labels(self, rows: IntArray) -> pa.Array:
        """The values of the key in some rows, as text."""
        parts = [_as_text(column, rows) for column in self.columns]
        if not parts:
            return pa.array([""] * len(rows), pa.string())
        return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, ", ")


def find_columns(batch: Batch, paths: Sequence[str | None]) -> list[Column] | None:
    """The columns, or fields of structs, at some paths; None if one is absent."""
    by_name = {column.name: column for column in batch.columns}
    found = [by_name.get(None) if path is None else find_column(by_name, path) for path in paths]
    columns = [column for column in found if column is not None]
    return columns if len(columns) == len(found) else None


def key_columns_of(batch: Batch, paths: Sequence[str]) -> KeyColumns | None:
    """The key that fields form together; None if the batch lacks one of them."""
    columns = find_columns(batch, paths)
    if columns is None:
        return None
    hashes = hash_key(columns) if columns else np.zeros((batch.num_rows, 2), np.uint64)
    return KeyColumns(columns, np.ascontiguousarray(hashes), convertible_rows(columns, batch.num_rows))


def hash_key(columns: Sequence[Column]) -> Hashes:
    """The hash of each row's key, ``(rows, 2)``, by the positions of the columns in it: their names may differ."""
    # The hash of a key is the sum of its columns' hashes.
    found = (_hash_runs(replace(column, name=str(index))) for index, column in enumerate(columns))
    return functools.reduce(np.add, found)


def _hash_runs(column: Column) -> Hashes:
    """The hash of each value, ``(rows, 2)``; of neighbours that are equal, only one is hashed, if there are many."""
    data = column.data
    if isinstance(data, np.ndarray) or column.unconvertible is not None or not _has_runs(data):
        return hash_columns([column])
    runs = pc.run_end_encode(data, run_end_type=pa.int64())
    hashes = hash_columns([replace(column, data=runs.values)])
    return np.repeat(hashes, np.diff(runs.run_ends.to_numpy(), prepend=0), axis=0)


def _has_runs(data: pa.Array) -> bool:
    types = pa.types
    if is_encoded(data.type) or not (types.is_primitive(data.type) or types.is_string(data.type)):
        return False
    first = data.slice(0, _PROBE)
    return len(first) == _PROBE and len(pc.run_end_encode(first).values) * 4 < _PROBE


def _as_text(column: Column, rows: IntArray) -> pa.Array:
    data: Any = column.data
    if isinstance(data, np.ndarray):
        return pa.array([None if value is np.ma.masked else str(value) for value in data[rows]], pa.string()).fill_null(
            "null"
        )
    values = take_rows(data, rows)
    values = with_kernels(decode(values) if is_encoded(values.type) else values)
    try:
        return pc.cast(values, pa.string()).fill_null("null")
    except pa.ArrowException:
        return pa.array(["null" if value is None else str(value) for value in values.to_pylist()], pa.string())


class KeyedTables:
    """Tables in dataset order whose columns ``h0`` and ``h1`` are a key. A context manager: leaving it deletes its files.

    ``reduce`` merges the rows of a table that belong together, which may be done to any parts of the tables, in order.
    """

    def __init__(self, reduce: Callable[[pa.Table], pa.Table], spill_bytes: int | None = None) -> None:
        self._reduce = reduce
        self._spill_bytes = SPILL_BYTES if spill_bytes is None else spill_bytes
        self._held: list[pa.Table] = []
        self._num_reduced = self._num_pending = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writers: list[Any] = []

    def close(self) -> None:
        """Release the memory and delete the files."""
        for writer in self._writers:
            with suppress(OSError, pa.ArrowException):
                writer.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._held, self._writers, self._folder = [], [], None

    def add(self, table: pa.Table) -> None:
        """Add the next table."""
        if not table.num_rows:
            return
        self._held.append(table)
        self._num_pending += table.num_rows
        if self._num_pending > max(_PENDING_ROWS, self._num_reduced):
            self._merge_held()
            if self._held[0].nbytes > self._spill_bytes:
                with scratch_errors():
                    self._spill()

    def _merge_held(self) -> None:
        if self._num_pending:
            self._held = [self._reduce(concatenate(self._held))]
            self._num_reduced, self._num_pending = self._held[0].num_rows, 0

    def table(self) -> pa.Table | None:
        """All that is in memory as one table with one row per group; None if there is nothing."""
        self._merge_held()
        return self._held[0] if self._held else None

    def parts(self) -> Iterator[pa.Table]:
        """Tables with one row per group, no group in two of them."""
        if self._folder is None:
            found = self.table()
            if found is not None:
                yield found
            return
        yield from (part for part in self.partitions() if part is not None)

    @property
    def is_on_disk(self) -> bool:
        return self._folder is not None

    def partitions(self) -> Iterator[pa.Table | None]:
        """Move everything to disk, and yield what each partition holds: other tables' partitions have the same keys."""
        with scratch_errors():
            self._spill()
            if self._folder is None:
                yield from [None] * _NUM_PARTITIONS
                return
            for writer in self._writers:
                writer.close()
            folder = Path(self._folder.name)
            for number in range(_NUM_PARTITIONS):
                with pa.OSFile(str(folder / f"{number:02d}")) as file, pa.ipc.open_stream(file) as reader:
                    part = reader.read_all()
                yield self._reduce(part.combine_chunks()) if part.num_rows else None

    def _spill(self) -> None:
        self._merge_held()
        if not self._held:
            return
        table = self._held.pop()
        self._num_reduced = 0
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="datacheck-groups-")
            folder = Path(self._folder.name)
            self._writers = [
                pa.ipc.new_stream(str(folder / f"{number:02d}"), table.schema) for number in range(_NUM_PARTITIONS)
            ]
        partition = (table.column("h0").to_numpy() >> np.uint64(58)).astype(np.int64)
        order = np.argsort(partition, kind="stable")
        edges = np.searchsorted(partition[order], np.arange(_NUM_PARTITIONS + 1))
        ordered = table.take(pa.array(order))
        for number, writer in enumerate(self._writers):
            start, stop = edges[number], edges[number + 1]
            if stop > start:
                writer.write_table(ordered.slice(start, stop - start))


def aligned_parts(first: KeyedTables, second: KeyedTables) -> Iterator[tuple[pa.Table | None, pa.Table | None]]:
    """Parts of two sets of tables, in which equal keys are in the same part."""
    if first.is_on_disk or second.is_on_disk:
        yield from zip(first.partitions(), second.partitions(), strict=True)
    else:
        yield first.table(), second.table()


def hashes_of(table: pa.Table, *names: str) -> Hashes:
    """Some columns of words as ``(rows, words)``."""
    columns = [table.column(name).to_numpy() for name in names or ("h0", "h1")]
    return np.ascontiguousarray(np.stack(columns, axis=1))


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()
