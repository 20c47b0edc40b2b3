"""Taking fixed rows back from quarantine: checked and cleaned as the run did, and accounted for."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from datacheck.checks.checker import load_libraries
from datacheck.checks.coerce import coerce_batch
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import leaf_dtypes
from datacheck.codes import DUPLICATE_ROW
from datacheck.errors import FindingsError, OutputError, UsageError
from datacheck.findings import Finding
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.isolated import Isolated
from datacheck.jobs.identify import settings_of
from datacheck.jobs.inputs import Input, find_duplicates, tasks_of
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.progress import ProgressLike, following
from datacheck.jobs.requeue_amendment import Amendment, removed_rows
from datacheck.jobs.requeue_rows import FixedRows, read_fixed, read_quarantined
from datacheck.jobs.requeue_rules import StagedRows, judge_with, published_inputs
from datacheck.jobs.requeue_samples import FixedSample, Given, sort_given
from datacheck.jobs.run import PipelineLike, loaded_pipeline
from datacheck.jobs.units.plan import Fields, UnitPlan
from datacheck.jobs.units.process import lost_unit, process_unit
from datacheck.jobs.units.result import UnitResult
from datacheck.jobs.units.scan import lost_error
from datacheck.publishing.amend import finish_amendment, is_planned
from datacheck.publishing.manifest import (
    STATISTICS_NAME,
    damage_of,
    identity_of,
    read_manifest,
    report_of,
)
from datacheck.publishing.output_names import ROWS, kind_of
from datacheck.publishing.publisher import read_state
from datacheck.publishing.resume import clear_leftovers
from datacheck.publishing.staging import STAGING_NAME, StagingArea
from datacheck.reports.run_report import RunReport
from datacheck.reports.text import errors_text, finding_lines
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Schema
from datacheck.sources.base import InputInfo, WorkUnit
from datacheck.sources.detect import get_source
from datacheck.storage import read_bytes, storage_of
from datacheck.storage.base import Fingerprint
from datacheck.text import plain, quantity

#: What must be as it was in the run: the rows are judged by it.
_SETTINGS = ("schema", "rules", "otherwise", "format", "options")


@dataclass(frozen=True, slots=True)
class RequeueReport:
    """What became of rows that were fixed.

    ``num_given = num_kept + num_dropped + num_quarantined``, of which ``num_samples`` are files that are one sample each;
    ``findings`` are what was found in them. ``run`` is the report on the output as it is now, in which read = kept + dropped +
    quarantined.
    """

    num_given: int
    num_kept: int
    num_dropped: int
    num_quarantined: int
    findings: tuple[Finding, ...]
    run: RunReport
    num_samples: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all rows were taken back or dropped by a rule, and the output has no violation."""
        return not self.num_quarantined and self.run.ok

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "ok": self.ok,
            "num_given": self.num_given,
            "num_samples": self.num_samples,
            "num_kept": self.num_kept,
            "num_dropped": self.num_dropped,
            "num_quarantined": self.num_quarantined,
            "findings": [finding.to_dict() for finding in self.findings],
            "run": self.run.to_dict(),
        }

    def __str__(self) -> str:
        lines = list(finding_lines(self.findings))
        left = f", {self.num_quarantined:,} still in quarantine" if self.num_quarantined else ""
        dropped = f", {self.num_dropped:,} dropped by a rule" if self.num_dropped else ""
        given = quantity(self.num_given, "fixed file" if self.num_samples == self.num_given else "fixed row")
        counts = self.run.totals()
        placed = " + ".join(f"{counts[f'num_{name}']:,} {name}" for name in ("kept", "dropped", "quarantined"))
        lines.append(f"{given}: {self.num_kept:,} taken back{dropped}{left} ({self.seconds:.2f} s)")
        lines.append(f"{plain(self.run.output)}: {counts['num_read']:,} read = {placed}")
        return "\n".join(lines)


