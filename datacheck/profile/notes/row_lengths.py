"""Lists side by side in one row that should be equally long: tokens, their labels and their mask."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.findings import Example, Finding
from datacheck.leaves import IntArray
from datacheck.profile.notes.tally import Tally
from datacheck.schema.axes import lengths_of
from datacheck.schema.operands import axes_of
from datacheck.text import plain, quantity

#: Columns of lists that are compared with each other.
_MAX_COLUMNS = 16
#: Rows with equally long lists to have seen, and the largest share of others among lists that should be equally long.
_MIN_EQUAL, _MAX_SHARE = 10, 0.05
#: Shorter lists are of equal length by chance.
_LONG = 2


@dataclass(slots=True)
class LengthPair:
    """How often the lists of two columns are equally long; ``unequal_long`` are rows in which one has several values."""

    num_rows: int = 0
    equal_long: int = 0
    unequal_long: int = 0
    unequal: Tally = field(default_factory=Tally)

    @property
    def belongs_together(self) -> bool:
        """Whether the lists are nearly always equally long, and not by chance."""
        num_long = self.equal_long + self.unequal_long
        is_seldom = self.unequal.count <= _MAX_SHARE * self.num_rows and self.unequal_long <= _MAX_SHARE * num_long
        return self.equal_long >= _MIN_EQUAL and is_seldom


@dataclass(slots=True)
class RowLengths:
    """The lengths of the lists of each row, of all pairs of columns. Mergeable.

    The columns of one row group may come in several batches, one after the other: their lengths wait for each other.
    """

    pairs: dict[tuple[str, str], LengthPair] = field(default_factory=dict)
    _group: int | None = None
    _waiting: dict[str, list[IntArray]] = field(default_factory=dict)
    _rows: list[IntArray] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        """Add the columns of the next batch."""
        if batch.counts_rows and (batch.row_group is None or batch.row_group != self._group):
            self.finish()
        found = {} if batch.is_alone else _lengths(batch)
        if not found and not self._rows:
            return
        self._group = batch.row_group
        for name, lengths in found.items():
            self._waiting.setdefault(name, []).append(lengths)
        if batch.counts_rows:
            self._rows.append(batch.file_rows(np.arange(batch.num_rows)))
        if batch.row_group is None:
            self.finish(batch)

    def finish(self, batch: Batch | None = None) -> None:
        """Compare the columns that wait; ``batch`` holds their rows, if all are in one batch."""
        rows = np.concatenate(self._rows) if self._rows else np.empty(0, np.int64)
        columns = {name: np.concatenate(parts) for name, parts in self._waiting.items()}
        columns = {name: lengths for name, lengths in columns.items() if len(lengths) == len(rows)}
        for (first, left), (second, right) in itertools.combinations(list(columns.items())[:_MAX_COLUMNS], 2):
            is_known = (left >= 0) & (right >= 0)
            is_long = is_known & ((left >= _LONG) | (right >= _LONG))
            differ = is_known & (left != right)
            pair = self.pairs.setdefault((first, second), LengthPair())
            num_unequal = int(np.count_nonzero(is_long & differ))
            pair.num_rows += int(np.count_nonzero(is_known))
            pair.equal_long += int(np.count_nonzero(is_long)) - num_unequal
            pair.unequal_long += num_unequal
            shown = {first: left, second: right}
            pair.unequal.add_mask(differ, partial(_examples, rows, shown, self._group, batch))
        self._waiting, self._rows = {}, []

    def merge(self, other: RowLengths) -> None:
        """Merge what is known of the next part of the data, which must not be used afterwards."""
        for names, theirs in other.pairs.items():
            mine = self.pairs.setdefault(names, LengthPair())
            mine.num_rows += theirs.num_rows
            mine.equal_long += theirs.equal_long
            mine.unequal_long += theirs.unequal_long
            mine.unequal.merge(theirs.unequal)

    def set_file(self, uri: str) -> None:
        """Say which file the places are in."""
        for pair in self.pairs.values():
            pair.unequal.uri = uri

    def judge(self) -> Iterator[Finding]:
        """A finding for each pair of :meth:`uneven`."""
        for names, pair in self._uneven():
            yield _finding(names, pair)

    def uneven(self) -> list[tuple[str, str]]:
        """The pairs of columns whose lists are nearly always, but not always, equally long; each column with one other."""
        return [names for names, _ in self._uneven()]

    def _uneven(self) -> Iterator[tuple[tuple[str, str], LengthPair]]:
        together = {names: pair for names, pair in self.pairs.items() if pair.belongs_together}
        judged: set[str] = set()
        # Ties stay in the order of the columns; the order of a set differs between processes.
        involved = dict.fromkeys(name for names in together for name in names)
        for name in sorted(involved, key=partial(_num_unequal, together)):
            for names, pair in together.items():
                if name in names and judged.isdisjoint(names) and pair.unequal.count:
                    yield names, pair
            judged |= {name} | {other for names in together if name in names for other in names}


def equal_lengths(names: tuple[str, str]) -> str:
    """The rule that the lists of two columns are equally long."""
    return " == ".join(f"len({name if name.isidentifier() else f'`{name}`'})" for name in names)


def _num_unequal(pairs: dict[tuple[str, str], LengthPair], name: str) -> int:
    return sum(pair.unequal.count for names, pair in pairs.items() if name in names)


def _finding(names: tuple[str, str], pair: LengthPair) -> Finding:
    first, second = (plain(name, 60) for name in names)
    detail = (
        f"the lists of {first} and {second} have different lengths in {pair.unequal.count:,} of"
        f" {quantity(pair.num_rows, 'row')}, the same length in all others. As a rule: expr: {plain(equal_lengths(names))}"
    )
    tally = pair.unequal
    return Finding("DC513", tally.uri, names[1], tally.count, pair.num_rows, tuple(tally.examples), detail=detail)


def _lengths(batch: Batch) -> dict[str, IntArray]:
    """The length of each row's list, by column; -1 for null. Arrays of one shape are as long in every row."""
    found: dict[str, IntArray] = {}
    for column in batch.columns:
        if column.name is not None and batch.names.count(column.name) == 1:
            found |= _lengths_in(column.name, column.data)
    return found


def _lengths_in(path: str, data: Any) -> dict[str, IntArray]:
    if isinstance(data, pa.Array) and pa.types.is_struct(data.type):
        parts = zip(data.type, data.flatten(), strict=True)
        return {
            name: found for child, part in parts for name, found in _lengths_in(f"{path}.{child.name}", part).items()
        }
    axes = axes_of(data) if isinstance(data, np.ndarray | pa.Array) else None
    if axes is None:
        return {}
    lengths = lengths_of(axes.sizes[0], axes.num_rows)
    return {path: lengths if axes.present is None else np.where(axes.present, lengths, -1)}


def _examples(
    rows: IntArray, columns: dict[str, IntArray], group: int | None, batch: Batch | None, positions: Any
) -> list[Example]:
    return [
        Example(
            int(rows[position]),
            group,
            (),
            ", ".join(f"len({plain(name, 40)})={lengths[position]}" for name, lengths in columns.items()),
            None if batch is None else batch.line_of(int(rows[position])),
        )
        for position in positions
    ]
