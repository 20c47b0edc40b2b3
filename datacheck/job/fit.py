"""Learning statistics from the training split: streamed, merged in order, and from no other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from datacheck import __version__
from datacheck.batch import Batch
from datacheck.checks.checker import Checker, Rulebook
from datacheck.checks.coerce import coerce_batch
from datacheck.cleaning.learner import Learner, Partial
from datacheck.cleaning.plan import CleaningPlan, fields_of
from datacheck.cleaning.statistics import LearnedFrom, Statistics
from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.job.executors import ExecutorLike, map_in_order
from datacheck.job.inputs import Input, tasks_of
from datacheck.job.progress import Progress
from datacheck.job.unit_clean import CleanTask, judged_batches
from datacheck.leaves import IntArray
from datacheck.schema.model import Schema
from datacheck.sources import get_source

__all__ = ["bind_to", "learn"]


def bind_to(inputs: Sequence[Input], plan: CleaningPlan, schema: Schema) -> dict[str | None, str]:
    """The fields of the first input that can be read, once the plan is known to make sense there.

    Raises ``PipelineError`` and ``CleaningError`` before any work is done.
    """
    for item in inputs:
        if item.info is None:
            continue
        try:
            first: Batch | None = next(get_source(item.info.units[0].format).read(item.info.units[0]), None)
        except SourceError:
            continue
        if first is not None:
            fields = fields_of(coerce_batch(first, schema))
            if all(not field.required or path in fields or None in fields for path, field in schema.fields.items()):
                plan.bind(fields, schema)
                return fields
    return {}


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What one unit taught: None where no row of it stays."""

    partial: Partial | None
    num_rows: int
    error: SourceError | None = None


def learn(
    inputs: Sequence[Input],
    plan: CleaningPlan,
    schema: Schema,
    duplicates: Mapping[str, Sequence[tuple[str, IntArray]]],
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
    for _ in range(plan.bind(fields, schema).num_rounds(fields) if fields else 0):
        tasks = [task for item in readable for task in tasks_of(item, "parquet", duplicates)]
        progress.start("learn", len(tasks), sum(item.info.num_bytes for item in readable if item.info))
        learn_one = partial(_learn_unit, plan=plan, schema=schema, statistics=statistics, known_fields=fields)
        merged: list[Partial] = []
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
                merged += [lesson.partial for lesson in taught if lesson.partial is not None]
                rows = sum(lesson.num_rows for lesson in taught)
                sources += (LearnedFrom(item.uri, item.info.units[0].fingerprint, rows),)
        learner = Learner(plan.bind(fields, schema), schema, statistics)
        statistics = learner.finish(learner.merge(merged))
    num_rows = sum(source.num_rows for source in sources)
    return replace(statistics, source=sources, num_rows=num_rows, datacheck=__version__)


def _learn_unit(
    task: CleanTask,
    plan: CleaningPlan,
    schema: Schema,
    statistics: Statistics,
    known_fields: Mapping[str | None, str],
) -> _Lesson:
    checker = Checker(Rulebook(schema, plan.forced), with_rows=True)
    learner: Learner | None = None
    found: list[Finding] = []
    partials: list[Partial] = []
    num_rows = 0
    try:
        for judged in judged_batches(task, schema, plan, checker, found):
            rows = judged.kept
            if not len(rows):
                continue
            kept = coerce_batch(
                judged.original if len(rows) == judged.original.num_rows else judged.original.take(rows), schema
            )
            if learner is None:
                # A rule may name a field that this file lacks and others have.
                learner = Learner(plan.bind({**known_fields, **fields_of(kept)}, schema), schema, statistics)
            partials.append(learner.learn(kept))
            num_rows += len(rows)
    except SourceError as error:
        return _Lesson(None, 0, error)
    return _Lesson(learner.merge(partials) if learner else None, num_rows)