def requeue(
    pipeline: PipelineLike, fixed: Any, *, workers: int | None = None, progress: ProgressLike = None
) -> RequeueReport:
    """Take fixed rows out of the quarantine of a pipeline's output.

    The rows are checked and cleaned as the run did, with the statistics that it learned. Those that pass become files of their
    own in the folder of their split; the others stay in quarantine as they were. All of it is published at once: a call that is
    killed is finished by the next one, or has changed nothing.

    Args:
        pipeline: the pipeline whose output it is.
        fixed: paths of tables (Parquet, Arrow or CSV), or a frame or table in memory, of quarantined rows with new
            values; an array is a column of lists. Their columns ``file`` and ``row`` say which rows they are; rows that are
            left out stay in quarantine. Or paths of fixed files that are one sample each, or of folders of them: they have the
            names that they had, or are the fixed inputs themselves. Or tar shards of fixed samples, which have their keys.
        workers: the number of files to read at a time.
        progress: True for a progress bar on stderr, or what is called as work is done.

    Raises:
        UsageError: nothing is published, a row is not in its quarantine, or a table has other columns.
        OutputError: the output is another pipeline's, or cannot be changed.
        FindingsError: a ``fail`` rule applies to a row.
    """
    started = time.perf_counter()
    loaded = loaded_pipeline(pipeline)
    load_libraries(loaded.schema)
    finish_amendment(loaded.output)
    manifest, _ = _manifest_of(loaded, fixed)
    with following(progress) as follower:
        execution = Execution(workers, progress=follower)
        clear_leftovers(loaded.output, manifest["fingerprint"])
        _check_no_other_run(loaded.output)
        with StagingArea(loaded.output) as staging:
            try:
                # Another process may have changed the output before the lock was ours.
                report = _requeue(loaded, *_manifest_of(loaded, fixed), execution, staging)
            except BaseException:
                if not is_planned(staging) and staging.storage.exists(staging.folder):
                    staging.clear()
                raise
    return replace(report, seconds=time.perf_counter() - started)


def _manifest_of(pipeline: Pipeline, fixed: Any) -> tuple[dict[str, Any], Given]:
    """The manifest of the output, if it is this pipeline's and whole, and what is given for it."""
    output = pipeline.output
    manifest = read_manifest(output)
    if manifest is None:
        raise UsageError(f"{plain(output)}: nothing is published there; run 'datacheck run {pipeline.file}' first")
    identity = identity_of(manifest)
    settings = settings_of(pipeline, "")
    other = [name for name in _SETTINGS if identity is None or identity.settings.get(name) != settings[name]]
    if other:
        raise OutputError(
            f"{plain(output)}: was written with other settings ({', '.join(other)}) than {pipeline.file} has; rows are taken"
            " back by the rules that put them in quarantine"
        )
    report_of(manifest, output)
    given = sort_given(fixed, pipeline, manifest)
    if damage := damage_of(output, manifest, given.replaced):
        raise OutputError(
            f"{damage}: files of an output must stay as they are; restore it, and save fixed rows to a separate file"
        )
    return manifest, given


def _check_no_other_run(output: str) -> None:
    if storage_of(output).exists(f"{output}/{STAGING_NAME}") and read_state(f"{output}/{STAGING_NAME}").identity:
        raise OutputError(
            f"{plain(output)}: an interrupted run left its work there; finish it with 'datacheck run' first"
        )


def _requeue(
    pipeline: Pipeline,
    manifest: dict[str, Any],
    fixed: Given,
    execution: Execution,
    staging: StagingArea,
) -> RequeueReport:
    quarantined = read_quarantined(pipeline.output, manifest)
    tables = [] if fixed.tables is None else read_fixed(fixed.tables, quarantined, pipeline, manifest)
    given: list[FixedRows | FixedSample] = [*tables, *fixed.samples]
    number = int(manifest.get("requeues", 0)) + 1
    results = list(_process(pipeline, manifest, given, execution, staging))
    failed = Counter[str]()
    for result in results:
        if result.failure is not None:
            raise result.failure
        if result.error is not None:
            raise result.error
        failed.update(result.failed)
    findings = tuple(one for result in results for one in result.scan.findings if one.num_violations)
    if failed:
        errors = [one for one in findings if one.code in failed]
        raise FindingsError(f"a fail rule applies; nothing was changed\n{errors_text(errors)}", None)
    staged = {rows.account: _staged(staging, rows, result) for rows, result in zip(given, results, strict=True)}
    judgement = judge_with(pipeline, manifest, staged)
    changed = Amendment(staging, manifest, number)
    for rows, result in zip(tables, results, strict=False):
        changed.add(rows, result, quarantined[rows.account])
    changed.add_samples(fixed.samples, results[len(tables) :])
    judgement.apply(changed.manifest)
    changed.publish()
    findings += judgement.findings
    run = report_of(changed.manifest, pipeline.output)
    num_kept, num_dropped, num_left = (
        sum(getattr(result, name) for result in results) for name in ("num_kept", "num_dropped", "num_quarantined")
    )
    num_given = sum(len(rows.rows) for rows in given)
    return RequeueReport(num_given, num_kept, num_dropped, num_left, findings, run, len(fixed.samples))


