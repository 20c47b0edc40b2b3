"""How violations are spread over the last axis of an array: which columns break a rule from end to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: The most columns of an array that are counted separately.
_MAX_SIZE = 4096
#: The most columns, of those that break it in the first row, that are followed further.
_MAX_TRIED = 64
#: Columns that break a rule from end to end, beyond which no list of them would be read.
_MAX_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class IndexCounts:
    """The columns whose every value in some rows breaks a rule: ``size`` is the length of the axis, ``counts`` by index."""

    size: int
    counts: Mapping[int, int]

    def merge(self, other: IndexCounts | None) -> IndexCounts | None:
        """The counts of two parts of an array together; None if no column is in both."""
        if other is None or self.size != other.size:
            return None
        counts = {index: number + other.counts[index] for index, number in self.counts.items() if index in other.counts}
        return IndexCounts(self.size, counts) if counts else None

    def whole(self, num_values: int) -> list[int]:
        """The columns that are counted in all rows of an array with that number of values."""
        return [index for index, number in self.counts.items() if number * self.size == num_values]

    def to_dict(self) -> dict[str, Any]:
        return {"size": self.size, "counts": [list(pair) for pair in self.counts.items()]}

    @classmethod
    def from_dict(cls, record: Any) -> IndexCounts:
        """Read what :meth:`to_dict` wrote; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        return cls(int(record["size"]), {int(index): int(number) for index, number in record["counts"]})


class WholeColumns:
    """Finds the columns whose every value breaks a rule, in the parts of an array of columns of ``size``, in order."""

    def __init__(self, size: int) -> None:
        self._size, self._next = size, 0
        self._left: list[int] | None = None if 1 < size <= _MAX_SIZE else []

    def add(self, mask: npt.NDArray[np.bool_], start: int) -> None:
        """Add a part: the violations from a flat position on."""
        if self._left is None:
            first = mask[: self._size] if start == 0 else mask[:0]
            self._left = np.flatnonzero(first).tolist() if len(first) == self._size else []
        if not self._left:
            return
        is_next, size = start == self._next, self._size
        columns = self._left if is_next and len(self._left) <= _MAX_TRIED else []
        self._left = [column for column in columns if mask[(column - start) % size :: size].all()]
        self._next = start + len(mask)

    def counts(self, num_values: int) -> IndexCounts | None:
        """The counts for an array with that number of values; None if there are none, many, or only such columns."""
        is_whole = self._left and self._next == num_values >= 2 * self._size
        if not self._left or not is_whole or len(self._left) > min(_MAX_COLUMNS, self._size - 1):
            return None
        return IndexCounts(self._size, dict.fromkeys(self._left, num_values // self._size))
