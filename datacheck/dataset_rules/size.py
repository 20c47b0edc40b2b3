"""DC325 and DC326: the number of rows and files of a dataset, and the age of its newest value."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.batch import Batch
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part
from datacheck.dataset_rules.groups import find_columns
from datacheck.dataset_rules.positions import Scale, describe_difference, positions_of
from datacheck.findings import Example, Finding
from datacheck.schema.intervals import Interval, nanoseconds_of
from datacheck.schema.times import NANOSECONDS

__all__ = ["AgeRule", "SizeRule"]

SIZE, STALE = "DC325", "DC326"


@dataclass(frozen=True, slots=True)
class SizeRule:
    """The number of rows and files that a schema asks for."""

    num_rows: Interval | None
    num_files: Interval | None

    @property
    def columns(self) -> tuple[str | None, ...]:
        return ()

    def start(self, part: Part) -> SizeState:  # noqa: ARG002
        return SizeState(self)

    def restore(self, record: Any, part: Part) -> SizeState:  # noqa: ARG002
        return SizeState(self, int(record))


class SizeState:
    """The number of rows. The files are those of the context."""

    def __init__(self, rule: SizeRule, num_rows: int = 0) -> None:
        self._rule, self.num_rows = rule, num_rows

    def update(self, batch: Batch) -> None:
        if batch.counts_rows:
            self.num_rows += batch.num_rows

    def merge(self, other: SizeState) -> None:
        self.num_rows += other.num_rows

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        for what, wanted, number in (
            ("rows", self._rule.num_rows, self.num_rows),
            ("files", self._rule.num_files, len(context.uris)),
        ):
            if wanted is not None and not wanted.admits(number):
                expected = str(wanted.ge) if wanted.ge is not None and wanted.ge == wanted.le else wanted.describe()
                detail = f"{number:,} {what if number != 1 else what[:-1]}, expected {expected}"
                yield DatasetOutcome(Finding(SIZE, context.uris[0], None, 1, 1, rule=f"num_{what}", detail=detail))

    def close(self) -> None:
        """Nothing is on disk."""

    def to_json(self) -> Any:
        return self.num_rows


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

    def restore(self, record: Any, part: Part) -> AgeState:
        state = AgeState(self, part)
        state.problem = str(record["problem"])
        if record["newest"] is not None:
            nanoseconds, text, uri, row, group = record["newest"]
            state.newest = (int(nanoseconds), str(text), str(uri), int(row), group)
        return state


class AgeState:
    """The newest time so far, in nanoseconds since 1970, as text, and where it is first."""

    def __init__(self, rule: AgeRule, part: Part) -> None:
        self._rule, self._part = rule, part
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

    def close(self) -> None:
        """Nothing is on disk."""

    def to_json(self) -> Any:
        newest = None if self.newest is None else [str(self.newest[0]), *self.newest[1:]]
        return {"problem": self.problem, "newest": newest}
