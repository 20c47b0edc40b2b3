"""Batches: named columns of equal length with the origin of their rows, and what is known of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import decoded_bytes, may_repeat, num_bytes_of, take_rows
from datacheck.arrow_leaves import walk_arrow
from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.leaves import (
    BoolArray,
    IntArray,
    Leaf,
    walk_array,
)

#: The one column of quarantined rows that are kept as they lie in the file.
RAW_NAME = "record"


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a batch: an Arrow array, or a NumPy array whose first axis is the rows.

    ``name`` is None for the one array of an ``.npy``. ``dtype`` is the logical dtype if the storage has another one
    (``bfloat16`` in unsigned integers). ``problem`` says why the values cannot be checked. ``untyped`` marks text that
    is text only because its format has no dtypes and nothing else gave one. ``unconvertible``, of the shape of ``data``, is
    True where a value could not be converted; it has no value then, but is not a null. ``words`` are the cells of a text
    file as they were read, for a column in which some do not convert. ``is_sample`` marks an array
    that is one sample: its first axis was added for the row, and is not part of its shape. ``is_parameter`` marks a weight of
    a model. ``absent`` is, by the path of a leaf, True where a record has neither a value nor a null (see
    ``Leaf.absent``). ``derived`` marks what was computed from another column, which checks see and no output has. ``is_new``
    marks a column with repaired values, ``is_media`` one whose bytes were decoded as images or audio.
    """

    name: str | None
    data: pa.Array | np.ndarray[Any, Any]
    dtype: str | None = None
    problem: str = ""
    untyped: bool = False
    unconvertible: BoolArray | None = None
    is_sample: bool = False
    words: pa.Array | None = None
    is_parameter: bool = False
    absent: Mapping[str, BoolArray] | None = None
    derived: bool = False
    is_new: bool = False
    is_media: bool = False

    def __len__(self) -> int:
        return len(self.data) if not isinstance(self.data, np.ndarray) or self.data.ndim else 1

    @property
    def num_bytes(self) -> int:
        return self.data.nbytes if isinstance(self.data, np.ndarray) else num_bytes_of(self.data)

    def leaves(self, *, distinct: bool = False) -> Iterator[Leaf]:
        """The column's leaves. With ``distinct``, leaves of dictionaries and runs hold each value once (``Leaf.codes``)."""
        if self.problem:
            return iter([Leaf(self.name, None, self.dtype or "unknown", problem=self.problem)])
        if isinstance(self.data, np.ndarray):
            leaves = walk_array(self.name, self.data, self.dtype)
            if self.is_parameter:
                leaves = (replace(leaf, is_parameter=True) for leaf in leaves)
            return leaves if self.unconvertible is None else self._mark_unconvertible(leaves)
        leaves = walk_arrow(self.name or "", self.data, distinct=distinct)
        if self.unconvertible is not None:
            leaves = self._mark_unconvertible(leaves)
        if self.absent is not None:
            leaves = map(self._mark_absent, leaves)
        return leaves if self.name else (replace(leaf, path=leaf.path or self.name) for leaf in leaves)

    def _mark_unconvertible(self, leaves: Iterator[Leaf]) -> Iterator[Leaf]:
        """Mark the one leaf of a converted column, whose values are in the order of the rows."""
        assert self.unconvertible is not None
        unconvertible = np.ascontiguousarray(self.unconvertible).reshape(-1)
        return (replace(leaf, unconvertible=unconvertible) for leaf in leaves)

    def _mark_absent(self, leaf: Leaf) -> Leaf:
        absent = None if self.absent is None else self.absent.get(leaf.path or "")
        # Where two fields have one path, the number of values shows which is meant.
        return leaf if absent is None or len(absent) != len(leaf) else replace(leaf, absent=absent)

    def _absent_in(self, rows: IntArray) -> Mapping[str, BoolArray] | None:
        """``absent`` for only these rows, in that order."""
        taken = {}
        for leaf in self.leaves() if self.absent is not None else ():
            if leaf.absent is None or leaf.path is None:
                continue
            owners = leaf.locate(np.arange(len(leaf), dtype=np.int64))[0]
            starts, stops = np.searchsorted(owners, rows), np.searchsorted(owners, rows, side="right")
            parts = [leaf.absent[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
            taken[leaf.path] = np.concatenate([np.empty(0, np.bool_), *parts])
        return taken or None

    def take(self, rows: IntArray) -> Column:
        """The column with only ``rows``, in that order."""
        unconvertible = None if self.unconvertible is None else self.unconvertible[rows]
        if unconvertible is not None and not unconvertible.any():
            unconvertible = None
        if isinstance(self.data, np.ndarray):
            return replace(self, data=self.data[rows], unconvertible=unconvertible)
        words = None if self.words is None else take_rows(self.words, rows)
        data, absent = take_rows(self.data, rows), self._absent_in(rows)
        return replace(self, data=data, unconvertible=unconvertible, words=words, absent=absent)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a source found wrong in some rows of a batch, where no check of values would see it.

    ``rows`` has the row in the batch of each violation, sorted; ``examples`` are a few of them with the value. A key that
    records lack is a fault only for a field that must have a value; checks decide that.
    """

    code: str
    field: str | None
    num_checked: int
    rows: IntArray
    examples: tuple[tuple[int, str], ...] = ()
    detail: str = ""

    def take(self, rows: IntArray) -> Fault:
        """The fault among only these rows of the batch, in their new places."""
        counts = np.searchsorted(self.rows, rows, side="right") - np.searchsorted(self.rows, rows)
        place = {row: index for index, row in enumerate(rows.tolist())}
        examples = tuple((place[row], value) for row, value in self.examples if row in place)
        return replace(self, rows=np.repeat(np.arange(len(rows)), counts), examples=examples)


class RawRecords:
    """The bytes of each row as they lie in the file, for an output that copies them; made when they are first asked for.

    ``format`` is the format of outputs that can copy them. ``layout`` says how to read them, if they do not say so themselves:
    people are shown the columns of such rows instead.
    """

    def __init__(self, format: str, make: Callable[[], pa.Array], layout: str = "") -> None:  # noqa: A002
        self.format, self.layout = format, layout
        self._make: Callable[[], pa.Array] = make
        self._made: pa.Array | None = None

    @property
    def array(self) -> pa.Array:
        """A binary array, one value per row."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def take(self, rows: IntArray) -> RawRecords:
        """The raw records of these rows only, in that order."""
        return RawRecords(self.format, lambda: take_rows(self.array, rows), self.layout)


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """A record that is not a valid row: its row number in the file, how it begins, and what is wrong with it."""

    row: int
    text: str
    problem: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of ``num_rows`` rows.

    Row ``i`` is row ``row_start + i`` of its file, or ``rows[i]`` if rows are not consecutive; all are in ``row_group``
    if the format has row groups. ``counts_rows`` is False for more columns of rows that an earlier batch has counted.
    ``malformed`` are invalid lines since the previous batch, which are not in ``num_rows``. ``unreadable`` are errors
    in parts of the file that were skipped, only if ``ReadOptions.keep_going`` asked for what can be read. ``findings``
    are what else a source found about the file while it read these rows, and ``faults`` what it found in the rows
    themselves. ``raw`` are the rows as they lie in the file, in formats whose output copies what it keeps. ``dropped``
    are the columns of the file that the batch no longer has. ``is_ragged`` says that its columns are the keys of these
    rows: others may have more. ``keys`` are the names of the samples in an archive, one a row. ``is_alone`` says that
    its array is one of several that do not form a table, so that no rule across fields applies to it.
    """

    columns: tuple[Column, ...]
    num_rows: int
    row_start: int = 0
    row_group: int | None = None
    rows: IntArray | None = None
    counts_rows: bool = True
    malformed: tuple[MalformedRow, ...] = ()
    line_start: int | None = None
    lines: IntArray | None = None
    unreadable: tuple[SourceError, ...] = ()
    findings: tuple[Finding, ...] = ()
    faults: tuple[Fault, ...] = ()
    raw: RawRecords | None = None
    dropped: tuple[str, ...] = ()
    is_ragged: bool = False
    is_alone: bool = False
    keys: tuple[str, ...] | None = None

    @property
    def names(self) -> list[str | None]:
        return [column.name for column in self.columns]

    def file_rows(self, rows: IntArray) -> IntArray:
        """Convert row numbers of the batch to row numbers of the file."""
        return self.rows[rows] if self.rows is not None else rows + self.row_start

    @property
    def has_lines(self) -> bool:
        """Whether the lines of rows are known, as in a text file."""
        return self.lines is not None or self.line_start is not None

    def line_of(self, file_row: int) -> int | None:
        """The line of a text file, from 1, on which a row of the file begins; None in other formats."""
        if not self.has_lines:
            return None
        row = file_row - self.row_start if self.rows is None else int(np.searchsorted(self.rows, file_row))
        if not 0 <= row < self.num_rows:
            return None
        return int(self.lines[row]) if self.lines is not None else (self.line_start or 0) + row

    def member_of(self, file_row: int, field: str | None) -> str | None:
        """The name of the member of an archive that a field of a row is in, or of the sample; None in other formats."""
        row = file_row - self.row_start if self.rows is None else int(np.searchsorted(self.rows, file_row))
        if self.keys is None or not 0 <= row < self.num_rows:
            return None
        names = [column.name for column in self.columns if column.name and not column.derived and column.name[0] != "_"]
        owners = [name for name in names if field == name or (field or "").startswith((f"{name}.", f"{name}["))]
        return f"{self.keys[row]}.{max(owners, key=len)}" if owners else self.keys[row]

    def take(self, rows: IntArray) -> Batch:
        """The batch with only ``rows``, in that order, each with the origin it had."""
        columns = tuple(column.take(rows) for column in self.columns)
        lines = None if self.lines is None else self.lines[rows]
        if self.line_start is not None:
            lines = rows + self.line_start
        return Batch(
            columns,
            len(rows),
            self.row_start,
            self.row_group,
            self.file_rows(rows),
            lines=lines,
            faults=tuple(fault.take(rows) for fault in self.faults),
            raw=None if self.raw is None else self.raw.take(rows),
            dropped=self.dropped,
            is_ragged=self.is_ragged,
            keys=None if self.keys is None else tuple(self.keys[row] for row in rows.tolist()),
        )

    def as_read(self) -> Batch:
        """The batch as its file has it: raw records, or the text of each column in which some cells do not convert."""
        if self.raw is not None and not (self.raw.layout and all(not column.problem for column in self.columns)):
            return replace(self, columns=(Column(RAW_NAME, self.raw.array),), faults=())
        if all(column.words is None for column in self.columns):
            return self
        return self.with_columns(
            tuple(
                column if column.words is None else replace(column, data=column.words, unconvertible=None, words=None)
                for column in self.columns
            )
        )

    @property
    def is_sample(self) -> bool:
        """Whether the batch is a whole file, which is one sample."""
        return any(column.is_sample for column in self.columns)

    def slice(self, start: int, count: int) -> Batch:
        """Some consecutive rows of the batch, without a copy if nothing about its rows was found."""
        if self.faults or self.raw is not None:
            return replace(self.take(np.arange(start, start + count)), counts_rows=self.counts_rows)
        columns = tuple(
            replace(
                column,
                data=column.data[start : start + count],
                unconvertible=None if column.unconvertible is None else column.unconvertible[start : start + count],
                words=None if column.words is None else column.words[start : start + count],
            )
            for column in self.columns
        )
        rows = None if self.rows is None else self.rows[start : start + count]
        lines = None if self.lines is None else self.lines[start : start + count]
        line_start = None if self.line_start is None else self.line_start + start
        keys = None if self.keys is None else self.keys[start : start + count]
        part = replace(self, columns=columns, num_rows=count, row_start=self.row_start + start, rows=rows, keys=keys)
        return replace(part, lines=lines, line_start=line_start)

    def stored(self) -> Batch:
        """The batch without the columns that were computed from others, as outputs have it."""
        return replace(self, columns=tuple(column for column in self.columns if not column.derived))

    def with_columns(self, columns: tuple[Column, ...]) -> Batch:
        return replace(self, columns=columns)

    @classmethod
    def from_arrow(
        cls, batch: pa.RecordBatch, row_start: int = 0, row_group: int | None = None, *, counts_rows: bool = True
    ) -> Batch:
        columns = tuple(map(Column, batch.schema.names, batch.columns))
        return cls(columns, batch.num_rows, row_start, row_group, counts_rows=counts_rows)


def split_decoded(batch: Batch, limit: int, check: Callable[[int], None] = lambda _: None) -> Iterator[Batch]:
    """The batch in slices of rows whose dictionaries, runs and views decode to about ``limit`` bytes, or one row each.

    ``check`` is called first with the bytes that they decode to together.
    """
    arrays = [column.data for column in batch.columns if isinstance(column.data, pa.Array)]
    encoded = [array for array in arrays if may_repeat(array.type)]
    num_bytes = sum(map(decoded_bytes, encoded))
    check(num_bytes)
    parts = [(0, batch.num_rows)]
    while parts:
        start, count = parts.pop()
        if encoded and count != batch.num_rows:
            num_bytes = sum(decoded_bytes(one.slice(start, count)) for one in encoded)
        if encoded and count > 1 and num_bytes > limit:
            half = count // 2
            parts += [(start + half, count - half), (start, half)]
        elif count == batch.num_rows and not (encoded and count == 1):
            yield batch
        else:
            part = batch.slice(start, count)
            yield part if start == 0 else replace(part, malformed=(), unreadable=(), findings=())
