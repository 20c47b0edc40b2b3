"""Compare datasets: find leaks between splits, and fields that have drifted."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import pyarrow as pa

from datacheck.checks.reading import error_finding
from datacheck.errors import UsageError
from datacheck.findings import Finding, Severity
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import NullProgress, ProgressLike, following
from datacheck.jobs.reading_for_schema import text_dtypes
from datacheck.jobs.sample_files import require_rows
from datacheck.jobs.scan import are_paths, require_files
from datacheck.leaves import FLOAT_FORMATS
from datacheck.profile.compare.chance import Chance, LocalChance
from datacheck.profile.compare.differences import Reference, compare_fields, fields_with_new_categories
from datacheck.profile.compare.drift import require_scipy
from datacheck.profile.compare.dtype_alignment import DtypeAlignment
from datacheck.profile.compare.exchanged_chance import ExchangedChance
from datacheck.profile.compare.leakage import (
    Key,
    LeakPlan,
    RowMatches,
    find_leaks,
    may_collide,
    may_leak,
    plan_leak_search,
)
from datacheck.profile.compare.rounding import lossy_columns, with_rounded_matches
from datacheck.profile.compare.row_columns import check_keys, numbering_columns, require_columns
from datacheck.profile.compare.split_rules import Split, judge_splits
from datacheck.profile.compare.thresholds import Keys, Thresholds, as_keys
from datacheck.profile.data_profile import DataProfile
from datacheck.profile.dataset import FileSet, find_inputs, nameless_names, profile_files, profile_memory
from datacheck.profile.exchanged_keys import hashes_in_files
from datacheck.profile.options import ProfileOptions
from datacheck.profile.row_keys import LocalMatches
from datacheck.profile.unit import is_one_number
from datacheck.reports.report import Report
from datacheck.schema.keys import unique_keys
from datacheck.schema.loading import SchemaLike
from datacheck.schema.model import Schema
from datacheck.schema.tolerances import apply_tolerances
from datacheck.sources.base import ReadOptions
from datacheck.sources.discover import Inputs
from datacheck.sources.memory import MEMORY_URI
from datacheck.storage.documents import load_schema
from datacheck.text import join_limited, plain, quantity

#: Columns whose values are hashed together, to tell chance from leaks: at least so many, and more if their rows are few.
_COLUMNS_AT_ONCE = 4
_HASHES_AT_ONCE = 1 << 20
#: Distinct values to count per field.
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
    progress: ProgressLike = None,
    options: ReadOptions | None = None,
) -> Report:
    """Compare a training split with other splits, or with the data that a model meets in use.

    Rows and keys that also occur in the training data are leaks (DC310, DC311). Further findings are fields that have
    drifted (DC312), whose rate of nulls, NaN or infinities has changed (DC313) or that have new categories (DC314).
    Fields may also be missing (DC001), have another dtype (DC003), or not be comparable (DC315). The
    distribution of a field that is a key by itself is not compared, because new keys are expected.

    Distributions of numbers are compared by samples of up to 8,192 values per field and dataset, which give a
    Kolmogorov-Smirnov statistic to within 0.03; everything else is exact. Rows and keys are compared across dtypes, in the
    dtype that both datasets can represent: ``float32`` if one of them has it.

    Args:
        train: a path, folder or glob, or several; or data in memory, as for :func:`datacheck.scan`.
        others: one or more datasets to compare with it, in the same forms.
        key: fields that together must not occur in two splits: ``"a,b"``, or a list of keys. By default the ``unique``
            keys of the schema.
        schema: gives dtypes to files that have none, keys, and the integer fields that are categories (``isin``).
        thresholds: the differences to tolerate.
        drift: whether to compare distributions and rates, which needs SciPy.
        workers: the number of units to read at a time; by default the number of processors, up to 16.
        executor: ``"threads"``, ``"processes"``, a ``concurrent.futures.Executor``, or one for shards or Ray.
        progress: True for a progress bar on stderr, or what receives each finished unit.
        options: how to read files.

    Returns:
        The report. An input that cannot be read is a finding in it, and the others are compared.

    Raises:
        UsageError: a path matches nothing, a key names no field, or SciPy is missing.
        SchemaError: the schema is invalid.
    """
    started = time.perf_counter()
    if not others:
        raise UsageError("there is nothing to compare the training data with: name another dataset")
    if drift:
        require_scipy()
    limits, loaded = thresholds or Thresholds(), load_schema(schema)
    keys = _read_keys(key) or limits.key or tuple(filter(None, unique_keys(loaded)))
    with ExitStack() as stack:
        execution = Execution(workers, executor, stack.enter_context(following(progress)))
        comparison = _Comparison(loaded, keys, limits, drift, execution, options)
        if execution.is_shared:
            require_files([train, *others])
        stack.enter_context(execution.job("compare", [train, others, keys, loaded, limits, drift, options]))
        report = comparison.run(train, others)
    findings = apply_tolerances(report.findings, loaded.tolerances)
    return replace(report, findings=tuple(findings), seconds=time.perf_counter() - started)


def _read_keys(key: KeyLike) -> Keys:
    keys: Keys = as_keys(key)
    if not all(isinstance(names, tuple) and names and all(isinstance(name, str) for name in names) for names in keys):
        raise UsageError(f"key={key!r} names no fields: use key='patient_id', key='a,b', or a list of such keys")
    return keys


@dataclass(frozen=True, slots=True)
class _Dataset:
    """One of the datasets: its files, or its data in memory."""

    name: str
    memory: Any = None
    files: FileSet | None = None


@dataclass(frozen=True, slots=True)
class _Profiled:
    """A dataset and its profile."""

    dataset: _Dataset
    profile: DataProfile

    def as_split(self) -> Split:
        """The dataset as a split, named after its path."""
        files = self.dataset.files
        return Split(self.dataset.name, self.profile, None if files is None else files.files, self.dataset.memory)

    def only(self, names: Sequence[str | None]) -> _Profiled:
        """The same data, of whose files only some columns are read."""
        files = self.dataset.files
        if files is None or None in names:
            return self
        return replace(self, dataset=replace(self.dataset, files=files.only(names)))


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One comparison: its settings, and how to read the data."""

    schema: Schema
    keys: Keys
    limits: Thresholds
    drift: bool
    execution: Execution
    options: ReadOptions | None

    def run(self, train_data: Any, others_data: Sequence[Any]) -> Report:
        datasets = self._open([train_data, *others_data])
        check_keys(self.keys, datasets[0].files.files if datasets[0].files else ())
        findings: list[Finding] = []
        with ExitStack() as stack:
            stack.enter_context(hashes_in_files(self.execution))
            train, *others = profiled = self._profile(datasets, self._profile_options(), stack)
            self._require_key_columns(train)
            findings += self._check_files(train)
            single_keys = frozenset(key[0] for key in self.keys if len(key) == 1)
            key_fields = frozenset(name for key in self.keys for name in key)
            reference = Reference(train.profile, self.schema, self.limits, MAX_CATEGORIES, single_keys, key_fields)
            findings += _check_not_empty(train)
            for other in others:
                self._locate_new_categories(reference, other)
                findings += self._check_files(other)
                findings += _check_not_empty(other)
                # Two checkpoints of a model may share weights, and training is there to change the others.
                is_model = train.profile.is_model and other.profile.is_model
                findings += () if is_model else self._find_leaks(train, other)
                drift = self.drift and not is_model
                findings += compare_fields(reference, other.profile, other.dataset.name, drift=drift)
            execution = replace(self.execution, progress=NullProgress())
            findings += judge_splits(train.as_split(), [one.as_split() for one in others], self.schema, execution)
            return Report(
                tuple(findings),
                sum(len(one.profile.files) for one in profiled),
                sum(one.profile.num_rows for one in profiled),
                sum(one.profile.num_bytes for one in profiled),
                title="datacheck compare",
            )

    def _check_files(self, data: _Profiled) -> list[Finding]:
        """What a scan finds on the files of a dataset without looking at the values that could be read."""
        files = data.dataset.files or FileSet((), ())
        return [*map(error_finding, data.profile.errors), *files.check(data.profile, self.schema)]

    def _open(self, inputs: Sequence[Any]) -> list[_Dataset]:
        """Find the files of each dataset."""
        dtypes = text_dtypes(self.schema)
        listed = [find_inputs(data, self.options, dtypes) if are_paths(data) else Inputs(()) for data in inputs]
        for found in listed:
            require_rows(found.files, self.schema)
        names = nameless_names([found.files for found in listed], self.schema.fields)
        datasets: list[_Dataset] = []
        num_in_memory = 0
        for data, found, names_of in zip(inputs, listed, names, strict=True):
            if found.files:
                paths = [data] if isinstance(data, str | os.PathLike) else data
                file_set = FileSet(found.files, names_of, found)
                datasets.append(_Dataset(", ".join(map(os.fspath, paths)), files=file_set))
            else:
                num_in_memory += 1
                name = MEMORY_URI if num_in_memory == 1 else f"<memory {num_in_memory}>"
                # A reader can be read only once, and the data may be read again.
                memory = data.read_all() if isinstance(data, pa.RecordBatchReader) else data
                datasets.append(_Dataset(name, memory))
        return datasets

    def _profile_options(self) -> ProfileOptions:
        return ProfileOptions(
            max_distinct=MAX_CATEGORIES,
            code_fields=self._code_fields(),
            with_extremes=False,
            with_samples=self.drift,
            hash_rows=True,
            find_unique=True,
            count_codes=True,
            quick_rows=True,
            keys=self.keys,
            stored_as=self._stored_as(),
            row_exclude=frozenset(self.limits.row_exclude),
            missing_in=self.schema,
        )

    def _stored_as(self) -> dict[str, str]:
        fields = self.schema.fields.items()
        return {path: field.dtype for path, field in fields if path and field.dtype and field.dtype in FLOAT_FORMATS}

    def _code_fields(self) -> frozenset[str | None]:
        """The fields, and the values of lists, whose categories the schema lists."""
        paths = [path for path, field in self.schema.fields.items() if field.isin is not None]
        nameless = self.schema.field_for(None)
        return frozenset(
            [*paths, *(f"{path}[]" for path in paths), *([None] if nameless and nameless.isin is not None else [])]
        )

    def _profile(self, datasets: Sequence[_Dataset], options: ProfileOptions, stack: ExitStack) -> list[_Profiled]:
        """Profile datasets; the profiles are closed with the stack."""
        of_files = iter(
            profile_files(
                [dataset.files for dataset in datasets if dataset.files],
                options,
                self.execution,
                in_files=all(dataset.files for dataset in datasets),
            )
        )
        profiled = []
        for dataset in datasets:
            profile = next(of_files) if dataset.files else profile_memory(dataset.memory, options, dataset.name)
            profiled.append(_Profiled(dataset, stack.enter_context(profile)))
        return profiled

    def _require_key_columns(self, train: _Profiled) -> None:
        """Check keys against data in memory; keys of files are checked before the files are read."""
        if train.dataset.files is None:
            names = {name for file in train.profile.files for name in file.names if name is not None}
            require_columns(self.keys, names, train.dataset.name)

    def _locate_new_categories(self, reference: Reference, other: _Profiled) -> None:
        """Read fields with new categories again, to count the new values and find the first ones."""
        known = fields_with_new_categories(reference, other.profile)
        if not known:
            return
        options = ProfileOptions(
            max_distinct=MAX_CATEGORIES,
            code_fields=self._code_fields(),
            count_codes=True,
            with_extremes=False,
            known=known,
            missing_in=self.schema,
        )
        dataset = other.dataset
        if dataset.files is not None:
            dataset = replace(dataset, files=dataset.files.only(known))
        with ExitStack() as stack:
            (found,) = self._profile([dataset], options, stack)
            for file, again in zip(other.profile.files, found.profile.files, strict=True):
                file.new_values = again.new_values

    def _find_leaks(self, train: _Profiled, other: _Profiled) -> Iterator[Finding]:
        """Plan the search for rows and keys that occur in both datasets, then run it step by step."""
        plan = plan_leak_search(train.profile, other.profile, other.dataset.name, self.keys, self.limits.row_exclude)
        yield from plan.notes
        has_leaked_rows = False
        for keys, is_rehashed in plan.steps():
            with ExitStack() as stack:
                pair = (train.profile, other.profile)
                columns = plan.columns.names if is_rehashed else None
                options = self._hash_options(keys, columns, plan.alignment)
                if is_rehashed:
                    pair = self._profile_pair(train, other, options, stack)
                if may_collide(*pair) and any(may_leak(*pair, key) for key in keys):
                    pair = self._profile_pair(train, other, replace(options, num_words=2), stack)
                chance = partial(self._expect_by_chance, train, other, plan, plan.columns.names)
                found = list(find_leaks(*pair, keys, chance, self.limits.significance))
                has_leaked_rows = has_leaked_rows or any(one.code == "DC310" for one in found)
                yield from self._tell_rounded(found, train, other, keys, plan) if is_rehashed and found else found
        if not has_leaked_rows:
            yield from self._find_rows_without_numbers(train, other, plan)

    def _tell_rounded(
        self, found: list[Finding], train: _Profiled, other: _Profiled, keys: tuple[Key, ...], plan: LeakPlan
    ) -> list[Finding]:
        """The leaks that were found, with how many are equal only because a float has too few digits."""
        names = {name for key in keys for name in key} | (plan.columns.names if () in keys else set())
        rounded = plan.alignment.rounded_in(names)
        if not rounded:
            return found
        alignment = replace(plan.alignment, casts={**plan.alignment.casts, **dict.fromkeys(rounded, "exact")})
        options = replace(self._hash_options(keys, plan.columns.names, alignment), with_extremes=True)
        with ExitStack() as stack:
            pair = self._profile_pair(train, other, options, stack)
            if not (columns := lossy_columns(pair, rounded)):
                return found
            return with_rounded_matches(found, list(find_leaks(*pair, keys)), columns, set(rounded.values()))

    def _expect_by_chance(
        self,
        train: _Profiled,
        other: _Profiled,
        plan: LeakPlan,
        names: frozenset[str | None],
        found: RowMatches,
    ) -> Chance:
        """How many rows that consist of columns ``names`` would match by chance; a few columns are read at a time."""
        chance = LocalChance(found) if isinstance(found, LocalMatches) else ExchangedChance(found)
        left = sorted(names, key=str)
        num_rows = max(1, train.profile.num_rows, other.profile.num_rows)
        at_once = max(_COLUMNS_AT_ONCE, _HASHES_AT_ONCE // num_rows)
        while left and not chance.is_decided:
            # Of very many rows one column often decides.
            num_columns = 1 if num_rows > _HASHES_AT_ONCE and len(left) == len(names) else at_once
            some, left = left[:num_columns], left[num_columns:]
            # The name of a nameless array is None, which no key that a user names can be.
            keys = cast("list[Key]", [(name,) for name in some])
            with ExitStack() as stack:
                options = self._hash_options((), None, plan.alignment)
                first, second = self._profile_pair(
                    train.only(some), other.only(some), replace(options, keys=tuple(keys)), stack
                )
                chance.add([(cast("Any", first.keys[key]), cast("Any", second.keys[key])) for key in keys])
        return chance

    def _find_rows_without_numbers(self, train: _Profiled, other: _Profiled, plan: LeakPlan) -> Iterator[Finding]:
        """Warn of rows that differ from training rows only in the columns that number rows."""
        numbers = numbering_columns(train.profile, other.profile, plan.columns.names)
        rest = plan.columns.names - numbers
        if not numbers or not rest or any(is_one_number(rest, file.fields) for file in other.profile.files):
            return
        options_to_add = " ".join(f"--row-exclude {shlex.quote(name)}" for name in sorted(numbers))
        with ExitStack() as stack:
            options = self._hash_options(((),), rest, plan.alignment)
            pair = self._profile_pair(train, other, options, stack)
            chance = partial(self._expect_by_chance, train, other, plan, rest)
            for finding in find_leaks(*pair, ((),), chance, self.limits.significance):
                if finding.severity is Severity.ERROR:
                    named = join_limited(sorted(numbers))
                    detail = f"the rows differ only in {named}, where no value repeats; compare with {options_to_add}"
                    yield replace(finding, severity=Severity.WARNING, detail=f"{finding.detail}; {plain(detail, 300)}")

    def _hash_options(
        self, keys: Sequence[Key], columns: frozenset[str | None] | None, alignment: DtypeAlignment
    ) -> ProfileOptions:
        return ProfileOptions(
            with_extremes=False,
            hash_rows=() in keys,
            keys=tuple(key for key in keys if key),
            row_columns=columns,
            row_exclude=frozenset(self.limits.row_exclude),
            stored_as=self._stored_as(),
            casts=alignment.casts,
            slotwise=bool(alignment.slotwise),
            missing_in=self.schema,
        )

    def _profile_pair(
        self, train: _Profiled, other: _Profiled, options: ProfileOptions, stack: ExitStack
    ) -> tuple[DataProfile, DataProfile]:
        first, second = self._profile([train.dataset, other.dataset], options, stack)
        return first.profile, second.profile


def _check_not_empty(data: _Profiled) -> list[Finding]:
    """Report a dataset without rows, which would otherwise look like one without differences."""
    profile = data.profile
    if profile.num_rows or profile.errors:
        return []
    num_files = quantity(len(profile.files), "file")
    detail = f"{num_files} without rows, so nothing was compared; check what wrote the data"
    return [Finding("DC306", data.dataset.name, None, 1, 1, detail=detail)]
