"""The types of a text file's columns: the narrowest that fit every value, not only the first block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from datacheck.sources.dtypes import arrow_type
from datacheck.sources.text_parsing import Notation, convert, convert_cells, count_lookalikes, may_convert

#: Types to try, from narrow to wide. Text always fits.
_CANDIDATES = (
    pa.int64(),
    pa.uint64(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    # Times with fractions of a second and years outside 1678 to 2262.
    pa.timestamp("us"),
    pa.timestamp("ns", "UTC"),
    pa.timestamp("us", "UTC"),
    pa.float64(),
    pa.string(),
)
#: Types to try for the numbers of a column that has other words, too.
_NUMBERS = (pa.int64(), pa.uint64(), pa.float64())
#: Cells of a block that are sampled to see whether most are numbers.
_SAMPLE = 1000


class ColumnTypes:
    """The type of each column of a text file, given the values so far.

    ``wanted`` gives the types of some columns. In a column of such a type, and in one of mostly numbers, the cells of other
    words do not convert. Any other column with a value that does not fit is text.
    """

    def __init__(self, names: Sequence[str], wanted: Iterable[tuple[str, str]], notation: Notation) -> None:
        dtypes = dict(wanted)
        given = [arrow_type(dtypes[name]) if name in dtypes else None for name in names]
        self.types: list[pa.DataType] = [kind or pa.null() for kind in given]
        self._is_given = [kind is not None for kind in given]
        self._has_words = [False] * len(names)
        self._has_values = [False] * len(names)
        self._counts = [_NumberCounter() for _ in names]
        self._notation = notation

    def start(self) -> None:
        """Start a pass over the file."""
        self._counts = [_NumberCounter() for _ in self.types]

    def see(self, columns: Sequence[pa.Array]) -> bool:
        """Widen the types until they fit ``columns``; whether earlier blocks must be read again."""
        again = False
        for index, column in enumerate(columns):
            if column.null_count == len(column):
                continue
            before = self.types[index]
            if self._has_words[index]:
                self._widen_numbers(index, column)
            elif convert(column, before, self._notation) is None:
                if self._is_given[index]:
                    self._has_words[index] = True
                else:
                    self.types[index] = self._wider(before, column)
            # Text fits whatever came before.
            is_other = self.types[index] != before and self.types[index] != pa.string()
            again = again or (self._has_values[index] and is_other)
            self._has_values[index] = True
            if not self._is_given[index] and not self._has_words[index]:
                self._counts[index].see(column, self.types[index])
        return again

    def find_numbers_with_words(self) -> bool:
        """Turn the text columns of mostly numbers into numbers; whether there are any, so that a pass is needed."""
        found = False
        for index, counts in enumerate(self._counts):
            if self.types[index] == pa.string() and not self._is_given[index] and counts.are_most:
                self.types[index] = _NUMBERS[0] if counts.has_numbers else _NUMBERS[-1]
                self._has_words[index] = True
                self._has_values[index] = False
                found = True
        return found

    def has_words(self, index: int) -> bool:
        """Whether some cells of a column do not convert to its type."""
        return self._has_words[index]

    def is_untyped_text(self, index: int) -> bool:
        """Whether a column is text only because its values are not of another type."""
        return not self._is_given[index] and self.types[index] == pa.string()

    def _widen_numbers(self, index: int, column: pa.Array) -> None:
        if self._is_given[index]:
            return
        num_words = _count_words(column, _NUMBERS[-1], self._notation)
        while (kind := self.types[index]) != _NUMBERS[-1] and _count_words(column, kind, self._notation) > num_words:
            self.types[index] = _NUMBERS[_NUMBERS.index(kind) + 1]

    def _wider(self, kind: pa.DataType, column: pa.Array) -> pa.DataType:
        # Most types already fail on the first value, or on the first few.
        first = (column.drop_null() if column.null_count else column)[0].as_py()
        head = column.slice(0, 64)
        return next(
            wider
            for wider in _wider_than(kind)
            if (not self._notation.is_plain or may_convert(first, wider))
            and (len(head) == len(column) or convert(head, wider, self._notation) is not None)
            and convert(column, wider, self._notation) is not None
        )


class _NumberCounter:
    """Estimates how many cells of a column are numbers, or look like numbers in another notation."""

    def __init__(self) -> None:
        self._present = self._like_numbers = 0.0
        self.has_numbers = False

    def see(self, column: pa.Array, kind: pa.DataType) -> None:
        present = len(column) - column.null_count
        self._present += present
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            self._like_numbers += present
            self.has_numbers = True
        elif kind == pa.string():
            sample = column.drop_null()
            if len(sample) > _SAMPLE:
                # Not every n-th cell: words may alternate with numbers.
                chosen = np.random.default_rng(0).integers(0, len(sample), _SAMPLE)
                # pa.array would import pandas.
                sample = sample.take(pa.Array.from_buffers(pa.int64(), _SAMPLE, [None, pa.py_buffer(chosen)]))
            num_numbers = len(sample) - _count_words(sample, pa.float64(), Notation())
            self.has_numbers = self.has_numbers or num_numbers > 0
            self._like_numbers += present * (num_numbers + count_lookalikes(sample)) / len(sample)

    @property
    def are_most(self) -> bool:
        return self._like_numbers > self._present / 2


def _count_words(words: pa.Array, kind: pa.DataType, notation: Notation) -> int:
    """The number of cells that do not convert."""
    _, unconvertible = convert_cells(words, kind, notation)
    return 0 if unconvertible is None else int(np.count_nonzero(unconvertible))


def _wider_than(kind: pa.DataType) -> tuple[pa.DataType, ...]:
    return _CANDIDATES if kind == pa.null() else _CANDIDATES[_CANDIDATES.index(kind) + 1 :]
