"""The main job: scan, clean and account for every input, and publish the output atomically."""

from __future__ import annotations

import os
import time
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

from datacheck.checks.checker import load_libraries, whole_file_of
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import is_learned
from datacheck.dataset_rules.dataset_state import rules_of_whole
from datacheck.errors import CleaningError, UsageError
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.fit import Duplicates, find_fields, learn
from datacheck.jobs.identify import identify
from datacheck.jobs.inputs import Input, find_duplicates, find_inputs, tasks_of
from datacheck.jobs.merge import InputResult, RunResult, merge_units
from datacheck.jobs.pipeline import Pipeline, load_pipeline, output_uri, split_problem
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.rows_at_fault import with_rows_at_fault
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.process import judge_file, lost_file, lost_unit, process_unit
from datacheck.jobs.units.result import UnitResult, read_finished, to_json
from datacheck.jobs.units.scan import lost_scan, read_keys
from datacheck.jobs.units.task import UnitTask
from datacheck.publishing.identity import RunIdentity
from datacheck.publishing.manifest import STATISTICS_NAME
from datacheck.publishing.output_paths import check_output_outside_inputs
from datacheck.publishing.publisher import Publisher
from datacheck.publishing.resume import clear_leftovers, earlier_identity, find_output
from datacheck.publishing.staging import StagingArea
from datacheck.reports.run_report import RunReport
from datacheck.schema.model import Schema
from datacheck.sinks import get_sink
from datacheck.sources.discover import is_folder
from datacheck.storage import storage_of
from datacheck.text import plain

__all__ = ["PipelineLike", "clean", "fit", "run"]

#: How many samples a killed run may have to process again. Saving one takes longer than processing it.
_SAVED_TOGETHER = 64

PipelineLike = str | os.PathLike[str] | Pipeline
#: No statistics are larger.
_MAX_STATISTICS_BYTES = 1 << 28

StatisticsLike = str | os.PathLike[str] | Statistics


def run(
    pipeline: PipelineLike,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    overwrite: bool = False,
) -> RunReport:
    """Scan, learn from the training split, clean every split, and publish.

    A killed run can be started again: it does only what is left, and ends with the same bytes. If the output of the same
    inputs, schema, rules and version exists already, nothing is done, and the report is that of the first run.

    Args:
        pipeline: the path of a pipeline file, or a loaded pipeline.
        workers: the number of units processed at a time; one per available processor, up to 16, by default.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: called as units finish.
        overwrite: whether to replace the output of an earlier run in the same folder.

    Returns:
        The report: findings, and for each input read = kept + dropped + quarantined.

    Raises:
        PipelineError, SchemaError: the pipeline or its schema is invalid.
        UsageError: a path matches no file.
        CleaningError: a repair cannot be learned or applied.
        OutputError: the output cannot be written, or the folder holds the output of another run.
    """
    return _run(_loaded(pipeline), None, Execution(workers, executor, progress or NullProgress()), overwrite=overwrite)


def fit(
    pipeline: PipelineLike,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
) -> Statistics:
    """Learn the statistics that the pipeline's rules need, from its training split only.

    Raises the errors of :func:`run`, and ``UsageError`` if the pipeline does not name the split to learn from.
    """
    loaded = _loaded(pipeline)
    split = _split_to_fit(loaded)
    loaded = replace(loaded, inputs={split: loaded.inputs[split]})
    load_libraries(loaded.schema)
    execution = Execution(workers, executor, progress or NullProgress())
    inputs = find_inputs(loaded, execution)
    for item in inputs:
        if item.error is not None:
            raise item.error
    duplicates = find_duplicates(inputs, loaded.schema, execution)
    return learn(inputs, loaded.plan, loaded.schema, duplicates, execution, skip_unreadable=False)