def _staged(staging: StagingArea, rows: FixedRows | FixedSample, result: UnitResult) -> StagedRows:
    removed = removed_rows(staging, result)
    kept = np.array([row not in removed for row in rows.rows.tolist()], np.bool_)
    parts = [f"{staging.parts}/{part}" for part in result.parts if kind_of(part) == ROWS]
    return StagedRows(tuple(parts), tuple(result.arrays) if len(parts) > 1 else (), rows.rows[kept])


def _process(
    pipeline: Pipeline,
    manifest: Mapping[str, Any],
    given: Sequence[FixedRows | FixedSample],
    execution: Execution,
    staging: StagingArea,
) -> Iterator[UnitResult]:
    """Clean the rows of each input, and write those that are kept to the staging area."""
    statistics = None
    if manifest["statistics"] is not None:
        uri = f"{pipeline.output}/{STATISTICS_NAME}"
        statistics = Statistics.from_json(read_bytes(uri), plain(uri))
    inputs = [_input(rows, manifest["inputs"][rows.account]) for rows in given]
    of_samples = _fields_of_samples(inputs, pipeline, manifest)
    published = []
    if unique_keys(pipeline.schema):
        published = [item for account in manifest["inputs"] for item, _ in published_inputs(pipeline, account)]
    duplicates = find_duplicates([*published, *inputs], pipeline.schema, execution)
    execution.progress.start("requeue", len(inputs), 0)
    for rows, item in zip(given, inputs, strict=True):
        fields = of_samples if isinstance(rows, FixedSample) else leaf_dtypes(rows.batch)
        plan = UnitPlan(
            pipeline.schema, pipeline.plan, fields, statistics, staging.parts, dict(pipeline.format_options)
        )
        format_ = item.format(pipeline.format) if isinstance(rows, FixedSample) else rows.format
        (task,) = tasks_of(item, format_, duplicates)
        result = Isolated(partial(process_unit, plan=plan), lost_unit)(task)
        execution.progress.advance(1, result.num_read, 0)
        repeated = duplicates.get(item.uri, ())
        found = [Finding(DUPLICATE_ROW, item.uri, key, len(places), len(rows.rows)) for key, places in repeated]
        result.scan = replace(result.scan, findings=(*result.scan.findings, *found))
        yield result


def _fields_of_samples(inputs: Sequence[Input], pipeline: Pipeline, manifest: Mapping[str, Any]) -> Fields:
    """The fields of samples that are given or published. A rule may name a field that some of them lack."""
    given = [item for item in inputs if item.sample_name]
    accounts = [account for account in manifest["inputs"] if given and account["rows"] == "file"]
    published = (item for account in accounts for item, _ in published_inputs(pipeline, account))
    fields: dict[str | None, str] = {}
    for item in [*itertools.islice(published, 1), *given]:
        assert item.info is not None
        fields |= Isolated(partial(_fields_of, schema=pipeline.schema), _lost)(item.info.units[0])
    return fields


def _fields_of(unit: WorkUnit, schema: Schema) -> dict[str | None, str]:
    first = next(get_source(unit.format).read(unit), None)
    return {} if first is None else leaf_dtypes(coerce_batch(first, schema))


def _lost(unit: WorkUnit) -> dict[str | None, str]:
    raise lost_error(unit.uri)


def _input(rows: FixedRows | FixedSample, account: Mapping[str, Any]) -> Input:
    if isinstance(rows, FixedSample):
        return rows.item
    uri = str(account["uri"])
    # It has only some of the input's rows, which a number of rows would bound.
    unit = WorkUnit(uri, "memory", 0, Fingerprint(0), data=rows.batch)
    info = InputInfo(uri, "memory", 0, rows.batch.num_rows, (unit,))
    return Input(str(account["split"]), uri, info=info, identity=uri)
