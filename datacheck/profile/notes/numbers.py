"""What the notes know of the numbers of a field: its ends with their counts, zeros, few distinct values, casts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from datacheck.distinct import distinct
from datacheck.profile.notes.tally import Places, Tally

Array = np.ndarray[Any, Any]

#: Distinct values that are kept at either end.
NUM_ENDS = 6
#: The number of values above which a field no longer counts as one of few distinct values.
_MAX_DISTINCT = 20
_PROBE = 4096
#: The largest finite values of the formats that training casts to.
LARGEST = {"float16": 65504.0, "float32": float(np.finfo(np.float32).max)}


class Ends:
    """The few smallest or largest distinct values, each with its exact count and where it first occurs.

    A value at an end of the whole data is at that end of every part that has it, so parts merge without loss.
    """

    __slots__ = ("side", "tallies")

    def __init__(self, side: Literal["low", "high"]) -> None:
        self.side = side
        self.tallies: dict[Any, Tally] = {}

    def __iter__(self) -> Any:
        """The values from the end inwards, with their tallies."""
        return iter(sorted(self.tallies.items(), reverse=self.side == "high"))

    def add(self, values: Array, end: Any, positions: Array | None, places: Places, start: int) -> None:
        """Add finite values, whose extreme on this side is ``end``.

        ``positions`` are theirs from ``start`` on, None if they are consecutive.
        """
        if self._is_beyond(end):
            return
        rest = values
        if len(self.tallies) == NUM_ENDS:
            innermost = min(self.tallies) if self.side == "high" else max(self.tallies)
            rest = values[values >= innermost if self.side == "high" else values <= innermost]
        find = np.maximum.reduce if self.side == "high" else np.minimum.reduce
        for number in range(NUM_ENDS):
            if not len(rest):
                return
            value = find(rest) if number else end
            if self._is_beyond(value):
                return
            equal = rest == value
            self._count(value.item(), int(np.count_nonzero(equal)), values, positions, places, start)
            rest = rest[~equal]

    def _is_beyond(self, value: Any) -> bool:
        """Whether a value is further from the end than those that are kept."""
        if len(self.tallies) < NUM_ENDS:
            return False
        return bool(value < min(self.tallies) if self.side == "high" else value > max(self.tallies))

    def _count(
        self, value: Any, number: int, values: Array, positions: Array | None, places: Places, start: int
    ) -> None:
        tally = self.tallies.get(value)
        if tally is None:
            first = int(np.argmax(values == value))
            examples = places([start + (first if positions is None else int(positions[first]))])
            self.tallies[value] = Tally(number, examples)
            self._trim()
        else:
            tally.count += number

    def merge(self, other: Ends) -> None:
        for value, tally in other.tallies.items():
            self.tallies.setdefault(value, Tally()).merge(tally)
        self._trim()

    def _trim(self) -> None:
        for value in sorted(self.tallies, reverse=self.side == "high")[NUM_ENDS:]:
            del self.tallies[value]


@dataclass(slots=True)
class CommonValues:
    """The exact counts of all values, as long as there are only a few distinct ones; then None."""

    counts: dict[Any, int] | None = field(default_factory=dict)

    def add(self, values: Array) -> None:
        if self.counts is None or not len(values):
            return
        if len(values) > _PROBE and len(distinct(values[:_PROBE])) > _MAX_DISTINCT:
            self.counts = None
            return
        different, counts = np.unique(values, return_counts=True)
        self._add(dict(zip(different.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: CommonValues) -> None:
        if other.counts is None:
            self.counts = None
        else:
            self._add(other.counts)

    def _add(self, counts: dict[Any, int]) -> None:
        if self.counts is None:
            return
        for value, number in counts.items():
            self.counts[value] = self.counts.get(value, 0) + number
        if len(self.counts) > _MAX_DISTINCT:
            self.counts = None


@dataclass(slots=True)
class NumberNotes:
    """The notes on finite numbers, or on the ticks of times.

    ``num_finite`` counts the values; ``num_zeros`` those that are 0. ``is_whole`` says whether all are integers.
    ``overflows`` counts, by format, those that become infinite in it.
    """

    num_finite: int = 0
    num_zeros: int = 0
    is_whole: bool = True
    low: Ends = field(default_factory=lambda: Ends("low"))
    high: Ends = field(default_factory=lambda: Ends("high"))
    common: CommonValues = field(default_factory=CommonValues)
    overflows: dict[str, Tally] = field(default_factory=lambda: {name: Tally() for name in LARGEST})

    def add(
        self,
        values: Array,
        ends: tuple[Any, Any],
        positions: Array | None,
        places: Places,
        start: int,
        *,
        is_float: bool,
    ) -> None:
        """Add a block of finite values with their :func:`~datacheck.profile.leaf.extremes`, as for :meth:`Ends.add`."""
        self.num_finite += len(values)
        low, high = ends
        if low <= 0 <= high:
            self.num_zeros += int(np.count_nonzero(values == 0))
        self.low.add(values, low, positions, places, start)
        self.high.add(values, high, positions, places, start)
        self.common.add(values)
        if not is_float:
            return
        self.is_whole = self.is_whole and _all_whole(values[:64]) and _all_whole(values)
        extreme = max(abs(float(low)), abs(float(high)))
        for name, largest in LARGEST.items():
            if extreme > largest:
                mask = np.abs(values) > largest
                at = mask if positions is None else np.isin(np.arange(positions[-1] + 1), positions[mask])
                self.overflows[name].add_mask(at, places, start)

    def merge(self, other: NumberNotes) -> None:
        self.num_finite += other.num_finite
        self.num_zeros += other.num_zeros
        self.is_whole = self.is_whole and other.is_whole
        self.low.merge(other.low)
        self.high.merge(other.high)
        self.common.merge(other.common)
        for name, tally in other.overflows.items():
            self.overflows[name].merge(tally)

    def tallies(self) -> list[Tally]:
        return [*self.low.tallies.values(), *self.high.tallies.values(), *self.overflows.values()]


def _all_whole(values: Array) -> bool:
    return bool((np.floor(values) == values).all())