def clean(
    pipeline: PipelineLike,
    statistics: StatisticsLike,
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    split: str = "data",
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    overwrite: bool = False,
) -> RunReport:
    """Clean data with statistics that were learned before.

    Args:
        pipeline: the pipeline with the schema, the rules and the output format.
        statistics: the statistics that :func:`fit` learned for the same rules, or the path of their file.
        paths: the files to clean; the pipeline's inputs by default.
        output: the folder to write to; the pipeline's by default.
        split: the folder of the output for ``paths``.
        workers, executor, progress, overwrite: as for :func:`run`.

    Raises:
        CleaningError: the statistics are invalid, or were learned for different rules.
    """
    loaded = _loaded(pipeline)
    if paths is not None:
        if problem := split_problem(split):
            raise UsageError(f"split: {problem}")
        listed = (paths,) if isinstance(paths, str | os.PathLike) else tuple(paths)
        # New data is read as the pipeline's own, where that is all of one kind.
        kinds = {loaded.rows.get(one) for one in loaded.inputs}
        rows = {split: loaded.rows[next(iter(loaded.inputs))]} if len(kinds) == 1 and None not in kinds else {}
        loaded = replace(loaded, inputs={split: tuple(os.fspath(path) for path in listed)}, rows=rows)
    if output is not None:
        loaded = replace(loaded, output=output_uri(output))
    learned = statistics if isinstance(statistics, Statistics) else _read_statistics(statistics)
    learned.check_plan(loaded.plan)
    return _run(loaded, learned, Execution(workers, executor, progress or NullProgress()), overwrite=overwrite)


def _loaded(pipeline: PipelineLike) -> Pipeline:
    return pipeline if isinstance(pipeline, Pipeline) else load_pipeline(pipeline)


def _read_statistics(path: str | os.PathLike[str]) -> Statistics:
    place = plain(os.fspath(path))
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_STATISTICS_BYTES + 1)
        if len(content) > _MAX_STATISTICS_BYTES:
            raise CleaningError(f"{place}: larger than {_MAX_STATISTICS_BYTES:,} bytes; expected a statistics file")
        return Statistics.from_json(content, place)
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}; create it with 'datacheck fit'") from None


def _split_to_fit(pipeline: Pipeline) -> str:
    if pipeline.fit is None:
        raise UsageError(
            f"{pipeline.file}: fit: name the split to learn from, such as 'fit: {next(iter(pipeline.inputs))}'"
        )
    return pipeline.fit


@dataclass(frozen=True, slots=True)
class _Job:
    """A run that is about to start: what it reads and writes, and what identifies it."""

    pipeline: Pipeline
    inputs: Sequence[Input]
    statistics: Statistics | None
    identity: RunIdentity
    execution: Execution
    overwrite: bool


def _run(pipeline: Pipeline, statistics: Statistics | None, execution: Execution, *, overwrite: bool) -> RunReport:
    started = time.perf_counter()
    load_libraries(pipeline.schema)
    inputs = find_inputs(pipeline, execution)
    _check_output(pipeline, inputs)
    given = "" if statistics is None else statistics.to_json()
    identity = identify(pipeline, inputs, given, earlier_identity(pipeline.output), execution.workers)
    job = _Job(pipeline, inputs, statistics, identity, execution, overwrite)
    return replace(_report_of(job), seconds=time.perf_counter() - started)


def _check_output(pipeline: Pipeline, inputs: Sequence[Input]) -> None:
    given = [path for paths in pipeline.inputs.values() if isinstance(paths, tuple) for path in paths]
    folders = [path for path in given if is_folder(storage_of(path), path)]
    check_output_outside_inputs(pipeline.output, [*folders, *(path for item in inputs for path in item.paths)])


