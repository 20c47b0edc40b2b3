"""Comparing data sets: what stands in two splits, and what is otherwise in one than in the other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from datacheck.errors import UsageError
from datacheck.findings import Finding
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.file_results import error_finding
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.scan import are_paths
from datacheck.leaves import FLOAT_FORMATS
from datacheck.profile.compare.differences import Side, field_findings, new_words
from datacheck.profile.compare.drift import require_scipy
from datacheck.profile.compare.dtype_alignment import Likeness, likeness_of
from datacheck.profile.compare.leakage import (
    RowColumns,
    check_keys,
    leaked,
    may_be_chance,
    may_leak,
    require_columns,
    row_columns,
    split_keys,
)
from datacheck.profile.compare.thresholds import Keys, Thresholds, as_keys
from datacheck.profile.dataset import DataProfile, FileSet, find_files, nameless_names, profile_files, profile_memory
from datacheck.profile.unit import Asked
from datacheck.reports.report import Report
from datacheck.schema.keys import unique_keys
from datacheck.schema.loading import SchemaLike, load_schema
from datacheck.schema.model import Schema
from datacheck.sources.base import ReadOptions
from datacheck.sources.memory import MEMORY_URI
from datacheck.text import quantity

__all__ = ["compare"]

#: Distinct values of a field that are counted.
MAX_CATEGORIES = 1000

KeyLike = str | Sequence[str | Sequence[str]] | None


def compare(
    train: Any,
    *others: Any,
    key: KeyLike = None,
    schema: SchemaLike = None,
    thresholds: Thresholds | None = None,
    drift: bool = True,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    options: ReadOptions | None = None,
) -> Report:
    """Compare a training split with other splits, or with the data that a model meets.

    Rows and keys that stand in both are leaks (DC310, DC311). A field that is distributed otherwise (DC312), that has
    another part of nulls, NaN or infinities (DC313) or values that the training data has not (DC314) is a finding, and
    so is what could not be compared (DC315), and a field that is missing (DC001) or of another dtype (DC003).

    A field that is a key by itself says which one a row is, not what it is like: its distribution is not compared.

    Distributions of numbers are compared by up to 8,192 values of each field and side, chosen without regard to
    their order, which tells a Kolmogorov-Smirnov statistic to within 0.03; everything else is exact. Rows and keys are
    compared across dtypes: as what both sides can hold, ``float32`` where one of them does.

    Args:
        train: a path, folder or glob, or several; or data in memory, as for :func:`datacheck.scan`.
        others: one or more data sets to compare with it, each alike.
        key: fields that together must not stand in two splits: ``"a,b"``, or a list of keys. The ``unique`` keys of the
            schema, unless given.
        schema: gives dtypes to files that have none, keys, and the integer fields that are categories (``isin``).
        thresholds: what counts as a difference.
        drift: whether distributions and rates are compared, for which SciPy is needed.
        workers: how many units are worked on at a time; as many as there are processors, up to 16, unless set.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: told as units end.
        options: how files are read.

    Returns:
        The report. An input that cannot be read is a finding in it, and the others are compared.

    Raises:
        UsageError: a path stands for nothing, a key names no field, or SciPy is missing.
        SchemaError: the schema is wrong.
    """
    started = time.perf_counter()
    if not others:
        raise UsageError("there is nothing to compare the training data with: name another data set")
    if drift:
        require_scipy()
    limits = thresholds or Thresholds()
    loaded = load_schema(schema)
    keys: Keys = as_keys(key) or limits.key or tuple(key for key in unique_keys(loaded) if key)
    if not all(isinstance(key, tuple) and key and all(isinstance(name, str) for name in key) for key in keys):
        raise UsageError(f"key={key!r} names no fields: write key='patient_id', key='a,b', or a list of such keys")
    comparison = _Comparison(loaded, keys, limits, drift, workers, executor, progress or NullProgress(), options)
    report = comparison.run(train, others)
    return replace(report, seconds=time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class _Data:
    """One of the data sets: its files, or what is in memory."""

    name: str
    memory: Any = None
    files: FileSet | None = None


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One comparison: what is asked, and who does it."""

    schema: Schema
    keys: Keys
    limits: Thresholds
    drift: bool
    workers: int | None
    executor: ExecutorLike
    progress: Progress
    options: ReadOptions | None

    def run(self, train: Any, others: Sequence[Any]) -> Report:
        sets = self._data_sets([train, *others])
        check_keys(self.keys, sets[0].files.files if sets[0].files else ())
        findings: list[Finding] = []
        with ExitStack() as stack:
            known, *rest = profiles = self._profile(sets, self._asked())
            for profile in profiles:
                stack.callback(profile.close)
            if sets[0].files is None:
                names = {name for file in known.files for name in file.names if name is not None}
                require_columns(self.keys, names, sets[0].name)
            findings += map(error_finding, known.errors)
            identities = frozenset(key[0] for key in self.keys if len(key) == 1)
            side = Side(known, self.schema, self.limits, MAX_CATEGORIES, identities)
            findings += _if_empty(known, sets[0].name)
            for data, other in zip(sets[1:], rest, strict=True):
                self._find_news(side, data, other)
                findings += map(error_finding, other.errors)
                findings += _if_empty(other, data.name)
                findings += self._leaked(sets[0], known, data, other)
                findings += field_findings(side, other, data.name, drift=self.drift)
            return Report(
                tuple(findings),
                sum(len(profile.files) for profile in profiles),
                sum(profile.num_rows for profile in profiles),
                sum(profile.num_bytes for profile in profiles),
            )

    def _data_sets(self, written: Sequence[Any]) -> list[_Data]:
        dtypes = [(path, field.dtype) for path, field in self.schema.fields.items() if path is not None and field.dtype]
        files = [find_files(data, self.options, dtypes) if are_paths(data) else () for data in written]
        sets: list[_Data] = []
        num_in_memory = 0
        for data, found in zip(written, files, strict=True):
            if found:
                paths = [data] if isinstance(data, str | os.PathLike) else data
                sets.append(
                    _Data(", ".join(map(os.fspath, paths)), files=FileSet(found, nameless_names(found, files[0])))
                )
            else:
                num_in_memory += 1
                name = MEMORY_URI if num_in_memory == 1 else f"<memory {num_in_memory}>"
                # What can be read only once is kept: it may be looked at again.
                sets.append(_Data(name, data.read_all() if isinstance(data, pa.RecordBatchReader) else data))
        return sets

    def _asked(self) -> Asked:
        return Asked(
            MAX_CATEGORIES,
            codes=self._codes(),
            with_extremes=False,
            with_samples=self.drift,
            hash_rows=True,
            quick_rows=True,
            keys=self.keys,
            stored_as=self._stored_as(),
            not_rows=frozenset(self.limits.row_exclude),
        )

    def _stored_as(self) -> dict[str, str]:
        fields = self.schema.fields.items()
        return {path: field.dtype for path, field in fields if path and field.dtype and field.dtype in FLOAT_FORMATS}

    def _codes(self) -> frozenset[str | None]:
        """The fields whose members the schema lists, and the values of such lists."""
        paths = [path for path, field in self.schema.fields.items() if field.isin is not None]
        nameless = self.schema.field_for(None)
        return frozenset(
            [*paths, *(f"{path}[]" for path in paths), *([None] if nameless and nameless.isin is not None else [])]
        )

    def _profile(self, sets: Sequence[_Data], asked: Asked) -> list[DataProfile]:
        read = iter(
            profile_files(
                [data.files for data in sets if data.files],
                asked,
                workers=self.workers,
                executor=self.executor,
                progress=self.progress,
            )
        )
        return [next(read) if data.files else profile_memory(data.memory, asked, data.name) for data in sets]

    def _find_news(self, side: Side, data: _Data, other: DataProfile) -> None:
        """Look again where the categories stand that the training data has not, where there are any."""
        known = new_words(side, other)
        if not known:
            return
        asked = Asked(MAX_CATEGORIES, codes=self._codes(), with_extremes=False, known=known)
        (found,) = self._profile([data if data.files is None else replace(data, files=data.files.only(known))], asked)
        with found:
            for file, seen in zip(other.files, found.files, strict=True):
                file.news = seen.news

    def _leaked(self, train: _Data, known: DataProfile, data: _Data, other: DataProfile) -> Iterator[Finding]:
        likeness = likeness_of(known, other)
        columns = row_columns(known, other, self.limits.row_exclude, likeness.apart)
        yield from columns.findings(data.name)
        keys, notes = split_keys(self.keys, other, likeness.apart)
        yield from notes
        whole: list[tuple[str, ...]] = [()] if columns.names else []
        rows_again = bool(whole) and (columns.is_partial or likeness.concerns(columns.names))
        # Few values of long rows were alike: all of them are looked at.
        rows_again = rows_again or (bool(whole) and known.is_quick and may_leak(known, other))
        again = [*(whole if rows_again else []), *(key for key in keys if likeness.concerns(key))]
        once = [key for key in [*whole, *keys] if key not in again]
        for wanted in (again, once) if rows_again else (once, again):
            if wanted:
                yield from self._leaked_by(
                    wanted, columns if wanted is again else None, likeness, (train, known), (data, other)
                )

    def _leaked_by(
        self,
        wanted: Sequence[tuple[str, ...]],
        columns: RowColumns | None,
        likeness: Likeness,
        train: tuple[_Data, DataProfile],
        other: tuple[_Data, DataProfile],
    ) -> Iterator[Finding]:
        """Leaked rows and keys; where ``columns`` are given, by what another look at the data says."""
        with ExitStack() as stack:
            profiles = (train[1], other[1])
            if columns is not None:
                profiles = self._look_again(wanted, columns, likeness, (train[0], other[0]), stack)
            confirmed = None
            if may_be_chance(*profiles) and any(may_leak(*profiles, key) for key in wanted):
                confirmed = self._look_again(wanted, columns, likeness, (train[0], other[0]), stack, salt=1)
            yield from leaked(*profiles, wanted, confirmed)

    def _look_again(
        self,
        wanted: Sequence[tuple[str, ...]],
        columns: RowColumns | None,
        likeness: Likeness,
        sets: tuple[_Data, _Data],
        stack: ExitStack,
        salt: int = 0,
    ) -> tuple[DataProfile, DataProfile]:
        asked = Asked(
            0,
            with_extremes=False,
            hash_rows=() in wanted,
            keys=tuple(key for key in wanted if key),
            columns=None if columns is None else columns.names,
            not_rows=frozenset(self.limits.row_exclude),
            stored_as=self._stored_as(),
            recast=likeness.recast,
            slotwise=bool(likeness.slotwise),
            salt=salt,
        )
        first, second = self._profile(sets, asked)
        stack.callback(first.close)
        stack.callback(second.close)
        return first, second


def _if_empty(profile: DataProfile, name: str) -> list[Finding]:
    """That there was nothing to compare: no finding would look like no difference."""
    if profile.num_rows or profile.errors:
        return []
    detail = (
        f"{quantity(len(profile.files), 'file')} without a row, so nothing of it is compared; look at what wrote it"
    )
    return [Finding("DC306", name, None, 1, 1, detail=detail)]
