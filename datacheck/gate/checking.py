"""Checking files as the configuration says: each with its schema, against the cache and the baseline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from datacheck.errors import UsageError
from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.gate.baseline import Baseline, CheckedFiles, Comparison, load_baseline
from datacheck.gate.cache import Cache
from datacheck.gate.configuration import Configuration, configure
from datacheck.gate.patterns import PathPatterns
from datacheck.gate.scanning import ChangedScan, scan_changed
from datacheck.gate.selection import select
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.sample_files import require_rows
from datacheck.reports.gate_report import GateReport
from datacheck.schema.loading import load_schema
from datacheck.schema.tolerances import TolerancesByField, apply_tolerances
from datacheck.sources.discover import InputFile, Inputs, discover, skipped_findings
from datacheck.sources.indexes import check_indexes
from datacheck.storage import storage_of

__all__ = ["PathsLike", "check", "exclude_patterns", "schema_chooser", "update_baseline"]

PathsLike = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None

_POINTER_SUFFIX = ".dvc"


def check(
    paths: PathsLike = None,
    *,
    configuration: Configuration | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    **settings: Any,
) -> GateReport:
    """Check files as the configuration of the current folder says. This is what ``datacheck scan`` does.

    Args:
        paths: files, folders or globs. Default: ``paths`` of the configuration.
        configuration: a complete configuration. Default: ``settings``, then the environment, then the nearest
            configuration file.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: receives rows and bytes as units of work finish.
        settings: settings that override the environment and the file, such as ``schema="schemas/flights.yaml"``,
            ``ignore=["DC104"]`` or ``cache=False``. Write ``_`` for the dashes in their names.

    Returns:
        The report. It is ``ok`` if every error is in the baseline.

    Raises:
        UsageError: a path matches nothing, or both ``configuration`` and ``settings`` were given.
        ConfigurationError: the configuration, a schema or the baseline is wrong.
    """
    started = time.perf_counter()
    if configuration is None:
        given = {name.replace("_", "-"): value for name, value in settings.items()}
        configuration = configure(given, place_of="check({}=)".format)
    elif settings:
        raise UsageError(f"give either a configuration or settings, not both: {', '.join(sorted(settings))}")
    scan = _scan(paths, configuration, executor, progress or NullProgress())
    selected = select(scan.findings, configuration.settings)
    comparison, baseline = Comparison(selected.findings), configuration.baseline
    if baseline is not None:
        comparison = load_baseline(baseline).compare(selected.findings, scan.checked)
    return GateReport(
        comparison.new,
        num_files=len(scan.checked.uris),
        num_rows=scan.num_rows,
        num_bytes=scan.num_bytes,
        seconds=time.perf_counter() - started,
        known=comparison.known,
        fixed=comparison.fixed,
        baseline=baseline,
        num_ignored=selected.num_ignored,
        num_unchanged=scan.num_unchanged,
    )


def update_baseline(
    paths: PathsLike, configuration: Configuration, name: str, *, progress: Progress | None = None
) -> Baseline:
    """The baseline in the file ``name``, updated with what is found now. The file itself is not written."""
    scan = _scan(paths, configuration, "threads", progress or NullProgress())
    selected = select(scan.findings, configuration.settings)
    return load_baseline(name, must_exist=False).updated(selected.findings, scan.checked)


@dataclass(frozen=True, slots=True)
class _Scan:
    """Everything that was found, before settings and baseline apply."""

    checked: CheckedFiles
    num_rows: int
    num_bytes: int
    num_unchanged: int

    @property
    def findings(self) -> Sequence[Finding]:
        return self.checked.findings


def _scan(paths: PathsLike, configuration: Configuration, executor: ExecutorLike, progress: Progress) -> _Scan:
    roots = _roots(paths, configuration)
    excluded = exclude_patterns(configuration)
    inputs = _without_excluded(discover(roots, configuration.settings.read_options), excluded)
    files = inputs.files
    scans = _scan_by_schema(files, configuration, executor, progress)
    verdicts = {verdict.uri: verdict for scan in scans for verdict in scan.verdicts}
    findings = [
        *(finding for file in files for finding in verdicts[file.uri].findings),
        *(finding for scan in scans for finding in scan.cross_file),
        *(finding for finding in check_indexes(inputs) if not excluded.match(finding.uri)),
        *skipped_findings(inputs),
    ]
    if configuration.settings.notes:
        findings += _notes(files, configuration, executor, progress)
    return _Scan(
        CheckedFiles([file.uri for file in files], roots, findings, _content_hash),
        sum(verdict.num_rows for scan in scans for verdict in scan.verdicts),
        sum(verdict.num_bytes for scan in scans for verdict in scan.verdicts),
        sum(scan.num_unchanged for scan in scans),
    )


def _notes(
    files: Sequence[InputFile], configuration: Configuration, executor: ExecutorLike, progress: Progress
) -> Iterable[Finding]:
    """What looks wrong and no rule forbids, from a pass of its own over the files of each schema."""
    from datacheck.jobs.execution import Execution
    from datacheck.jobs.scan import text_dtypes
    from datacheck.profile.notes.find import notes_of_files

    execution = Execution(configuration.settings.workers, executor, progress)
    for reference, group in _by_schema(files, configuration).items():
        schema = load_schema(reference)
        dtypes = text_dtypes(schema)
        typed = [replace(file, options=replace(file.options, dtypes=file.options.dtypes or dtypes)) for file in group]
        yield from notes_of_files(typed, schema, execution)


def _by_schema(files: Sequence[InputFile], configuration: Configuration) -> dict[str | None, list[InputFile]]:
    """The files of each schema."""
    choose_schema = schema_chooser(configuration)
    by_schema: dict[str | None, list[InputFile]] = {}
    for file in files:
        by_schema.setdefault(choose_schema(file.uri), []).append(file)
    return by_schema


def _without_excluded(inputs: Inputs, excluded: PathPatterns) -> Inputs:
    skipped = {root: [path for path in paths if not excluded.match(path)] for root, paths in inputs.skipped.items()}
    return replace(
        inputs,
        files=[file for file in inputs.files if not excluded.match(file.uri)],
        skipped={root: paths for root, paths in skipped.items() if paths},
    )


def _scan_by_schema(
    files: Sequence[InputFile], configuration: Configuration, executor: ExecutorLike, progress: Progress
) -> list[ChangedScan]:
    """One scan per schema: its files are one dataset, and unique keys are unique over all of them."""
    settings = configuration.settings
    by_schema = _by_schema(files, configuration)
    schemas = {reference: load_schema(reference) for reference in by_schema}
    for reference, group in by_schema.items():
        require_rows(group, schemas[reference])
    with Cache(settings.cache_dir) if settings.cache else nullcontext() as cache:
        scans = {
            reference: scan_changed(
                group, schemas[reference], cache, workers=settings.workers, executor=executor, progress=progress
            )
            for reference, group in by_schema.items()
        }
    return [_tolerant(scan, schemas[reference].tolerances) for reference, scan in scans.items()]


def _tolerant(scan: ChangedScan, tolerances: TolerancesByField) -> ChangedScan:
    """The scan, whose findings within the tolerances of its schema are notes."""
    if not tolerances:
        return scan
    verdicts = [
        replace(verdict, findings=tuple(apply_tolerances(verdict.findings, tolerances))) for verdict in scan.verdicts
    ]
    return replace(scan, verdicts=verdicts, cross_file=tuple(apply_tolerances(scan.cross_file, tolerances)))


def _roots(paths: PathsLike, configuration: Configuration) -> list[str]:
    """The paths to check, as given or configured."""
    given: Iterable[str | os.PathLike[str]] = [paths] if isinstance(paths, str | os.PathLike) else paths or ()
    roots = [os.fspath(path) for path in given] or list(configuration.settings.paths)
    if not roots:
        raise UsageError("nothing to check: name files or folders, or set 'paths' in the configuration")
    return [_resolve_pointer(path) for path in roots]


def _resolve_pointer(path: str) -> str:
    """The data file of a DVC pointer; git tracks only the pointer."""
    data = path.removesuffix(_POINTER_SUFFIX)
    return data if path.endswith(_POINTER_SUFFIX) and format_of_name(data) else path


def schema_chooser(configuration: Configuration) -> Callable[[str], str | None]:
    """A function from a file to its schema: that of the first matching pattern, or else the default one."""
    settings = configuration.settings
    by_pattern = [(PathPatterns([pattern], configuration.root), schema) for pattern, schema in settings.schemas.items()]

    def choose(uri: str) -> str | None:
        return next((schema for patterns, schema in by_pattern if patterns.match(uri)), settings.schema_)

    return choose


def exclude_patterns(configuration: Configuration) -> PathPatterns:
    """The patterns of excluded files."""
    return PathPatterns(configuration.settings.exclude, configuration.exclude_root)


def _content_hash(uri: str) -> str | None:
    try:
        return storage_of(uri).content_hash(uri)
    except OSError:
        return None
