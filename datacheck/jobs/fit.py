"""Learning statistics from the training split: streamed, merged in order, and from no other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from datacheck._version import __version__
from datacheck.batch import Batch
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.structure import FieldFacts, check_structure
from datacheck.cleaning.fit.learner import Learner, PartialStatistics
from datacheck.cleaning.fit.statistics import LearnedFrom, Statistics
from datacheck.cleaning.plan import Action, CleaningPlan, leaf_dtypes
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.errors import CleaningError, DatacheckError, SourceError
from datacheck.jobs.execution import Execution
from datacheck.jobs.inputs import Input, tasks_of
from datacheck.jobs.units.label import label_unit
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.scan import lost_error
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.error_translation import translate_bugs

__all__ = ["find_fields", "learn"]

Duplicates = Mapping[str, Sequence[tuple[str | None, IntArray]]]


def find_fields(inputs: Sequence[Input], plan: CleaningPlan, schema: Schema) -> dict[str | None, str]:
    """The fields of the first input whose rows can be kept, checked against the plan; empty if there is none.

    Raises ``PipelineError`` and ``CleaningError`` before any work is done.
    """
    for item in inputs:
        first = _first_batch(item, schema)
        if first is None or item.info is None or not _can_keep_rows(first, item.info.num_rows, plan, schema):
            continue
        fields = leaf_dtypes(first)
        validate_plan(plan, fields, schema)
        return fields
    return {}


def _first_batch(item: Input, schema: Schema) -> Batch | None:
    if item.info is None:
        return None
    unit = item.info.units[0]
    try:
        first = next(get_source(unit.format).read(unit), None)
    except SourceError:
        return None
    return None if first is None else coerce_batch(first, schema)


def _can_keep_rows(batch: Batch, num_rows: int | None, plan: CleaningPlan, schema: Schema) -> bool:
    """Whether no violation by the whole file removes all its rows."""
    facts = {leaf.path: FieldFacts.of(leaf, column) for column in batch.columns for leaf in column.leaves()}
    violations = check_structure(schema, facts, batch.names, num_rows)
    return all(plan.decide(one.field, one.code) in (Action.REPAIR, Action.REPORT) for one in violations)


@dataclass(frozen=True, slots=True)
class UnitStatistics:
    """What one unit contributes; ``partial`` is None if no row of it is kept. Errors come back as data."""

    partial: PartialStatistics | None = None
    num_rows: int = 0
    error: SourceError | None = None
    failure: DatacheckError | None = None


def learn(
    inputs: Sequence[Input],
    plan: CleaningPlan,
    schema: Schema,
    duplicates: Duplicates,
    execution: Execution,
    *,
    skip_unreadable: bool,
) -> Statistics:
    """Learn the statistics that the plan needs from the kept rows of ``inputs``.

    Args:
        duplicates: for each input, the rows that repeat an earlier row's key.
        skip_unreadable: whether to skip an input that cannot be read to its end. A run does, because cleaning that input
            reports why; otherwise its ``SourceError`` is raised.

    Raises:
        CleaningError: there is nothing to learn from.
    """
    statistics = Statistics(plan.fingerprint, datacheck=__version__)
    fields = find_fields(inputs, plan, schema)
    if not fields:
        return statistics
    resolved = validate_plan(plan, fields, schema)
    sources: tuple[LearnedFrom, ...] = ()
    for _ in range(resolved.num_rounds(fields)):
        learner = Learner(resolved, schema, statistics)
        unit_plan = UnitPlan(schema, plan, fields, statistics)
        learned, sources = _learn_round(
            inputs, duplicates, learner, unit_plan, execution, skip_unreadable=skip_unreadable
        )
        if learned is None or not learned.num_rows:
            raise CleaningError(
                "no row of the training split is kept, so there is nothing to learn from; see why with 'datacheck scan'"
            )
        statistics = learner.finish(learned)
    num_rows = sum(source.num_rows for source in sources)
    return replace(statistics, source=sources, num_rows=num_rows, datacheck=__version__)


def _learn_round(
    inputs: Sequence[Input],
    duplicates: Duplicates,
    learner: Learner,
    plan: UnitPlan,
    execution: Execution,
    *,
    skip_unreadable: bool,
) -> tuple[PartialStatistics | None, tuple[LearnedFrom, ...]]:
    """One pass over the inputs: the merged statistics, and which inputs they come from."""
    readable = [item for item in inputs if item.info is not None]
    tasks = [task for item in readable for task in tasks_of(item, "parquet", duplicates)]
    execution.progress.start("learn", len(tasks), sum(item.info.num_bytes for item in readable if item.info))
    learned: PartialStatistics | None = None
    sources: list[LearnedFrom] = []
    learned_units = execution.map(
        partial(_learn_unit, plan=plan), tasks, lambda task: UnitStatistics(error=lost_error(task.unit.uri))
    )
    with closing(learned_units) as results:
        for item in readable:
            assert item.info is not None
            units = [next(results) for _ in item.info.units]
            num_rows = sum(unit.num_rows for unit in units)
            execution.progress.advance(len(units), num_rows, item.info.num_bytes)
            if failure := next((unit.failure for unit in units if unit.failure is not None), None):
                raise failure
            if error := next((unit.error for unit in units if unit.error is not None), None):
                if skip_unreadable:
                    continue
                raise error
            # Merged as they come, so that values kept for exact medians are kept once.
            parts = [learned, *(unit.partial for unit in units)]
            learned = learner.merge(part for part in parts if part is not None)
            sources.append(LearnedFrom(item.uri, item.info.units[0].fingerprint, num_rows))
    return learned, tuple(sources)


def _learn_unit(task: UnitTask, plan: UnitPlan) -> UnitStatistics:
    try:
        with translate_bugs(task.unit.uri):
            return _learn_batches(task, plan)
    except SourceError as error:
        return UnitStatistics(error=error)
    except DatacheckError as error:
        return UnitStatistics(failure=error)


def _learn_batches(task: UnitTask, plan: UnitPlan) -> UnitStatistics:
    learner: Learner | None = None
    partials: list[PartialStatistics] = []
    num_rows = 0
    for labelled in label_unit(task, plan):
        if not len(labelled.kept_rows):
            continue
        if learner is None:
            learner = Learner(labelled.rules.require_plan(), plan.schema, plan.statistics)
        partials.append(learner.learn(labelled.kept, labelled.violations))
        num_rows += len(labelled.kept_rows)
    return UnitStatistics(learner.merge(partials) if learner else None, num_rows)
