"""Learning statistics from the training split: streamed, merged in order, and from no other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from datacheck._version import __version__
from datacheck.batch import Batch
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.structure import check_structure, facts_of
from datacheck.cleaning.fit.learner import Learner, PartialStatistics
from datacheck.cleaning.fit.statistics import LearnedFrom, Statistics
from datacheck.cleaning.plan import Action, CleaningPlan, fields_of
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.errors import CleaningError, SourceError
from datacheck.jobs.executors.local import ExecutorLike, map_in_order
from datacheck.jobs.inputs import Input, tasks_of
from datacheck.jobs.progress import Progress
from datacheck.jobs.units.label import Judge
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.schema.model import Schema
from datacheck.sources import get_source

__all__ = ["bind_to", "learn"]


def bind_to(inputs: Sequence[Input], plan: CleaningPlan, schema: Schema) -> dict[str | None, str]:
    """The fields of the first input whose rows can stay, once the plan is known to make sense there.

    Raises ``PipelineError`` and ``CleaningError`` before any work is done.
    """
    for item in inputs:
        if item.info is None:
            continue
        try:
            first: Batch | None = next(get_source(item.info.units[0].format).read(item.info.units[0]), None)
        except SourceError:
            continue
        if first is None:
            continue
        first = coerce_batch(first, schema)
        if _stays(first, item.info.num_rows, plan, schema):
            fields = fields_of(first)
            validate_plan(plan, fields, schema)
            return fields
    return {}


def _stays(batch: Batch, num_rows: int | None, plan: CleaningPlan, schema: Schema) -> bool:
    """Whether no fault of the whole file sends all its rows away."""
    facts = {
        leaf.path: facts_of(leaf, leaf.path == column.name, isinstance(column.data, np.ndarray))
        for column in batch.columns
        for leaf in column.leaves()
    }
    faults = check_structure(schema, facts, batch.names, num_rows)
    return all(plan.decide(fault.field, fault.code) in (Action.REPAIR, Action.REPORT) for fault in faults)


@dataclass(frozen=True, slots=True)
class UnitStatistics:
    """What one unit taught: None where no row of it stays."""

    partial: PartialStatistics | None
    num_rows: int
    error: SourceError | None = None


def learn(
    inputs: Sequence[Input],
    plan: CleaningPlan,
    schema: Schema,
    duplicates: Mapping[str, Sequence[tuple[str | None, IntArray]]],
    workers: int | None,
    executor: ExecutorLike,
    progress: Progress,
    *,
    skip_unreadable: bool,
) -> Statistics:
    """The statistics that the plan needs, from the rows of ``inputs`` that stay.

    An input that cannot be read through teaches nothing with ``skip_unreadable``, for a job in which it is a finding when
    it is cleaned; without, its ``SourceError`` is raised. Raises ``CleaningError`` where there is nothing to learn from.
    """
    statistics = Statistics(plan.fingerprint, datacheck=__version__)
    fields = bind_to(inputs, plan, schema)
    readable = [item for item in inputs if item.info is not None]
    sources: tuple[LearnedFrom, ...] = ()
    for _ in range(validate_plan(plan, fields, schema).num_rounds(fields) if fields else 0):
        tasks = [task for item in readable for task in tasks_of(item, "parquet", duplicates)]
        progress.start("learn", len(tasks), sum(item.info.num_bytes for item in readable if item.info))
        learn_one = partial(_learn_unit, plan=plan, schema=schema, statistics=statistics, known_fields=fields)
        learner = Learner(validate_plan(plan, fields, schema), schema, statistics)
        learned: PartialStatistics | None = None
        sources = ()
        with closing(map_in_order(learn_one, tasks, workers, executor)) as lessons:
            for item in readable:
                assert item.info is not None
                taught = [next(lessons) for _ in item.info.units]
                progress.advance(len(taught), sum(lesson.num_rows for lesson in taught), item.info.num_bytes)
                error = next((lesson.error for lesson in taught if lesson.error is not None), None)
                if error is not None:
                    if skip_unreadable:
                        continue
                    raise error
                # Folded as they come: what is kept for exact medians is kept once.
                parts = [learned, *(lesson.partial for lesson in taught)]
                learned = learner.merge(part for part in parts if part is not None)
                rows = sum(lesson.num_rows for lesson in taught)
                sources += (LearnedFrom(item.uri, item.info.units[0].fingerprint, rows),)
        if learned is None or not learned.num_rows:
            raise CleaningError(
                "no row of the training split is kept, so there is nothing to learn; see why with a scan"
            )
        statistics = learner.finish(learned)
    num_rows = sum(source.num_rows for source in sources)
    return replace(statistics, source=sources, num_rows=num_rows, datacheck=__version__)


def _learn_unit(
    task: UnitTask,
    plan: CleaningPlan,
    schema: Schema,
    statistics: Statistics,
    known_fields: Mapping[str | None, str],
) -> UnitStatistics:
    judge = Judge(task, schema, plan, known_fields)
    learner: Learner | None = None
    partials: list[PartialStatistics] = []
    num_rows = 0
    try:
        for judged in judge.batches():
            rows = judged.kept
            if not len(rows):
                continue
            kept = coerce_batch(
                judged.original if len(rows) == judged.original.num_rows else judged.original.take(rows), schema
            )
            if learner is None:
                learner = Learner(judge.bound(), schema, statistics)
            partials.append(learner.learn(kept))
            num_rows += len(rows)
    except SourceError as error:
        return UnitStatistics(None, 0, error)
    return UnitStatistics(learner.merge(partials) if learner else None, num_rows)