def _report_of(job: _Job) -> RunReport:
    """Run the job, unless its output has been published already."""
    pipeline = job.pipeline
    found = find_output(pipeline.output, job.identity, overwrite=job.overwrite)
    if found is not None and found.report is not None and not _can_read_more(job, found.report):
        clear_leftovers(pipeline.output, job.identity.fingerprint)
        return found.report
    for format_ in {item.format(pipeline.format) for item in job.inputs}:
        get_sink(format_, pipeline.format_options)
    fields = find_fields(job.inputs, pipeline.plan, pipeline.schema)
    storage = storage_of(pipeline.output)
    is_new = not storage.exists(pipeline.output)
    try:
        with StagingArea(pipeline.output) as staging:
            return _run_in_staging_area(job, fields, staging)
    finally:
        if is_new:
            storage.delete_empty_folder(pipeline.output)


def _can_read_more(job: _Job, report: RunReport) -> bool:
    """Whether an input that an earlier run could not read can be read now: the reason may have passed."""
    unread = {account.uri for account in report.accounts if not account.is_cleaned}
    for item in job.inputs:
        if item.uri not in unread or item.info is None:
            continue
        read = job.execution.map(partial(read_keys, schema=Schema()), item.info.units, lost_scan)
        with closing(read) as results:
            if not any(result.error for result in results):
                return True
    return False


def _run_in_staging_area(job: _Job, fields: Mapping[str | None, str], staging: StagingArea) -> RunReport:
    # Another run may have finished between the first check and the lock.
    found = find_output(job.pipeline.output, job.identity, overwrite=job.overwrite)
    if found is not None and found.report is not None and not _can_read_more(job, found.report):
        staging.clear()
        return found.report
    publisher = Publisher(staging, job.identity, found.manifest if found else None)
    try:
        publisher.check_folders(job.pipeline.inputs)
        return _work(job, fields, publisher)
    except BaseException:
        if publisher.is_empty:
            publisher.abandon()
        raise


def _work(job: _Job, fields: Mapping[str | None, str], publisher: Publisher) -> RunReport:
    """Find duplicates, learn, process every unit, and publish."""
    pipeline = job.pipeline
    duplicates = find_duplicates(job.inputs, pipeline.schema, job.execution)
    statistics = job.statistics or _learned(job, duplicates, publisher)
    plan = UnitPlan(pipeline.schema, pipeline.plan, fields, statistics, publisher.parts, pipeline.format_options)
    result = RunResult(pipeline, job.inputs)
    with closing(_process_inputs(job, plan, duplicates, publisher, result)) as processed:
        for merged in processed:
            if merged.failed:
                processed.close()
                publisher.abandon()
                return result.report_failure(merged)
            result.add(merged, duplicates.get(merged.item.uri, ()), _plan_output(merged, pipeline, publisher))
    result.add_ledgers(publisher)
    if failed := result.judge_dataset():
        publisher.abandon()
        return result.report_failed_dataset(failed)
    if result.is_empty:
        publisher.abandon()
        return result.report()
    return _publish(job, result.report(), statistics, publisher)


def _process_inputs(
    job: _Job, plan: UnitPlan, duplicates: Duplicates, publisher: Publisher, result: RunResult
) -> Generator[InputResult, None, None]:
    """Process the units that no earlier run finished; the results of all units, merged by input and in order."""
    pipeline, execution = job.pipeline, job.execution
    tasks = [tasks_of(item, item.format(pipeline.format), duplicates) for item in job.inputs]
    all_tasks = [task for some in tasks for task in some]
    rules = rules_of_whole(pipeline.schema)
    finished = read_finished(publisher.staging.finished_units(), all_tasks, publisher.has_part, rules)
    num_bytes = sum(item.info.num_bytes for item in job.inputs if item.info is not None)
    execution.progress.start("clean", len(all_tasks), num_bytes)
    tasks = _with_file_outcomes(tasks, finished, plan, execution)
    if any(task.name not in finished for task in all_tasks):
        tasks = with_rows_at_fault(tasks, plan, execution, train=pipeline.fit, report=result.add_finding)
    left = [task for some in tasks for task in some if task.name not in finished]
    with closing(execution.map(partial(process_unit, plan=plan), left, lost_unit)) as processed:
        results = _all_results(all_tasks, finished, processed, publisher)
        for item, some in zip(job.inputs, tasks, strict=True):
            yield merge_units(item, some, results, pipeline, execution.progress)


