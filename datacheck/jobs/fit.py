"""Learning statistics from the training split: streamed, merged in order, and from no other data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice

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
from datacheck.jobs.executors.isolated import Isolated
from datacheck.jobs.inputs import Input, tasks_of
from datacheck.jobs.progress import Progress
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.groups import group_units
from datacheck.jobs.units.label import label_unit
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.scan import lost_error
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit
from datacheck.sources.error_translation import translate_bugs
from datacheck.storage.base import Fingerprint

#: The most groups of units that are learned from together, and the most results over all groups: every shard reads them all.
_MAX_GROUPS, _MAX_RESULTS = 1024, 8192
#: Results that are merged into one, if there are more.
_TOGETHER = 64

Duplicates = Mapping[str, Sequence[tuple[str | None, IntArray]]]


def find_fields(inputs: Sequence[Input], plan: CleaningPlan, schema: Schema) -> dict[str | None, str]:
    """The fields of the first input whose rows can be kept, checked against the plan; empty if there is none.

    Raises ``PipelineError`` and ``CleaningError`` before any work is done.
    """
    for item in inputs:
        if item.info is None:
            continue
        find = partial(_fields_of, num_rows=item.info.num_rows, plan=plan, schema=schema)
        fields = Isolated(find, lambda _: None)(item.info.units[0])
        if fields is not None:
            validate_plan(plan, fields, schema)
            return fields
    return {}


def _fields_of(
    unit: WorkUnit, num_rows: int | None, plan: CleaningPlan, schema: Schema
) -> dict[str | None, str] | None:
    """The fields of a file by its first unit; None where no row of it can be kept."""
    try:
        first = next(get_source(unit.format).read(unit), None)
    except SourceError:
        return None
    if first is None:
        return None
    batch = coerce_batch(first, schema)
    return leaf_dtypes(batch) if _can_keep_rows(batch, num_rows, plan, schema) else None


def _can_keep_rows(batch: Batch, num_rows: int | None, plan: CleaningPlan, schema: Schema) -> bool:
    """Whether no violation by the whole file removes all its rows."""
    facts = {leaf.path: FieldFacts.of(leaf, column) for column in batch.columns for leaf in column.leaves()}
    violations = check_structure(schema, facts, batch.names, num_rows)
    return all(plan.decide(one.field, one.code) in (Action.REPAIR, Action.REPORT) for one in violations)


@dataclass(frozen=True, slots=True)
class UnitStatistics:
    """What some units contribute; ``partial`` is None if no row of it is kept. Errors come back as data."""

    partial: PartialStatistics | None = None
    num_rows: int = 0
    error: SourceError | None = None
    failure: DatacheckError | None = None

    def merge(self, other: UnitStatistics, learner: Learner) -> UnitStatistics:
        """These and the next ones; what is unreadable needs no statistics."""
        error, failure = self.error or other.error, self.failure or other.failure
        parts = () if error or failure else tuple(part for part in (self.partial, other.partial) if part is not None)
        learned = learner.merge(parts) if parts else None
        return UnitStatistics(learned, self.num_rows + other.num_rows, error, failure)


@dataclass(frozen=True, slots=True)
class LearnedFiles:
    """What some files contribute, and how many rows of each. Errors come back as data."""

    partial: PartialStatistics | None = None
    sources: tuple[LearnedFrom, ...] = ()
    failure: DatacheckError | None = None


def learn(
    inputs: Sequence[Input],
    plan: CleaningPlan,
    schema: Schema,
    duplicates: Duplicates,
    execution: Execution,
    *,
    skip_unreadable: bool,
    is_last: bool = False,
) -> Statistics:
    """Learn the statistics that the plan needs from the kept rows of ``inputs``.

    Args:
        duplicates: for each input, the rows that repeat an earlier row's key.
        skip_unreadable: whether to skip an input that cannot be read to its end. A run does, because cleaning that input
            reports why; otherwise its ``SourceError`` is raised.
        is_last: whether nothing is done with the statistics in this job.

    Raises:
        CleaningError: there is nothing to learn from.
    """
    statistics = Statistics(plan.fingerprint, datacheck=__version__)
    fields = find_fields(inputs, plan, schema)
    if not fields:
        return statistics
    resolved = validate_plan(plan, fields, schema)
    sources: tuple[LearnedFrom, ...] = ()
    num_rounds = resolved.num_rounds(fields)
    for number in range(1, num_rounds + 1):
        learner = Learner(resolved, schema, statistics)
        unit_plan = UnitPlan(schema, plan, fields, statistics)
        stage = Stage("learn", references=plan.rules, is_last=is_last and number == num_rounds)
        learned, sources = _learn_round(
            inputs, duplicates, learner, unit_plan, execution, stage, skip_unreadable=skip_unreadable
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
    stage: Stage,
    *,
    skip_unreadable: bool,
) -> tuple[PartialStatistics | None, tuple[LearnedFrom, ...]]:
    """One pass over the inputs: the merged statistics, and which inputs they come from.

    A tree whose shape the inputs alone decide, so that the outcome does not depend on who learns what: batches are merged in
    groups of units, these in files, files with their neighbours, and these into one. Of each level one is in memory, and the
    one that is added to it.
    """
    readable = [item for item in inputs if item.info is not None]
    groups = group_units([tasks_of(item, "parquet", duplicates) for item in readable], _MAX_GROUPS)
    num_units = sum(len(group) for of_file in groups for group in of_file)
    execution.progress.start("learn", num_units, sum(item.info.num_bytes for item in readable if item.info))
    work = _neighbours(groups)
    files = iter(zip(readable, groups, strict=True))
    by_span = {span: list(islice(files, num_files)) for span, num_files in _spans(work, groups)}

    def merge(span: range, lists: Iterator[list[UnitStatistics]]) -> LearnedFiles:
        results = chain.from_iterable(lists)
        return _merge_files(by_span[span], results, learner, execution.progress, skip_unreadable=skip_unreadable)

    learned_files = execution.map_merged(
        partial(_learn_groups, plan=plan, learner=learner),
        work,
        list(by_span),
        merge,
        lambda some: [UnitStatistics(error=lost_error(group[0].unit.uri)) for group in some],
        stage=stage,
    )
    learned: PartialStatistics | None = None
    sources: list[LearnedFrom] = []
    with closing(learned_files) as merged:
        for some in merged:
            if some.failure is not None:
                raise some.failure
            learned = learner.merge(part for part in (learned, some.partial) if part is not None)
            sources += some.sources
    return learned, tuple(sources)


def _merge_files(
    files: Sequence[tuple[Input, Sequence[Sequence[UnitTask]]]],
    results: Iterator[UnitStatistics],
    learner: Learner,
    progress: Progress,
    *,
    skip_unreadable: bool,
) -> LearnedFiles:
    """What files contribute, from what their groups of units do; up to the first that stops the job."""
    learned: PartialStatistics | None = None
    sources: list[LearnedFrom] = []
    for item, of_file in files:
        assert item.info is not None
        file = UnitStatistics()
        for group in of_file:
            file = file.merge(next(results), learner)
            progress.advance(len(group), 0, 0)
        progress.advance(0, file.num_rows, item.info.num_bytes)
        failure = file.failure or (None if skip_unreadable else file.error)
        if failure is not None:
            return LearnedFiles(failure=failure)
        if file.error is None:
            learned = learner.merge(part for part in (learned, file.partial) if part is not None)
            state = item.info.units[0].fingerprint
            sources.append(LearnedFrom(item.uri, Fingerprint(state.size, state.mtime_ns), file.num_rows))
    return LearnedFiles(learned, tuple(sources))


def _spans(
    work: Sequence[Sequence[Sequence[UnitTask]]], groups: Iterable[Sequence[Sequence[UnitTask]]]
) -> Iterator[tuple[range, int]]:
    """Ranges of the work that are merged together, which are about files as a whole, and how many files each is about."""
    sizes = iter(map(len, groups))
    start = num_groups = num_files = 0
    for position, some in enumerate(work, 1):
        num_groups += len(some)
        while num_groups > 0:
            num_groups -= next(sizes)
            num_files += 1
        if position == len(work) or (num_groups == 0 and position - start >= _TOGETHER):
            yield range(start, position), num_files
            start, num_files = position, 0


def _neighbours(groups: Iterable[Sequence[Sequence[UnitTask]]]) -> list[list[Sequence[UnitTask]]]:
    """The groups, of which whole files stand together where there are very many."""
    files = list(groups)
    size = max(1, -(-sum(map(len, files)) // _MAX_RESULTS))
    found: list[list[Sequence[UnitTask]]] = []
    is_open = False
    for of_file in files:
        if len(of_file) == 1 and is_open and len(found[-1]) < size:
            found[-1].append(of_file[0])
        else:
            found += [[group] for group in of_file]
            is_open = len(of_file) == 1
    return found


def _learn_groups(groups: Sequence[Sequence[UnitTask]], plan: UnitPlan, learner: Learner) -> list[UnitStatistics]:
    """What each group contributes. Of whole files, the first that can be read has what all of them do."""
    found = [_learn_group(group, plan) for group in groups]
    readable = [index for index, one in enumerate(found) if one.partial is not None]
    if len(readable) > 1:
        merged = learner.merge(one.partial for one in found if one.partial is not None)
        found = [replace(one, partial=merged if index == readable[0] else None) for index, one in enumerate(found)]
    return found


def _learn_group(group: Sequence[UnitTask], plan: UnitPlan) -> UnitStatistics:
    try:
        with translate_bugs(*(uri for task in group for uri in task.unit.uris)):
            return _learn_batches(group, plan)
    except SourceError as error:
        return UnitStatistics(error=error)
    except DatacheckError as error:
        return UnitStatistics(failure=error)


def _learn_batches(group: Sequence[UnitTask], plan: UnitPlan) -> UnitStatistics:
    learner: Learner | None = None
    learned: PartialStatistics | None = None
    num_rows = 0
    for labelled in chain.from_iterable(label_unit(task, plan) for task in group):
        if not len(labelled.kept_rows):
            continue
        if learner is None:
            learner = Learner(labelled.rules.require_plan(), plan.schema, plan.statistics)
        found = learner.learn(labelled.kept, labelled.violations)
        learned = learner.merge([found] if learned is None else [learned, found])
        num_rows += len(labelled.kept_rows)
    return UnitStatistics(learned, num_rows)
