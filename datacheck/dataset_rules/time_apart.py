"""DC330: times of splits that must not overlap, so that a model is never tested on times that it was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from datacheck.batch import Batch
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part, RuleState
from datacheck.dataset_rules.groups import find_columns
from datacheck.dataset_rules.positions import Scale, describe_difference, positions_of
from datacheck.findings import Example, Finding
from datacheck.schema.dataset_models import TimeApart
from datacheck.schema.intervals import nanoseconds_of
from datacheck.schema.times import NANOSECONDS
from datacheck.text import plain

TIME_OVERLAP, NOT_COMPARED = "DC330", "DC315"
#: Nanoseconds since 1970 (or a number), as text, file, row, row group.
_Moment = tuple[int, str, str, int, int | None]


@dataclass(frozen=True, slots=True)
class TimeApartRule:
    """The times of other splits begin after the training split has ended, and after a gap.

    With ``in_any_order`` they may also end before the training split begins.
    """

    rule: TimeApart
    in_any_order: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.rule.on,)

    def start(self, part: Part) -> TimeApartState:
        return TimeApartState(self, part)


class TimeApartState(RuleState):
    """The first and the last time of each split."""

    def __init__(self, rule: TimeApartRule, part: Part) -> None:
        super().__init__(rule, part)
        self._apart, self._in_any_order = rule.rule, rule.in_any_order
        self.ranges: dict[str | None, tuple[_Moment, _Moment]] = {}
        self.problem = ""

    def update(self, batch: Batch) -> None:
        columns = find_columns(batch, [self._apart.on])
        if columns is None or not batch.num_rows:
            return
        found = positions_of(columns[0])
        if found.problem or found.scale.epsilon or (self._apart.gap and not found.scale.unit):
            self.problem = self.problem or found.problem or "its values are not times"
            return
        valid = np.flatnonzero(found.valid)
        if len(valid):
            values = found.values[valid]
            rows = valid[[int(np.argmin(values)), int(np.argmax(values))]]
            first, last = (self._moment_at(int(row), int(found.values[row]), found.scale, batch) for row in rows)
            self._add(self._part.split, first, last)

    def _moment_at(self, row: int, value: int, scale: Scale, batch: Batch) -> _Moment:
        number = value * NANOSECONDS[scale.unit] if scale.unit else value
        file_row = int(batch.file_rows(np.array([row]))[0])
        return number, scale.format(value), self._part.uri, file_row, batch.row_group

    def _add(self, split: str | None, first: _Moment, last: _Moment) -> None:
        if split in self.ranges:
            known_first, known_last = self.ranges[split]
            first = first if first[0] < known_first[0] else known_first
            last = last if last[0] > known_last[0] else known_last
        self.ranges[split] = (first, last)

    def merge(self, other: TimeApartState) -> None:
        self.problem = self.problem or other.problem
        for split, (first, last) in other.ranges.items():
            self._add(split, first, last)

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        name = self._apart.on
        if self.problem:
            yield DatasetOutcome(Finding("DC005", context.uris[0], name, 1, 1, detail=f"splits: {self.problem}"))
            return
        splits = [split for split in self.ranges if split is not None]
        train = context.train or next((split for split in splits if split.startswith("train")), None)
        if train not in splits or len(splits) < 2:
            detail = "splits: " + ("there is no split other than the training split" if train in splits else _NO_TRAIN)
            yield DatasetOutcome(Finding(NOT_COMPARED, context.uris[0], name, 1, 1, detail=detail))
            return
        begin, end = self.ranges[train]
        gap = nanoseconds_of(self._apart.gap) if self._apart.gap else 0
        for split in splits:
            start = self.ranges[split][0]
            if self._in_any_order and self.ranges[split][1][0] < begin[0]:
                continue
            if split != train and (start[0] <= end[0] or start[0] - end[0] < gap):
                yield self._overlap(split, start, end)

    def _overlap(self, split: str, start: _Moment, end: _Moment) -> DatasetOutcome:
        number, text, uri, row, group = start
        detail = (
            f"{plain(split)} begins at {text}, the training data ends at {end[1]} (row {end[3]} of {plain(end[2])})"
        )
        if self._apart.gap:
            apart = describe_difference(Scale("ns"), 0, number - end[0])
            detail = f"{detail}; expected a gap of {self._apart.gap}, found {apart}"
        example = Example(row, group, (), text)
        return DatasetOutcome(
            Finding(TIME_OVERLAP, uri, self._apart.on, 1, 1, (example,), f"{split} after train", detail)
        )


_NO_TRAIN = "no file belongs to the training split"
