"""The types of a text file's columns: the narrowest that fit every value, not only those of the first block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from datacheck.sources.dtypes import arrow_type
from datacheck.sources.text_parsing import clean_cells, convert, parse_cells

__all__ = ["ColumnTypes"]

#: Types to try, from narrow to wide. Text always fits.
_CANDIDATES = (
    pa.int64(),
    pa.uint64(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    pa.timestamp("ns", "UTC"),
    pa.float64(),
    pa.string(),
)
#: Cells of the first block that are sampled to see whether most are numbers.
_SAMPLE = 1000


class ColumnTypes:
    """The type of each column of a text file, given the values so far.

    ``wanted`` gives the types of some columns. A column with a value that does not fit stays text; the checks then report
    which.
    """

    def __init__(self, names: Sequence[str], wanted: Iterable[tuple[str, str]]) -> None:
        dtypes = dict(wanted)
        given = [arrow_type(dtypes[name]) if name in dtypes else None for name in names]
        self.types: list[pa.DataType] = [kind or pa.null() for kind in given]
        self._is_given = [kind is not None for kind in given]
        self._has_values = [False] * len(names)
        self._counts = [_NumberCounter() for _ in names]

    def start(self) -> None:
        """Start a pass over the file."""
        self._counts = [_NumberCounter() for _ in self.types]

    def see(self, columns: Sequence[pa.Array]) -> bool:
        """Widen the types until they fit ``columns``; whether earlier blocks must be read again."""
        again = False
        for index, column in enumerate(columns):
            if column.null_count == len(column):
                continue
            if convert(column, self.types[index]) is None:
                is_given, kind = self._is_given[index], self.types[index]
                self.types[index] = pa.string() if is_given else self._wider(kind, column)
                # Text fits whatever came before.
                again = again or (self._has_values[index] and self.types[index] != pa.string())
            self._has_values[index] = True
            if not self._is_given[index]:
                self._counts[index].see(column, self.types[index])
        return again

    def is_untyped(self, index: int) -> bool:
        """Whether a column is text although another type was wanted."""
        return self._is_given[index] and self.types[index] == pa.string()

    def is_mostly_numbers(self, index: int) -> bool:
        """Whether more than half of a column's cells are numbers, although the others made it text."""
        return self.types[index] == pa.string() and self._counts[index].are_most

    @staticmethod
    def _wider(kind: pa.DataType, column: pa.Array) -> pa.DataType:
        # Most types already fail on the first values.
        head = column.slice(0, 64)
        return next(
            wider
            for wider in _wider_than(kind)
            if convert(head, wider) is not None and convert(column, wider) is not None
        )


class _NumberCounter:
    """Counts the numeric cells of a column, unless a sample of the first block shows that most are not."""

    def __init__(self) -> None:
        self._present = self._numbers = 0
        self._is_counted: bool | None = None

    def see(self, column: pa.Array, kind: pa.DataType) -> None:
        present = len(column) - column.null_count
        self._present += present
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            self._is_counted = True
            self._numbers += present
            return
        if self._is_counted is None:
            step = max(1, len(column) // _SAMPLE)
            sample = column.take(pa.array(range(0, len(column), step))) if step > 1 else column
            self._is_counted = kind == pa.string() and 2 * _count_numbers(sample) > len(sample) - sample.null_count
        if self._is_counted:
            self._numbers += _count_numbers(column)

    @property
    def are_most(self) -> bool:
        return bool(self._is_counted) and self._present > self._numbers > self._present // 2


def _count_numbers(words: pa.Array) -> int:
    numbers = parse_cells(clean_cells(words, pa.float64()), pa.float64(), is_loose=False)
    return len(words) - int(numbers.null_count)


def _wider_than(kind: pa.DataType) -> tuple[pa.DataType, ...]:
    return _CANDIDATES if kind == pa.null() else _CANDIDATES[_CANDIDATES.index(kind) + 1 :]
