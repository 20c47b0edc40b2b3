"""The main job: every input scanned, cleaned and accounted for, published at once or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datacheck.checks.checker import load_libraries
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import Action, CleaningPlan, is_learned
from datacheck.codes import CODES, DUPLICATE_ROW
from datacheck.errors import CleaningError, SourceError, UsageError
from datacheck.findings import MAX_EXAMPLES, Example, Finding
from datacheck.jobs.executors.local import ExecutorLike, map_in_order
from datacheck.jobs.file_results import FileScan
from datacheck.jobs.fit import bind_to, learn
from datacheck.jobs.inputs import Input, find_duplicates, find_inputs, fingerprint_of, fingerprints, tasks_of
from datacheck.jobs.pipeline import Pipeline, load_pipeline, output_uri, split_problem
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.scan import unit_bytes
from datacheck.jobs.units.clean import Cleaning, clean_unit
from datacheck.jobs.units.result import UnitResult, read_finished, to_json
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.publishing.manifest import STATISTICS_NAME, sum_counts
from datacheck.publishing.output_paths import check_output_outside_inputs
from datacheck.publishing.publisher import Publisher, WrittenUnit
from datacheck.publishing.resume import clear_leftovers, find_output
from datacheck.publishing.staging import StagingArea
from datacheck.reports.accounts import InputAccount, RepairTotal
from datacheck.reports.run_report import RunReport
from datacheck.sinks import get_sink
from datacheck.storage import storage_of
from datacheck.text import plain

__all__ = ["PipelineLike", "clean", "fit", "run"]

PipelineLike = str | os.PathLike[str] | Pipeline
StatisticsLike = str | os.PathLike[str] | Statistics
Repeated = Mapping[str, Sequence[tuple[str | None, IntArray]]]


def run(
    pipeline: PipelineLike,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    overwrite: bool = False,
) -> RunReport:
    """Scan, learn from the training split, clean every split, and publish.

    A run that was killed at any instant goes on where it was, and ends with the same bytes. One whose output is there
    already, from the same inputs, schema, rules and version, does nothing and reports what the first one did.

    Args:
        pipeline: the path of a pipeline file, or a loaded pipeline.
        workers: how many units are worked on at a time; as many as there are processors, up to 16, unless set.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: told as units end.
        overwrite: whether the output of an earlier run in the same folder is replaced.

    Returns:
        The report: findings, and for each input read = kept + dropped + quarantined.

    Raises:
        PipelineError, SchemaError: a file of the configuration is wrong.
        UsageError: a path stands for nothing.
        CleaningError: a repair cannot be learned or applied.
        OutputError: the output cannot be written, or holds another run's.
    """
    return _run(_loaded(pipeline), None, workers, executor, progress or NullProgress(), overwrite)


def fit(
    pipeline: PipelineLike,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
) -> Statistics:
    """Learn the statistics that the pipeline's rules need, from its training split and nothing else.

    Raises what :func:`run` raises, and ``UsageError`` where the pipeline does not say which split to learn from.
    """
    loaded = _loaded(pipeline)
    split = _split_to_fit(loaded)
    loaded = replace(loaded, inputs={split: loaded.inputs[split]})
    load_libraries(loaded.schema)
    inputs = find_inputs(loaded, workers, executor)
    for item in inputs:
        if item.error is not None:
            raise item.error
    repeated = find_duplicates(inputs, loaded.schema, workers, executor, progress or NullProgress())
    return learn(
        inputs,
        loaded.plan,
        loaded.schema,
        repeated,
        workers,
        executor,
        progress or NullProgress(),
        skip_unreadable=False,
    )


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
    """Clean data with statistics that were learned before; nothing is learned from it.

    Args:
        pipeline: the pipeline whose schema, rules and output format hold.
        statistics: what :func:`fit` learned for the same rules, or the path of its file.
        paths: the files to clean, as the split ``split``; the pipeline's own inputs unless given.
        output: the folder to write; the pipeline's own unless given.
        split: the name of the folder in the output that ``paths`` go to.
        workers, executor, progress, overwrite: as for :func:`run`.

    Raises:
        CleaningError: the statistics are broken, or were learned for other rules.
    """
    loaded = _loaded(pipeline)
    if paths is not None:
        if problem := split_problem(split):
            raise UsageError(f"split: {problem}")
        listed = (paths,) if isinstance(paths, str | os.PathLike) else tuple(paths)
        loaded = replace(loaded, inputs={split: tuple(os.fspath(path) for path in listed)})
    if output is not None:
        loaded = replace(loaded, output=output_uri(output))
    learned = statistics if isinstance(statistics, Statistics) else _read_statistics(statistics)
    learned.check_plan(loaded.plan)
    return _run(loaded, learned, workers, executor, progress or NullProgress(), overwrite)


def _loaded(pipeline: PipelineLike) -> Pipeline:
    return pipeline if isinstance(pipeline, Pipeline) else load_pipeline(pipeline)


def _read_statistics(path: str | os.PathLike[str]) -> Statistics:
    place = plain(os.fspath(path))
    try:
        return Statistics.from_json(Path(path).read_bytes(), place)
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}; learn them with 'datacheck fit'") from None


def _split_to_fit(pipeline: Pipeline) -> str:
    if pipeline.fit is None:
        raise UsageError(
            f"{pipeline.file}: fit: say which split to learn from, such as 'fit: {next(iter(pipeline.inputs))}'"
        )
    return pipeline.fit


def _run(
    pipeline: Pipeline,
    statistics: Statistics | None,
    workers: int | None,
    executor: ExecutorLike,
    progress: Progress,
    overwrite: bool,
) -> RunReport:
    started = time.perf_counter()
    load_libraries(pipeline.schema)
    inputs = find_inputs(pipeline, workers, executor)
    given = [path for paths in pipeline.inputs.values() if isinstance(paths, tuple) for path in paths]
    folders = [path for path in given if Path(path).is_dir()]
    check_output_outside_inputs(pipeline.output, [*folders, *(path for item in inputs for path in item.paths)])
    fingerprint = fingerprint_of(pipeline, inputs, "" if statistics is None else statistics.to_json())
    found = find_output(pipeline.output, fingerprint, overwrite=overwrite)
    if found is not None and found.is_current:
        clear_leftovers(pipeline.output, fingerprint)
        report = RunReport.from_manifest(found.manifest, pipeline.output)
        return replace(report, seconds=time.perf_counter() - started)
    for format_ in {item.format(pipeline.format) for item in inputs}:
        get_sink(format_, pipeline.format_options)
    fields = bind_to(inputs, pipeline.plan, pipeline.schema)
    is_new = not storage_of(pipeline.output).exists(pipeline.output)
    try:
        with StagingArea(pipeline.output) as staging:
            # Another run may have finished between the check above and the lock.
            found = find_output(pipeline.output, fingerprint, overwrite=overwrite)
            if found is not None and found.is_current:
                staging.clear()
                report = RunReport.from_manifest(found.manifest, pipeline.output)
                return replace(report, seconds=time.perf_counter() - started)
            publisher = Publisher(staging, fingerprint, found.manifest if found else None)
            try:
                publisher.check_folders(pipeline.inputs)
                report = _work(pipeline, inputs, fields, statistics, publisher, workers, executor, progress)
            except BaseException:
                if publisher.is_empty:
                    publisher.abandon()
                raise
    finally:
        if is_new:
            storage_of(pipeline.output).delete_empty_folder(pipeline.output)
    return replace(report, seconds=time.perf_counter() - started)


def _work(
    pipeline: Pipeline,
    inputs: Sequence[Input],
    fields: Mapping[str | None, str],
    statistics: Statistics | None,
    publisher: Publisher,
    workers: int | None,
    executor: ExecutorLike,
    progress: Progress,
) -> RunReport:
    schema = pipeline.schema
    repeated = find_duplicates(inputs, schema, workers, executor, progress)
    if statistics is None:
        statistics = _learned(pipeline, inputs, repeated, publisher, workers, executor, progress)
    formats = {item.uri: item.format(pipeline.format) for item in inputs}
    tasks = [task for item in inputs for task in tasks_of(item, formats[item.uri], repeated)]
    done = read_finished(publisher.staging.finished_units(), tasks, publisher.has_part)
    cleaning = Cleaning(schema, pipeline.plan, fields, statistics, publisher.parts, pipeline.format_options)
    left = [task for task in tasks if task.name not in done]
    progress.start("clean", len(tasks), sum(item.info.num_bytes for item in inputs if item.info is not None))
    accounts: list[InputAccount] = []
    findings: list[Finding] = []
    with closing(map_in_order(partial(clean_unit, cleaning=cleaning), left, workers, executor)) as results:
        for item in inputs:
            units: list[tuple[UnitTask, UnitResult]] = []
            scanned = FileScan(item.uri, schema)
            scanned.error = item.error
            failed = _failed_by(item.error, pipeline.plan)
            for task in tasks_of(item, formats[item.uri], repeated):
                record = done.get(task.name)
                if record is None:
                    record = next(results)
                    if record.error is None and not record.failed:
                        publisher.record(record.name, to_json(record))
                scanned.add(record.scan)
                failed = record.failed or _failed_by(record.error, pipeline.plan)
                if failed:
                    break
                units.append((task, record))
                progress.advance(1, record.num_read, unit_bytes(task.unit, item.info) if item.info else 0)
            if failed:
                results.close()
                publisher.abandon()
                findings += scanned.findings()
                report = _report(pipeline, accounts, findings, inputs[: len(accounts) + 1])
                return replace(report, num_rows=report.num_rows + scanned.num_rows, accounts=(), failed=failed)
            found = scanned.findings()
            findings += found
            findings += _duplicate_findings(item.uri, repeated, scanned.num_rows)
            if scanned.error is not None:
                for _, record in units:
                    if record.error is None:
                        publisher.discard(record.name, record.parts)
                accounts.append(InputAccount(item.split, item.uri, "unreadable", item.files))
                continue
            written = [_written(task, record) for task, record in units]
            is_aligned = item.files is not None
            outputs = publisher.plan_output(item.split, item.uri, written, formats[item.uri], is_aligned=is_aligned)
            accounts.append(_account(item, units, outputs, _left_in(found, pipeline.plan)))
    if not any(account.status == "cleaned" for account in accounts):
        publisher.abandon()
        return _report(pipeline, accounts, findings, inputs)
    report = _report(pipeline, accounts, findings, inputs)
    record_of_schema = schema.model_dump(mode="json", exclude_defaults=True)
    has_learned = bool(statistics and statistics.learned)
    manifest = report.to_manifest(publisher.fingerprint, record_of_schema, STATISTICS_NAME if has_learned else None)
    publisher.publish(manifest, statistics.to_json() if has_learned and statistics else None)
    return report


def _learned(
    pipeline: Pipeline,
    inputs: Sequence[Input],
    repeated: Repeated,
    publisher: Publisher,
    workers: int | None,
    executor: ExecutorLike,
    progress: Progress,
) -> Statistics | None:
    """The statistics of this run: those that it learned before it was killed, or new ones; None where no rule needs any."""
    if not any(is_learned(rule) for rule in pipeline.plan.rules):
        return None
    if (saved := publisher.saved_statistics()) is not None:
        with suppress(CleaningError):
            return Statistics.from_json(saved)
    split = _split_to_fit(pipeline)
    train = [item for item in inputs if item.split == split]
    if all(item.error is not None for item in train):
        raise CleaningError(
            f"no input of the split {split!r} can be read, so there is nothing to learn: {train[0].error}"
        )
    statistics = learn(
        train, pipeline.plan, pipeline.schema, repeated, workers, executor, progress, skip_unreadable=True
    )
    publisher.save_statistics(statistics.to_json())
    return statistics


def _left_in(findings: Iterable[Finding], plan: CleaningPlan) -> dict[str, int]:
    """The faults of a whole file (a field that is missing, say) that a ``report`` rule leaves as they are."""
    return {
        finding.code: 1
        for finding in findings
        if finding.is_error
        and CODES[finding.code].level == "file"
        and plan.decide(finding.field, finding.code) is Action.REPORT
    }


def _failed_by(error: SourceError | None, plan: CleaningPlan) -> dict[str, int]:
    """The code of an input that cannot be read, where a rule says that the run is then to fail."""
    return {error.code: 1} if error is not None and plan.decide(None, error.code) is Action.FAIL else {}


def _written(task: UnitTask, record: UnitResult) -> WrittenUnit:
    return WrittenUnit(
        task.unit.row_start,
        record.num_read,
        record.num_kept,
        record.num_dropped,
        record.num_quarantined,
        record.parts,
        record.arrays,
    )


def _account(
    item: Input,
    units: Sequence[tuple[UnitTask, UnitResult]],
    outputs: list[dict[str, Any]],
    left_in_file: Mapping[str, int],
) -> InputAccount:
    records_ = [record for _, record in units]
    return InputAccount(
        item.split,
        item.uri,
        "cleaned",
        item.files,
        fingerprints(item),
        sum(record.num_read for record in records_),
        sum(record.num_kept for record in records_),
        sum(record.num_dropped for record in records_),
        sum(record.num_quarantined for record in records_),
        sum_counts([record.removed_by_code for record in records_]),
        RepairTotal.add(total for record in records_ for total in record.repairs),
        {**left_in_file, **sum_counts([record.left for record in records_])},
        outputs,
    )


def _duplicate_findings(uri: str, repeated: Repeated, num_rows: int) -> list[Finding]:
    return [
        Finding(DUPLICATE_ROW, uri, key, len(rows), num_rows, tuple(Example(int(row)) for row in rows[:MAX_EXAMPLES]))
        for key, rows in repeated.get(uri, ())
    ]


def _report(
    pipeline: Pipeline, accounts: Sequence[InputAccount], findings: Sequence[Finding], inputs: Sequence[Input]
) -> RunReport:
    return RunReport(
        tuple(findings),
        len(inputs),
        sum(account.num_read for account in accounts),
        sum(item.info.num_bytes for item in inputs if item.info is not None),
        name=pipeline.name,
        output=pipeline.output,
        accounts=tuple(accounts),
    )
