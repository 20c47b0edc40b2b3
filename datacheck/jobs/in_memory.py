"""Cleaning data in memory: the same rules, checks and accounts as for files, and the result in the type of the data."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.checks.checker import load_libraries, whole_file_of
from datacheck.cleaning.fit.statistics import Statistics, StatisticsLike, load_statistics
from datacheck.cleaning.plan import Action, CleaningPlan, is_learned, parse_plan
from datacheck.errors import FindingsError, UsageError
from datacheck.jobs.execution import Execution
from datacheck.jobs.fit import find_fields, learn
from datacheck.jobs.inputs import Input, find_duplicates, tasks_of
from datacheck.jobs.merge import RunResult, merge_units
from datacheck.jobs.pipeline import Pipeline, load_pipeline
from datacheck.jobs.progress import ProgressLike, following
from datacheck.jobs.rows_at_fault import with_rows_at_fault
from datacheck.jobs.units.parts import Parts, WrittenParts
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.process import judge_file, process_unit
from datacheck.jobs.units.row_labels import RowLabels
from datacheck.leaves import IntArray
from datacheck.reports.run_report import RunReport
from datacheck.reports.text import errors_text
from datacheck.schema.loading import SchemaLike
from datacheck.sinks.in_memory import (
    KeptColumn,
    column_type,
    num_rows_of,
    readable,
    rebuild_data,
    take_rows_of,
    with_rows,
)
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit
from datacheck.sources.memory import MEMORY_URI
from datacheck.storage.base import Fingerprint
from datacheck.storage.documents import load_schema

#: A pipeline or its file, or cleaning rules as plain values.
RulesLike = str | os.PathLike[str] | Pipeline | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, repr=False)
class CleanData:
    """Data that was cleaned in memory. ``data, report = clean_data(...)`` works, too.

    Attributes:
        data: the kept rows, repaired, in the type that the data had.
        report: what was found, and read = kept + dropped + quarantined.
        rows: the positions of the kept rows in the data that was given, ``(num_kept,)``, from 0.
        removed: the positions of the removed rows, ``(num_removed,)``, from 0.
        reasons: for each removed row, why.
        quarantined: the quarantined rows with the values that they had, in the type of the data.
        statistics: what the rules learned or were given; None if no rule needs any. Pass them on to clean other data
            exactly as this.
    """

    data: Any
    report: RunReport
    rows: IntArray
    removed: IntArray
    reasons: tuple[str, ...]
    quarantined: Any
    statistics: Statistics | None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.data, self.report))

    def __repr__(self) -> str:
        names = ", ".join(f".{one.name}" for one in fields(self))
        return f"CleanData: {self.report.in_memory_outcome()}; see {names}"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def clean_data(
    data: Any,
    rules: RulesLike | None = (),
    schema: SchemaLike = None,
    *,
    otherwise: str | None = None,
    statistics: StatisticsLike | None = None,
    progress: ProgressLike = None,
) -> CleanData:
    """Clean data in memory. The data itself is not changed.

    Args:
        data: a pandas or polars DataFrame or Series, an Arrow table or array, a Hugging Face dataset, a NumPy array whose first
            axis is the rows, a torch tensor, a mapping of arrays or lists with equal numbers of rows, or a list of dicts.
        rules: cleaning rules in order, as under ``clean:`` in a pipeline file, such as ``[{"action": "impute", "strategy":
            "mean", "fields": "age"}]``; or a pipeline or the path of its file, whose schema and ``otherwise`` then apply too.
        schema: what the data must be, as for :func:`datacheck.scan`.
        otherwise: what happens to a violation that no rule decides: ``quarantine`` (the default), ``drop_row``, ``fail`` or
            ``report``.
        statistics: what rules learned from the training data: ``clean_data(train, ...).statistics``, or the file that
            ``datacheck fit`` wrote. Without, rules learn from this data.
        progress: True for a progress bar on stderr, or what is called as work is done.

    Returns:
        The data, the report, and which rows were removed and why.

    Raises:
        UsageError: the data is of an unsupported type, or cannot be read.
        PipelineError, SchemaError: the rules or the schema are invalid.
        CleaningError: a repair cannot be learned or applied.
        FindingsError: a ``fail`` rule applies. It has the ``report``.

    >>> import numpy
    >>> values = numpy.array([1.0, numpy.nan, 3.0])
    >>> clean, report = clean_data(values, [{"action": "impute", "strategy": "mean"}])
    >>> clean.tolist()
    [1.0, 2.0, 3.0]
    """
    started = time.perf_counter()
    pipeline = _pipeline(() if rules is None else rules, schema, otherwise)
    load_libraries(pipeline.schema)
    given = with_rows(data)
    known = None if statistics is None else load_statistics(statistics)
    with following(progress) as follower:
        kept, result, learned = _clean(given, pipeline, known, Execution(workers=1, progress=follower))
    if result.num_rows != num_rows_of(given):
        problem = errors_text(result.findings) or "no column can be read"
        raise UsageError(f"the rows cannot be read, so they cannot be cleaned\n{problem}")
    report = replace(result, seconds=time.perf_counter() - started)
    rows, quarantined = kept.rows, kept.quarantined
    cleaned = rebuild_data(given, kept.columns, rows, pipeline.plan.drops)
    removed, reasons = kept.removed
    return CleanData(cleaned, report, rows, removed, reasons, take_rows_of(given, quarantined), learned)


def _pipeline(rules: RulesLike, schema: SchemaLike, otherwise: str | None) -> Pipeline:
    if isinstance(rules, str | os.PathLike):
        rules = load_pipeline(rules)
    if isinstance(rules, Pipeline):
        plan, loaded = rules.plan, rules.schema if schema is None else load_schema(schema)
        name = rules.name
    else:
        plan, loaded, name = parse_plan(rules, file="rules"), load_schema(schema), ""
    if otherwise is not None:
        plan = replace(plan, otherwise=parse_plan((), otherwise, "clean_data").otherwise)
    reading = ReadOptions()
    return Pipeline(plan.file, name, loaded, {}, "data", plan, "", None, {}, reading)


def _clean(
    data: Any, pipeline: Pipeline, statistics: Statistics | None, execution: Execution
) -> tuple[_KeptRows, RunReport, Statistics | None]:
    num_rows = num_rows_of(data)
    unit = WorkUnit(MEMORY_URI, "memory", 0, Fingerprint(0), 0, num_rows, data=readable(data))
    inputs = [Input("data", MEMORY_URI, info=InputInfo(MEMORY_URI, "memory", _num_bytes(data), num_rows, (unit,)))]
    plan, schema = pipeline.plan, pipeline.schema
    fields = find_fields(inputs, plan, schema)
    duplicates = find_duplicates(inputs, schema, execution)
    if statistics is not None:
        statistics.check_plan(plan)
    elif any(map(is_learned, plan.rules)):
        statistics = learn(inputs, plan, schema, duplicates, execution, skip_unreadable=False)
    unit_plan = UnitPlan(schema, plan, fields, statistics)
    tasks = tasks_of(inputs[0], "memory", duplicates)
    if whole_file_of(schema, None) is not None:
        tasks = [replace(task, file_outcomes=judge_file(tasks, unit_plan)) for task in tasks]
    result = RunResult(pipeline, inputs)
    (tasks,) = with_rows_at_fault([tasks], unit_plan, execution, train="data", report=result.add_finding)
    kept = _KeptRows()
    execution.progress.start("clean", 1, inputs[0].info.num_bytes if inputs[0].info else 0)
    merged = merge_units(
        inputs[0], tasks, iter([process_unit(tasks[0], unit_plan, kept)]), pipeline, execution.progress
    )
    if merged.scan.error is not None:
        raise merged.scan.error
    if merged.failed:
        raise _stopped(result.report_failure(merged))
    result.add(merged, duplicates.get(MEMORY_URI, ()), [])
    if failed := result.judge_dataset():
        raise _stopped(result.report_failed_dataset(failed))
    return kept, result.report(), statistics


def _stopped(report: RunReport) -> FindingsError:
    errors = [finding for finding in report.findings if finding.code in report.failed]
    return FindingsError(f"a fail rule stopped the cleaning\n{errors_text(errors)}", report)


def _num_bytes(data: Any) -> int:
    if isinstance(data, Mapping):
        return sum(map(_num_bytes, data.values()))
    if hasattr(data, "estimated_size"):
        return int(data.estimated_size())
    if hasattr(data, "memory_usage"):
        return int(np.sum(data.memory_usage()))
    return int(getattr(data, "nbytes", 0))


class _KeptRows(Parts):
    """Collects the rows of data in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._batches: list[Batch] = []
        self._types: dict[str | None, object] = {}
        self._removed: list[tuple[IntArray, IntArray, list[str]]] = []

    def keep(self, batch: Batch) -> None:
        if batch.counts_rows:
            self._batches.append(batch.stored())
            self._num_kept += batch.num_rows

    def remove(self, original: Batch, labels: RowLabels, plan: CleaningPlan) -> None:  # noqa: ARG002 - the base's
        if not self._types and original.counts_rows:
            self._types = {column.name: column_type(column) for column in original.columns}
        removed = labels.removed()
        rows = original.file_rows(removed.rows)
        self._record(removed.actions, removed.codes)
        is_quarantined = np.array([action is not Action.DROP_ROW for action in removed.actions], np.bool_)
        self._removed.append((rows, rows[is_quarantined], list(removed.reasons)))

    def close(self) -> WrittenParts:
        return self._written({}, {}, [])

    @property
    def rows(self) -> IntArray:
        """The positions of the kept rows in the data."""
        kept = [batch.file_rows(np.arange(batch.num_rows, dtype=np.int64)) for batch in self._batches]
        return np.concatenate([np.empty(0, np.int64), *kept])

    @property
    def removed(self) -> tuple[IntArray, tuple[str, ...]]:
        """The positions of the removed rows, and why each was removed."""
        rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _, _ in self._removed)])
        return rows, tuple(reason for _, _, reasons in self._removed for reason in reasons)

    @property
    def quarantined(self) -> IntArray:
        """The positions of the quarantined rows in the data."""
        return np.concatenate([np.empty(0, np.int64), *(rows for _, rows, _ in self._removed)])

    @property
    def columns(self) -> list[KeptColumn]:
        """The kept columns, with those that were added."""
        by_place = zip(*(batch.columns for batch in self._batches), strict=True)
        return [self._kept_column(parts) for parts in by_place]

    def _kept_column(self, parts: tuple[Column, ...]) -> KeptColumn:
        name, kind = parts[0].name, column_type(parts[0])
        return KeptColumn(name, parts, any(part.is_new for part in parts), kind != self._types.get(name, kind))
