"""The steps of each series of a panel whose rows are in the order of time, so that other series lie between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.leaves import IntArray
from datacheck.profile.notes.tally import Places, Tally

#: Data with more series, or with more different steps over all series, is not a panel.
_MAX_SERIES: Final = 4096
_MAX_DIFFERENT: Final = 64
#: Rows from which on a part of the data tells whether it is a panel, and its share of rows with the time of the row before.
_FEW_ROWS: Final = 20
_MIN_SHARED: Final = 0.1


@dataclass(slots=True)
class SeenStep:
    """Neighbours of one difference: where the later rows are, the value of the first of them, and the series it is in."""

    tally: Tally = field(default_factory=Tally)
    value: int = 0
    label: str = ""

    def merge(self, other: SeenStep) -> None:
        if not self.tally.count:
            self.value, self.label = other.value, other.label
        self.tally.merge(other.tally)


@dataclass(slots=True)
class _Series:
    """The first and the last time of a series, with the places of both, and its steps by difference."""

    first: int
    last: int
    first_place: Tally
    last_place: Tally
    seen: dict[int, SeenStep] = field(default_factory=dict)

    def add(self, step: int, seen: SeenStep) -> None:
        self.seen.setdefault(step, SeenStep()).merge(seen)

    def merge(self, other: _Series, label: str) -> None:
        # Files are series of their own.
        if self.last_place.uri == other.first_place.uri:
            place = other.first_place
            self.add(other.first - self.last, SeenStep(Tally(1, list(place.examples), place.uri), other.first, label))
        for step, seen in other.seen.items():
            self.add(step, seen)
        self.last, self.last_place = other.last, other.last_place


@dataclass(slots=True)
class PanelSteps:
    """The series of a panel, by the value of the field that may name them. ``series`` is None if they are none. Mergeable."""

    series: dict[Any, _Series] | None = field(default_factory=dict)

    def add(self, values: IntArray, names: pa.Array, rows: IntArray, places: Places) -> None:
        """Add the values of the next rows, whose order is theirs."""
        if self.series is None or not len(values):
            return
        shared = np.count_nonzero(values[1:] == values[:-1])
        if len(values) >= _FEW_ROWS and shared < _MIN_SHARED * len(values):
            self.series = None
            return
        encoded = pc.dictionary_encode(names)
        num_series = len(encoded.dictionary)
        if num_series > _MAX_SERIES or (len(values) >= _FEW_ROWS and 2 * num_series > len(values)):
            self.series = None
            return
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")[np.count_nonzero(codes < 0) :]
        if not len(order):
            # No row with a value has a name.
            return
        codes, values, rows = codes[order], values[order], rows[order]
        starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
        ends = np.append(starts[1:], len(codes)) - 1
        labels = encoded.dictionary.to_pylist()
        added = {
            labels[codes[start]]: _Series(int(values[start]), int(values[end]), Tally(1, [example]), Tally())
            for start, end, example in zip(starts, ends, places(rows[starts]), strict=True)
        }
        within = np.ones(len(codes), np.bool_)
        within[starts] = False
        later = np.flatnonzero(within)
        different, kinds = np.unique(values[later] - values[later - 1], return_inverse=True)
        if len(different) > _MAX_DIFFERENT:
            self.series = None
            return
        # One number for a series and a step: the first row of each, and how many there are.
        number = codes[later] * np.int64(len(different) + 1) + kinds
        by_number = np.argsort(number, kind="stable")
        firsts = np.flatnonzero(np.append(True, np.diff(number[by_number]) != 0)) if len(number) else by_number
        counts = np.diff(np.append(firsts, len(number)))
        common = np.bincount(kinds).argmax() if len(kinds) else 0
        for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
            at = later[by_number[first : first + min(count, 5)]]
            kind = kinds[by_number[first]]
            label = labels[codes[at[0]]]
            examples = [] if kind == common else places(rows[at])
            added[label].add(int(different[kind]), SeenStep(Tally(count, examples), int(values[at[0]]), str(label)))
        self._merge(added)

    def merge(self, other: PanelSteps) -> None:
        """Merge the series of the next part of the data, which must not be used afterwards."""
        if self.series is None or other.series is None:
            self.series = None
        else:
            self._merge(other.series)

    def _merge(self, added: dict[Any, _Series]) -> None:
        assert self.series is not None
        for name, series in added.items():
            if name in self.series:
                self.series[name].merge(series, str(name))
            else:
                self.series[name] = series
        if (
            len(self.series) > _MAX_SERIES
            or len({step for one in self.series.values() for step in one.seen}) > _MAX_DIFFERENT
        ):
            self.series = None

    def tallies(self) -> list[Tally]:
        return [
            tally
            for one in (self.series or {}).values()
            for tally in (one.first_place, one.last_place, *(seen.tally for seen in one.seen.values()))
        ]

    def steps(self) -> tuple[int, dict[int, SeenStep]] | None:
        """The most common step, and all differences in the series that mostly take it; None without series."""
        paces: dict[int, list[_Series]] = {}
        for one in (self.series or {}).values():
            counts = {step: seen.tally.count for step, seen in one.seen.items()}
            if counts:
                paces.setdefault(max(counts, key=lambda step: (counts[step], -step)), []).append(one)
        step = max(paces, key=lambda one: (len(paces[one]), -one), default=0)
        if step <= 0 or len(paces[step]) < 2:
            return None
        found: dict[int, SeenStep] = {}
        # In the order of the rows, so that the examples are the first ones.
        parts = [(difference, seen) for one in paces[step] for difference, seen in one.seen.items()]
        for difference, seen in sorted(parts, key=lambda part: [(one.row or 0) for one in part[1].tally.examples[:1]]):
            tally = Tally(seen.tally.count, list(seen.tally.examples), seen.tally.uri)
            found.setdefault(difference, SeenStep()).merge(SeenStep(tally, seen.value, seen.label))
        return step, found
