"""DC325 and DC326: the number of rows and files of a dataset, and the age of its newest value."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from datacheck.batch import Batch
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part, RuleState
from datacheck.dataset_rules.groups import find_columns
from datacheck.dataset_rules.positions import Scale, describe_difference, positions_of
from datacheck.findings import Example, Finding
from datacheck.schema.intervals import Interval, nanoseconds_of
from datacheck.schema.times import NANOSECONDS

SIZE, STALE = "DC325", "DC326"


@dataclass(frozen=True, slots=True)
class SizeRule:
    """The number of rows and files that a schema asks for."""

    num_rows: Interval | None
    num_files: Interval | None

    @property
    def columns(self) -> tuple[str | None, ...]:
        return ()

    def start(self, part: Part) -> SizeState:
        return SizeState(self, part)


class SizeState(RuleState):
    """The number of rows; the context has the files."""

    _rule: SizeRule

    def __init__(self, rule: SizeRule, part: Part) -> None:
        super().__init__(rule, part)
        self.num_rows = 0

    def update(self, batch: Batch) -> None:
        if batch.counts_rows:
            self.num_rows += batch.num_rows

    def merge(self, other: SizeState) -> None:
        self.num_rows += other.num_rows

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        num_files = len(context.uris) if context.num_files is None else context.num_files
        for what, wanted, number in (
            ("rows", self._rule.num_rows, self.num_rows),
            ("files", self._rule.num_files, num_files),
        ):
            if wanted is not None and not wanted.admits(number):
                expected = str(wanted.ge) if wanted.ge is not None and wanted.ge == wanted.le else wanted.describe()
                detail = f"{number:,} {what if number != 1 else what[:-1]}, expected {expected}"
                yield DatasetOutcome(Finding(SIZE, context.uris[0], None, 1, 1, rule=f"num_{what}", detail=detail))


@dataclass(frozen=True, slots=True)
class AgeRule:
    """How old the newest time of a field may be."""

    path: str
    max_age: str

    @property
    def columns(self) -> tuple[str | None, ...]:
        return (self.path,)

    def start(self, part: Part) -> AgeState:
        return AgeState(self, part)


class AgeState(RuleState):
    """The newest time so far, in nanoseconds since 1970, as text, and where it is first."""

    _rule: AgeRule

    def __init__(self, rule: AgeRule, part: Part) -> None:
        super().__init__(rule, part)
        self.newest: tuple[int, str, str, int, int | None] | None = None
        self.problem = ""

    def update(self, batch: Batch) -> None:
        columns = find_columns(batch, [self._rule.path])
        if columns is None or not batch.num_rows:
            return
        found = positions_of(columns[0])
        if found.problem or not found.scale.unit:
            self.problem = found.problem or "its values are not times"
            return
        valid = np.flatnonzero(found.valid)
        if not len(valid):
            return
        row = int(valid[np.argmax(found.values[valid])])
        ticks = int(found.values[row])
        newest = ticks * NANOSECONDS[found.scale.unit]
        if self.newest is None or newest > self.newest[0]:
            file_row = int(batch.file_rows(np.array([row]))[0])
            self.newest = (newest, found.scale.format(ticks), self._part.uri, file_row, batch.row_group)

    def merge(self, other: AgeState) -> None:
        self.problem = self.problem or other.problem
        if other.newest is not None and (self.newest is None or other.newest[0] > self.newest[0]):
            self.newest = other.newest

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        path, uri = self._rule.path, context.uris[0]
        if self.problem:
            yield DatasetOutcome(Finding("DC005", uri, path, 1, 1, detail=f"max_age: {self.problem}"))
            return
        if self.newest is None:
            detail = f"there is no value, expected one that is not older than {self._rule.max_age}"
            yield DatasetOutcome(Finding(STALE, uri, path, 1, 1, rule="max_age", detail=detail))
            return
        newest, text, uri, row, group = self.newest
        now = int(context.now.astimezone(datetime.UTC).timestamp()) * 10**9
        age = now - newest
        if age > nanoseconds_of(self._rule.max_age):
            shown = describe_difference(Scale("s"), 0, age // 10**9)
            detail = f"the newest value is {text}, {shown} ago, expected at most {self._rule.max_age}"
            example = Example(row, group, (), text)
            yield DatasetOutcome(Finding(STALE, uri, path, 1, 1, (example,), "max_age", detail))
