"""The main job: scan, clean and account for every input, and publish the output atomically."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial

from datacheck.checks.checker import load_libraries
from datacheck.cleaning.fit.statistics import Statistics, StatisticsLike, load_statistics
from datacheck.cleaning.plan import is_learned
from datacheck.errors import CleaningError, DatacheckError, OutputError, UsageError
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.fit import Duplicates, find_fields, learn
from datacheck.jobs.identify import identify, settings_of, with_contents
from datacheck.jobs.inputs import Input, find_duplicates, find_inputs
from datacheck.jobs.merge import RunResult
from datacheck.jobs.pipeline import Pipeline, load_pipeline, output_uri, split_problem
from datacheck.jobs.process_inputs import plan_output, process_inputs
from datacheck.jobs.progress import ProgressLike, following
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.scan import lost_scan, read_keys
from datacheck.publishing.amend import finish_amendment
from datacheck.publishing.identity import RunIdentity
from datacheck.publishing.manifest import MANIFEST_NAME, STATISTICS_NAME
from datacheck.publishing.output_paths import check_output_outside_inputs
from datacheck.publishing.publisher import Publisher
from datacheck.publishing.resume import PublishedOutput, clear_leftovers, earlier_identity, find_output
from datacheck.publishing.staging import StagingArea, results_folder
from datacheck.reports.run_report import RunReport
from datacheck.schema.model import Schema
from datacheck.sinks import get_sink
from datacheck.sources.discover import is_folder
from datacheck.storage import storage_of
from datacheck.storage.base import StoreError
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

PipelineLike = str | os.PathLike[str] | Pipeline


def run(
    pipeline: PipelineLike,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
    overwrite: bool = False,
) -> RunReport:
    """Scan, learn from the training split, clean every split, and publish.

    A killed run can be started again: it does only what is left, and ends with the same bytes. If the output of the same
    inputs, schema, rules and version exists already, nothing is done, and the report of the first run is returned.

    Args:
        pipeline: the path of a pipeline file, or a loaded pipeline.
        workers: the number of units processed at a time; one per available processor, up to 16, by default.
        executor: ``"threads"``, ``"processes"``, a ``concurrent.futures.Executor``, or one for shards or Ray.
        progress: True for a progress bar on stderr, or what is called as units finish.
        overwrite: whether to replace the output of an earlier run in the same folder.

    Returns:
        The report: findings, and for each input read = kept + dropped + quarantined.

    Raises:
        PipelineError, SchemaError: the pipeline or its schema is invalid.
        UsageError: a path matches no file.
        CleaningError: a repair cannot be learned or applied.
        OutputError: the output cannot be written, or the folder holds the output of another run.
    """
    with following(progress) as follower:
        return _run(loaded_pipeline(pipeline), None, Execution(workers, executor, follower), overwrite=overwrite)


def fit(
    pipeline: PipelineLike,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
) -> Statistics:
    """Learn the statistics that the pipeline's rules need, from its training split only.

    Raises the errors of :func:`run`, and ``UsageError`` if the pipeline does not name the split to learn from.
    """
    loaded = loaded_pipeline(pipeline)
    split = _split_to_fit(loaded)
    loaded = replace(loaded, inputs={split: loaded.inputs[split]})
    load_libraries(loaded.schema)
    with ExitStack() as stack:
        execution = Execution(workers, executor, stack.enter_context(following(progress)))
        stack.enter_context(execution.job("fit", [settings_of(loaded, ""), loaded.inputs]))
        inputs = find_inputs(loaded, execution)
        for item in inputs:
            if item.error is not None:
                raise item.error
        duplicates = find_duplicates(inputs, loaded.schema, execution)
        return learn(inputs, loaded.plan, loaded.schema, duplicates, execution, skip_unreadable=False, is_last=True)


def clean(
    pipeline: PipelineLike,
    statistics: StatisticsLike,
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    split: str = "data",
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
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
    loaded = loaded_pipeline(pipeline)
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
    learned = load_statistics(statistics)
    learned.check_plan(loaded.plan)
    with following(progress) as follower:
        return _run(loaded, learned, Execution(workers, executor, follower), overwrite=overwrite)


def loaded_pipeline(pipeline: PipelineLike) -> Pipeline:
    """The pipeline, from its file if that is given."""
    if isinstance(pipeline, Pipeline):
        return pipeline
    if not isinstance(pipeline, str | os.PathLike):
        raise UsageError(
            f"pipeline: expected the path of a YAML file, got {type(pipeline).__name__}; clean_data cleans data in memory"
        )
    return load_pipeline(pipeline)


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
    #: Whether a merge was here before, so that nothing is left to do.
    is_over: bool = False


def _run(pipeline: Pipeline, statistics: Statistics | None, execution: Execution, *, overwrite: bool) -> RunReport:
    started = time.perf_counter()
    load_libraries(pipeline.schema)
    check_output(pipeline)
    given = "" if statistics is None else statistics.to_json()
    results = results_folder(pipeline.output)
    # A merge that was killed after it had published may have left some of the results.
    is_over = execution.is_shared and not overwrite and _is_published(pipeline.output)
    if is_over:
        # All that is left is to say so, and that takes no shards.
        execution = replace(execution, executor="threads")
    with execution.job("run", [settings_of(pipeline, given), pipeline.inputs], results):
        inputs = find_inputs(pipeline, execution)
        check_output(pipeline, inputs)
        identity = identify(pipeline, inputs, given, earlier_identity(pipeline.output), execution)
        if execution.travels:
            inputs = with_contents(inputs, identity)
        report = _report_of(_Job(pipeline, inputs, statistics, identity, execution, overwrite, is_over))
    return replace(report, seconds=time.perf_counter() - started)


def _is_published(output: str) -> bool:
    with output_errors(output):
        return storage_of(output).exists(f"{output}/{MANIFEST_NAME}")


def check_output(pipeline: Pipeline, inputs: Sequence[Input] = ()) -> None:
    """Raise ``OutputError`` if the output would overwrite an input, be read as one, or be shards of a checkpoint.

    ``UsageError`` is for an input whose storage does not answer.
    """
    given = [path for paths in pipeline.inputs.values() if isinstance(paths, tuple) for path in paths]
    try:
        folders = [path for path in given if is_folder(storage_of(path), path)]
    except StoreError as error:
        raise UsageError(f"{plain(str(error.filename))}: {error.strerror}") from None
    check_output_outside_inputs(pipeline.output, [*folders, *(path for item in inputs for path in item.paths)])
    _refuse_sharded_weights([item.uri for item in inputs if item.format(pipeline.format) == "safetensors"])


def _refuse_sharded_weights(files: Sequence[str]) -> None:
    """Raise ``OutputError`` for shards beside an index: a row that is removed of a weight leaves no model."""
    for folder in dict.fromkeys(map(posixpath.dirname, files)):
        for entry in storage_of(folder or ".").list(folder or "."):
            if ".safetensors.index." in entry.name:
                index = plain(posixpath.join(folder, entry.name))
                raise OutputError(
                    f"{index} is the index of a checkpoint: checkpoints are checked and compared, not cleaned"
                )


def _report_of(job: _Job) -> RunReport:
    """Run the job, unless its output has been published already."""
    pipeline = job.pipeline
    finish_amendment(pipeline.output)
    found = find_output(pipeline.output, job.identity, overwrite=job.overwrite)
    if found is not None and found.report is not None and not _can_read_more(job, found):
        clear_leftovers(pipeline.output, job.identity.fingerprint)
        return found.report
    for format_ in {item.format(pipeline.format) for item in job.inputs}:
        try:
            get_sink(format_, pipeline.format_options)
        except DatacheckError as error:
            place = f"{pipeline.file}: output: " if pipeline.format else ""
            raise type(error)(f"{place}{error}") from None
    fields = find_fields(job.inputs, pipeline.plan, pipeline.schema)
    storage = storage_of(pipeline.output)
    is_new = not storage.exists(pipeline.output)
    try:
        with StagingArea(pipeline.output, shared=job.execution.is_shard) as staging:
            return _run_in_staging_area(job, fields, staging)
    finally:
        if is_new:
            storage.delete_empty_folder(pipeline.output)


def _can_read_more(job: _Job, found: PublishedOutput) -> bool:
    """Whether an input that an earlier run could not read can be read now: the reason may have passed.

    Rows that were fixed are not thrown away for it.
    """
    if job.is_over or job.execution.is_shared or found.report is None or found.manifest.get("requeues"):
        return False
    unread = {account.uri for account in found.report.accounts if not account.is_cleaned}
    for item in job.inputs:
        if item.uri not in unread or item.info is None:
            continue
        read = job.execution.map(
            partial(read_keys, schema=Schema()), item.info.units, lost_scan, stage=Stage("look again")
        )
        with closing(read) as results:
            if not any(result.error for result in results):
                return True
    return False


def _run_in_staging_area(job: _Job, fields: Mapping[str | None, str], staging: StagingArea) -> RunReport:
    # Another run may have finished between the first check and the lock.
    found = find_output(job.pipeline.output, job.identity, overwrite=job.overwrite)
    if found is not None and found.report is not None and not _can_read_more(job, found):
        staging.clear()
        return found.report
    replaced = found.manifest if found else None
    publisher = Publisher(staging, job.identity, replaced, shared=job.execution.is_shared)
    try:
        publisher.check_folders(job.pipeline.inputs)
        return _work(job, fields, publisher)
    except BaseException:
        if not job.execution.is_shared and publisher.is_empty:
            publisher.abandon()
        raise


def _work(job: _Job, fields: Mapping[str | None, str], publisher: Publisher) -> RunReport:
    """Find duplicates, learn, process every unit, and publish."""
    pipeline = job.pipeline
    duplicates = find_duplicates(job.inputs, pipeline.schema, job.execution)
    statistics = job.statistics or _learned(job, duplicates, publisher)
    plan = UnitPlan(pipeline.schema, pipeline.plan, fields, statistics, publisher.parts, pipeline.format_options)
    result = RunResult(pipeline, job.inputs)
    inputs = process_inputs(
        job.inputs, pipeline, plan, duplicates, job.execution, publisher=publisher, report=result.add_finding
    )
    with closing(inputs) as processed:
        for merged in processed:
            if merged.failed:
                processed.close()
                publisher.abandon()
                return result.report_failure(merged)
            result.add(merged, duplicates.get(merged.item.uri, ()), plan_output(merged, pipeline, publisher))
    result.add_ledgers(publisher)
    result.add_indexes(publisher)
    if failed := result.judge_dataset():
        publisher.abandon()
        return result.report_failed_dataset(failed)
    if result.is_empty:
        publisher.abandon()
        return result.report()
    return _publish(job, result.report(), statistics, publisher)


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
