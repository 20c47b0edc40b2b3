"""The units of a run: which are left, what becomes of each, and where their files go."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import compress
from typing import Any

from datacheck.checks.checker import whole_file_of
from datacheck.dataset_rules.dataset_state import rules_of_whole
from datacheck.findings import Finding
from datacheck.jobs.execution import Execution
from datacheck.jobs.fit import Duplicates
from datacheck.jobs.inputs import Input, tasks_of
from datacheck.jobs.merge import InputResult, merge_units
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.rows_at_fault import with_rows_at_fault
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.groups import group_units
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.process import judge_file, lost_file
from datacheck.jobs.units.process_groups import lost_group, process_group
from datacheck.jobs.units.result import UnitResult, read_finished, to_json
from datacheck.jobs.units.task import UnitTask
from datacheck.publishing.publisher import Publisher

#: How many samples a killed run may have to process again. Saving one takes longer than processing it.
_SAVED_TOGETHER = 64


def process_inputs(
    inputs: Sequence[Input],
    pipeline: Pipeline,
    plan: UnitPlan,
    duplicates: Duplicates,
    execution: Execution,
    *,
    publisher: Publisher,
    report: Callable[[Finding], None],
) -> Generator[InputResult, None, None]:
    """Process the units that no earlier run finished; the results of all units, merged by input and in order.

    Notes on the dataset go to ``report``.
    """
    tasks = [tasks_of(item, item.format(pipeline.format), duplicates) for item in inputs]
    all_tasks = [task for some in tasks for task in some]
    rules = rules_of_whole(pipeline.schema)
    # What shards did is among their results.
    saved = {} if execution.is_shared else publisher.staging.finished_units()
    finished = read_finished(saved, all_tasks, publisher.has_part, rules)
    num_bytes = sum(item.info.num_bytes for item in inputs if item.info is not None)
    execution.progress.start("clean", len(all_tasks), num_bytes)
    tasks = _with_file_outcomes(tasks, finished, plan, execution)
    tasks = with_rows_at_fault(tasks, plan, execution, train=pipeline.fit, report=report)
    groups = [group for of_file in group_units(tasks) for group in of_file]
    left = [group for group in groups if not _are_finished(group, finished)]
    stage = Stage(
        "clean",
        rules=rules,
        is_valid=lambda done: all(publisher.has_sizes(one.parts) for one in done),
        is_last=True,
    )
    with closing(execution.map(partial(process_group, plan=plan), left, lost_group, stage=stage)) as processed:
        if not left:
            # A shard is done with this pass, although no result of it is asked for.
            next(processed, None)
        results = _all_results(groups, finished, processed, None if execution.is_shared else publisher)
        for item, some in zip(inputs, tasks, strict=True):
            yield merge_units(item, some, results, pipeline, execution.progress)


def _with_file_outcomes(
    tasks: list[list[UnitTask]], finished: Container[str], plan: UnitPlan, execution: Execution
) -> list[list[UnitTask]]:
    """The tasks of each input, with the results of the checks that need all rows of it."""
    if whole_file_of(plan.schema, None) is None:
        return tasks
    is_left = [any(task.name not in finished for task in some) for some in tasks]
    judged = execution.map(
        partial(judge_file, plan=plan),
        list(compress(tasks, is_left)),
        partial(lost_file, plan=plan),
        stage=Stage("judge files"),
    )
    outcomes = [next(judged) if left else () for left in is_left]
    return [[replace(task, file_outcomes=found) for task in some] for some, found in zip(tasks, outcomes, strict=True)]


def _are_finished(group: Sequence[UnitTask], finished: Container[str]) -> bool:
    """Whether no unit of a group is left: what was found in all of them is in the result of the first."""
    return all(task.name in finished for task in group)


def _all_results(
    groups: Sequence[Sequence[UnitTask]],
    finished: Mapping[str, UnitResult],
    processed: Iterator[Sequence[UnitResult]],
    publisher: Publisher | None,
) -> Iterator[UnitResult]:
    """The results in the order of the units. Results of units that were just processed are saved, samples several at a time.

    Without a ``publisher`` nothing is saved.
    """
    waiting: list[UnitResult] = []

    def save() -> None:
        if waiting and publisher is not None:
            publisher.record(waiting[0].name, {"units": list(map(to_json, waiting))})
            waiting.clear()

    try:
        for group in groups:
            if _are_finished(group, finished):
                yield from (finished[task.name] for task in group)
                continue
            results = next(processed)
            if all(result.is_complete for result in results):
                if not group[0].is_sample:
                    save()
                waiting += results
                if not group[0].is_sample or len(waiting) == _SAVED_TOGETHER:
                    save()
            yield from results
    finally:
        save()


def plan_output(merged: InputResult, pipeline: Pipeline, publisher: Publisher) -> list[dict[str, Any]] | None:
    """The manifest's entries for an input's files. The files of an input that cannot be read are discarded."""
    if not merged.is_readable:
        for _, result in merged.units:
            publisher.discard(result.name, result.parts)
        return None
    item = merged.item
    if item.sample_name:
        (written,) = merged.written_units()
        labels = [name for _, name in item.labels]
        return publisher.plan_sample(item.split, item.sample_name, written, labels)
    format_, is_aligned = item.format(pipeline.format), item.files is not None
    return publisher.plan_output(item.split, item.uri, merged.written_units(), format_, is_aligned=is_aligned)
