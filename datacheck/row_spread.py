"""How violations are spread over the rows of a file, in at most 64 counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_MAX_BINS_BITS = 6
_MAX_SHIFT = 62


@dataclass(frozen=True, slots=True)
class RowSpread:
    """Counts of violations by ranges of rows.

    ``counts[i]`` counts the rows from ``i << shift`` to ``(i + 1) << shift``. The shift is the least with which the
    last row with a violation is in one of 64 ranges. So merged parts are the spread of the whole, in whatever order
    they are merged.
    """

    shift: int
    counts: tuple[int, ...]

    @classmethod
    def of(cls, rows: npt.NDArray[np.int64]) -> RowSpread:
        """The spread of violations at these rows of a file, one for each violation; at least one."""
        shift = _shift_for(int(rows.max()))
        return cls(shift, tuple(np.bincount(rows >> shift).tolist()))

    @property
    def rows_per_count(self) -> int:
        return 1 << self.shift

    def merge(self, other: RowSpread) -> RowSpread:
        """The spread of the violations of both."""
        shift = max(self.shift, other.shift)
        parts = [part._coarser(shift) for part in (self, other)]
        length = max(map(len, parts))
        padded = [part + (0,) * (length - len(part)) for part in parts]
        return RowSpread(shift, tuple(map(sum, zip(*padded, strict=True))))

    def over(self, num_rows: int) -> RowSpread:
        """The spread over a whole file of ``num_rows`` rows: rows after the last violation are counted too, as 0."""
        shift = max(self.shift, _shift_for(num_rows - 1)) if num_rows > 0 else self.shift
        counts = self._coarser(shift)
        missing = (max(num_rows - 1, 0) >> shift) + 1 - len(counts)
        return RowSpread(shift, counts + (0,) * missing)

    def _coarser(self, shift: int) -> tuple[int, ...]:
        step = 1 << (shift - self.shift)
        if step == 1:
            return self.counts
        return tuple(sum(self.counts[start : start + step]) for start in range(0, len(self.counts), step))

    def to_dict(self) -> dict[str, Any]:
        return {"rows_per_count": self.rows_per_count, "counts": list(self.counts)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RowSpread:
        """Read what :meth:`to_dict` wrote; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        width, counts = record["rows_per_count"], record["counts"]
        if type(width) is not int or not isinstance(counts, list) or not all(type(one) is int for one in counts):
            raise TypeError("expected integers")
        shift = width.bit_length() - 1
        if width < 1 or width != 1 << shift or shift > _MAX_SHIFT or not 1 <= len(counts) <= 1 << _MAX_BINS_BITS:
            raise ValueError("expected a power of two, and 1 to 64 counts")
        if min(counts) < 0:
            raise ValueError("expected counts of at least 0")
        return cls(shift, tuple(counts))


class SpreadCounter:
    """Counts the violations of a file or of a part of one, block by block."""

    def __init__(self) -> None:
        self._shift = 0
        self._counts: dict[int, int] = {}

    def add(self, rows: npt.NDArray[np.int64]) -> None:
        """Add the rows of some violations, one for each; at least one."""
        self._coarsen(_shift_for(int(rows.max())))
        bins = rows >> self._shift
        first = int(bins.min())
        for offset, count in enumerate(np.bincount(bins - first).tolist()):
            if count:
                self._counts[first + offset] = self._counts.get(first + offset, 0) + count

    def add_runs(self, first_row: int, num_rows: int, num_violations: int, count: Callable[[int, int], int]) -> None:
        """Add violations in consecutive rows, the last of which has one.

        ``count`` gives the number of violations from one row to before another, both relative to ``first_row``.
        """
        last_row = first_row + num_rows - 1
        self._coarsen(_shift_for(last_row))
        first, last = first_row >> self._shift, last_row >> self._shift
        for index in range(first, last + 1):
            low, high = (index << self._shift) - first_row, ((index + 1) << self._shift) - first_row
            found = num_violations if first == last else count(max(low, 0), min(high, num_rows))
            if found:
                self._counts[index] = self._counts.get(index, 0) + found

    def _coarsen(self, shift: int) -> None:
        if shift <= self._shift:
            return
        step, finer = shift - self._shift, self._counts
        self._shift, self._counts = shift, {}
        for index, count in finer.items():
            self._counts[index >> step] = self._counts.get(index >> step, 0) + count

    def spread(self) -> RowSpread | None:
        """The spread of what was added; None for nothing."""
        if not self._counts:
            return None
        return RowSpread(self._shift, tuple(self._counts.get(index, 0) for index in range(max(self._counts) + 1)))


def _shift_for(last_row: int) -> int:
    return max(0, last_row.bit_length() - _MAX_BINS_BITS)