def _with_file_outcomes(
    tasks: list[list[UnitTask]], finished: Container[str], plan: UnitPlan, execution: Execution
) -> list[list[UnitTask]]:
    """The tasks of each input, with the results of the checks that need all rows of it."""
    if whole_file_of(plan.schema, None) is None:
        return tasks
    is_left = [any(task.name not in finished for task in some) for some in tasks]
    judged = execution.map(
        partial(judge_file, plan=plan), list(compress(tasks, is_left)), partial(lost_file, plan=plan)
    )
    outcomes = [next(judged) if left else () for left in is_left]
    return [[replace(task, file_outcomes=found) for task in some] for some, found in zip(tasks, outcomes, strict=True)]


def _all_results(
    tasks: Sequence[UnitTask],
    finished: Mapping[str, UnitResult],
    processed: Iterator[UnitResult],
    publisher: Publisher,
) -> Iterator[UnitResult]:
    """The results in the order of the tasks. Those of units that were just processed are saved, samples several at a time."""
    waiting: list[UnitResult] = []

    def save() -> None:
        if waiting:
            publisher.record(waiting[0].name, {"units": [to_json(result) for result in waiting]})
            waiting.clear()

    try:
        for task in tasks:
            result = finished.get(task.name)
            if result is None:
                result = next(processed)
                if result.is_complete:
                    if not task.is_sample:
                        save()
                    waiting.append(result)
                    if not task.is_sample or len(waiting) == _SAVED_TOGETHER:
                        save()
            yield result
    finally:
        save()


def _plan_output(merged: InputResult, pipeline: Pipeline, publisher: Publisher) -> list[dict[str, Any]] | None:
    """The manifest's entries for an input's files. The files of an input that cannot be read are discarded."""
    if not merged.is_readable:
        for _, result in merged.units:
            if result.error is None:
                publisher.discard(result.name, result.parts)
        return None
    item = merged.item
    if item.sample_name:
        (written,) = merged.written_units()
        labels = [name for _, name in item.labels]
        return publisher.plan_sample(item.split, item.sample_name, written, labels)
    format_, is_aligned = item.format(pipeline.format), item.files is not None
    return publisher.plan_output(item.split, item.uri, merged.written_units(), format_, is_aligned=is_aligned)


def _publish(job: _Job, report: RunReport, statistics: Statistics | None, publisher: Publisher) -> RunReport:
    schema = job.pipeline.schema.model_dump(mode="json", exclude_defaults=True)
    learned = statistics.to_json() if statistics is not None and statistics.learned else None
    name = None if learned is None else STATISTICS_NAME
    manifest = report.to_manifest(job.identity.fingerprint, schema, name, job.identity.to_json())
    publisher.publish(manifest, learned)
    return report


def _learned(job: _Job, duplicates: Duplicates, publisher: Publisher) -> Statistics | None:
    """The statistics of this run: saved before it was killed, or learned now; None if no rule needs any."""
    pipeline = job.pipeline
    if not any(is_learned(rule) for rule in pipeline.plan.rules):
        return None
    if (saved := publisher.saved_statistics()) is not None:
        with suppress(CleaningError):
            return Statistics.from_json(saved)
    split = _split_to_fit(pipeline)
    train = [item for item in job.inputs if item.split == split]
    if all(item.error is not None for item in train):
        raise CleaningError(
            f"no input of the split {split!r} can be read, so there is nothing to learn: {train[0].error}"
        )
    statistics = learn(train, pipeline.plan, pipeline.schema, duplicates, job.execution, skip_unreadable=True)
    publisher.save_statistics(statistics.to_json())
    return statistics
