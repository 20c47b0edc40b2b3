"""Whether neighbouring rows of a field are one step apart, as in a series, and where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import decode, is_encoded, take_rows
from datacheck.batch import Batch
from datacheck.dataset_rules.positions import Scale, describe_difference
from datacheck.distinct import distinct
from datacheck.leaves import BoolArray, IntArray
from datacheck.profile.notes.panel_steps import PanelSteps, SeenStep
from datacheck.profile.notes.tally import Places, Tally
from datacheck.text import plain, quantity

#: The difference that stands for all below 0: another series begins.
_BACK = -1
#: Different differences, and fields that may name the series.
_MAX_DIFFERENT, _MAX_NAMES = 64, 8
#: Rows whose differences tell whether the rest is worth looking at, and the share of the commonest one.
_PROBE, _MIN_PROMISING = 4096, 0.5
#: A series has so many equal steps, in so large a share; so large a share of all neighbours may begin another series.
_MIN_EQUAL, _MIN_SHARE, _MAX_BACK = 20, 0.9, 0.1
#: The share of integers that are one step apart: sorted class ids are not.
_MIN_DENSE = 0.5


@dataclass(slots=True)
class _Row:
    """The first or the last row with a value: the value, what the other fields have there, and where it is."""

    value: int
    names: dict[str, Any]
    place: Tally


@dataclass(frozen=True, slots=True)
class UnevenSteps:
    """What is wrong with a series: the number of neighbours in it, and the tallies of the wrong ones."""

    detail: str
    num_steps: int
    tallies: list[Tally]


@dataclass(slots=True)
class StepNotes:
    """The differences between neighbouring rows of a field of integers or times, in ticks. Mergeable.

    ``seen`` has them by difference, ``within`` by difference and field those between which the field does not change.
    Both are empty once there are too many different ones for a series. ``panels`` has the steps of the series that each
    field names where rows of several series have the same time, None if the values go back or stay.
    """

    scale: Scale
    seen: dict[int, SeenStep] = field(default_factory=dict)
    within: dict[tuple[int, str], SeenStep] = field(default_factory=dict)
    first: _Row | None = None
    last: _Row | None = None
    panels: dict[str, PanelSteps] | None = field(default_factory=dict)
    is_irregular: bool = False

    def add(self, values: IntArray, rows: IntArray, batch: Batch, path: str, places: Places) -> None:
        """Add the present values of the next rows of a batch, and which rows these are."""
        if self.is_irregular or not len(values):
            return
        if not _is_promising(values, is_start=self.first is None):
            self._give_up()
            return
        fields = dict(_names(batch, path, rows))
        ends = [
            _Row(
                int(values[at]), {name: data[at].as_py() for name, data in fields.items()}, Tally(1, places([rows[at]]))
            )
            for at in (0, -1)
        ]
        self._follow(ends[0])
        self.first, self.last = self.first or ends[0], ends[1]
        steps = np.maximum(np.diff(values), _BACK)
        if (steps == _BACK).any() or (len(values) >= _MIN_EQUAL and not steps.any()):
            self.panels = None
        if self.panels is not None:
            for name, data in fields.items():
                self.panels.setdefault(name, PanelSteps()).add(values, data, rows, places)
        # Most are as the first one, and sorting all of them would take longer than all else.
        different = distinct(np.append(steps[steps != steps[:1]], steps[:1]))
        if len(different) > _MAX_DIFFERENT:
            self._give_up()
            return
        changes = {name: _changes(data) for name, data in fields.items()}

        def seen(mask: BoolArray, field: pa.Array | None = None) -> SeenStep:
            found = np.flatnonzero(mask) + 1
            label = "" if field is None else str(field[int(found[0])].as_py())
            return SeenStep(Tally(len(found), places(rows[found[:5]])), int(values[found[0]]), label)

        for step in different.tolist():
            is_step = steps == step
            self.seen.setdefault(step, SeenStep()).merge(seen(is_step))
            for name, changed in changes.items():
                if (is_step & ~changed).any():
                    self.within.setdefault((step, name), SeenStep()).merge(seen(is_step & ~changed, fields[name]))
        self._limit()

    def _follow(self, row: _Row) -> None:
        """Compare the row after the last one with it. Files are series of their own."""
        if self.last is None or self.last.place.uri != row.place.uri:
            return
        step = max(row.value - self.last.value, _BACK)
        place = row.place
        self.seen.setdefault(step, SeenStep()).merge(SeenStep(Tally(1, list(place.examples), place.uri), row.value))
        for name, value in row.names.items():
            if self.last.names.get(name, row) == value:
                seen = SeenStep(Tally(1, list(place.examples), place.uri), row.value, str(value))
                self.within.setdefault((step, name), SeenStep()).merge(seen)

    def merge(self, other: StepNotes) -> None:
        """Merge the notes on the next part of the data, which must not be used afterwards."""
        if self.is_irregular or other.is_irregular or other.scale != self.scale:
            self._give_up()
            return
        if other.first is not None:
            self._follow(other.first)
            self.first, self.last = self.first or other.first, other.last
        for step, seen in other.seen.items():
            self.seen.setdefault(step, SeenStep()).merge(seen)
        for key, seen in other.within.items():
            self.within.setdefault(key, SeenStep()).merge(seen)
        if self.panels is None or other.panels is None:
            self.panels = None
        else:
            for name, panel in other.panels.items():
                self.panels.setdefault(name, PanelSteps()).merge(panel)
        self._limit()

    def _limit(self) -> None:
        if len(self.seen) > _MAX_DIFFERENT:
            self._give_up()

    def _give_up(self) -> None:
        self.is_irregular = True
        self.seen, self.within, self.panels, self.first, self.last = {}, {}, None, None, None

    def tallies(self) -> list[Tally]:
        ends = [row.place for row in (self.first, self.last) if row is not None]
        panels = [tally for panel in (self.panels or {}).values() for tally in panel.tallies()]
        return [*ends, *(seen.tally for seen in (*self.seen.values(), *self.within.values())), *panels]

    def uneven(self, path: str) -> UnevenSteps | None:
        """What is wrong with the steps, if they are nearly all equal."""
        for name, panel in (self.panels or {}).items() if _BACK not in self.seen else ():
            found = panel.steps()
            if found is not None and not _is_repeated(found[1]) and (uneven := self._uneven(path, *found, name)):
                return uneven
        counts = {step: seen.tally.count for step, seen in self.seen.items()}
        rises = {step: number for step, number in counts.items() if step > 0}
        if not rises:
            return None
        step, total = max(rises, key=lambda one: (rises[one], -one)), sum(counts.values())
        is_dense = bool(self.scale.unit) or rises[step] >= _MIN_DENSE * total
        if counts.get(_BACK, 0) > _MAX_BACK * total or not is_dense:
            return None
        by = self._by(step)
        kept = {other: seen for other, seen in self.seen.items() if other != _BACK}
        if by is not None:
            kept = {other: self.within[other, by] for other in kept if (other, by) in self.within}
        if _is_repeated(self.seen):
            # Several rows have each time.
            kept.pop(0, None)
        return self._uneven(path, step, kept, by)

    def _uneven(self, path: str, step: int, seen: Mapping[int, SeenStep], by: str | None) -> UnevenSteps | None:
        """What is wrong with the neighbours within series, most of which are ``step`` apart."""
        wrong = {other: one for other, one in seen.items() if other != step}
        num_equal, num_wrong = seen[step].tally.count, sum(one.tally.count for one in wrong.values())
        if not wrong or num_equal < max(_MIN_EQUAL, _MIN_SHARE * (num_equal + num_wrong)):
            return None
        tallies = [wrong[other].tally for other in sorted(wrong)]
        return UnevenSteps(self._describe(path, step, by, wrong), num_equal + num_wrong, tallies)

    def _by(self, step: int) -> str | None:
        """The first field that names the series: it changes wherever the values go back, and between no equal steps."""
        if _BACK not in self.seen:
            return None
        number = self.seen[step].tally.count
        names = [name for other, name in self.within if other == step]
        return next(
            (
                name
                for name in names
                if self.within[step, name].tally.count == number and (_BACK, name) not in self.within
            ),
            None,
        )

    def _describe(self, path: str, step: int, by: str | None, wrong: Mapping[int, SeenStep]) -> str:
        def shown(difference: int) -> str:
            return describe_difference(self.scale, 0, difference)

        gaps = {other: seen for other, seen in wrong.items() if other > step}
        parts = []
        if gaps:
            longest = max(gaps)
            seen, number = gaps[longest], sum(one.tally.count for one in gaps.values())
            ends = f"from {self.scale.format(seen.value - longest)} to {self.scale.format(seen.value)}"
            series = f" in {plain(by, 60)} '{plain(seen.label, 60)}'" if by else ""
            which = "" if number == 1 else "the longest "
            parts.append(f"{quantity(number, 'gap')} ({which}{shown(longest)}, {ends}{series})")
        if 0 in wrong:
            parts.append(quantity(wrong[0].tally.count, "repeat"))
        shorter = sum(seen.tally.count for other, seen in wrong.items() if 0 < other < step)
        if shorter:
            parts.append(quantity(shorter, "shorter step"))
        listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
        keys = [f"by: {plain(by, 80)}"] if by else ["by: (the field that names the series)"] * (_BACK in self.seen)
        rule = ", ".join((*keys, f"on: {plain(path, 80)}", f"step: {shown(step)}"))
        return f"are not {shown(step)}: {listed}. As a rule: sequence: {{{rule}}}"


def _is_repeated(seen: Mapping[int, SeenStep]) -> bool:
    """Whether many neighbours have the same value."""
    return 0 in seen and seen[0].tally.count > _MAX_BACK * sum(one.tally.count for one in seen.values())


def _is_promising(values: IntArray, *, is_start: bool) -> bool:
    """Whether the values may be a series: their differences fit, and one is common among the first of those above 0."""
    if int(values.max()) - int(values.min()) >= 2**63:
        return False
    if not is_start or len(values) < _MIN_EQUAL:
        return True
    steps = np.diff(values[:_PROBE])
    rises = steps[steps > 0]
    if not len(rises):
        return bool((steps == 0).all())
    commonest = int(np.unique(rises, return_counts=True)[1].max())
    return commonest >= _MIN_PROMISING * len(rises) and 2 * int(np.count_nonzero(steps < 0)) <= len(steps)


def _names(batch: Batch, path: str, rows: IntArray) -> Iterator[tuple[str, pa.Array]]:
    """The fields that may name the series of each row."""
    number = 0
    for column in batch.columns:
        if number == _MAX_NAMES:
            return
        data = column.data
        if column.name is None or column.name == path or not isinstance(data, pa.Array):
            continue
        flat = decode(data) if is_encoded(data.type) else data
        kind = flat.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
            number += 1
            yield column.name, flat if len(rows) == len(flat) else take_rows(flat, rows)


def _changes(data: pa.Array) -> BoolArray:
    """Whether each value but the first differs from the one before it."""
    differs = pc.not_equal(data.slice(1), data.slice(0, len(data) - 1)).fill_null(False)
    found: BoolArray = differs.to_numpy(zero_copy_only=False)
    return found
