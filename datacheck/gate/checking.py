"""Checking files as the configuration says: each with its schema, against the cache and the baseline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from datacheck.errors import ShardFinished, UsageError
from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.gate.baseline import Baseline, CheckedFiles, Comparison, load_baseline
from datacheck.gate.cache import Cache
from datacheck.gate.configuration import Configuration, configure
from datacheck.gate.patterns import PathPatterns
from datacheck.gate.scanning import ChangedScan, scan_changed
from datacheck.gate.selection import select
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import NullProgress, Progress, ProgressLike, following
from datacheck.jobs.sample_files import require_rows
from datacheck.reports.gate_report import GateReport
from datacheck.reports.report import Report
from datacheck.schema.loading import SchemaLike
from datacheck.schema.model import Schema
from datacheck.schema.tolerances import TolerancesByField, apply_tolerances
from datacheck.sources.annotations import with_labels
from datacheck.sources.base import ReadOptions
from datacheck.sources.discover import InputFile, Inputs, common_folder, discover
from datacheck.sources.indexes import check_folders
from datacheck.storage import storage_of
from datacheck.storage.documents import load_schema
from datacheck.text import join_limited, quantity

if TYPE_CHECKING:
    from datacheck.jobs.sampling import Sample


PathsLike = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None

_POINTER_SUFFIX = ".dvc"
#: Formats in which reading some columns is far cheaper than reading all.
_COLUMN_FORMATS = ("parquet", "arrow", "orc")


def scan(
    data: Any = None,
    schema: SchemaLike = None,
    *,
    configuration: Configuration | str | os.PathLike[str] | bool = False,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
    options: ReadOptions | None = None,
    sample: str | float | None = None,
) -> Report:
    """Check data: against ``schema``, or as a configuration says.

    Args:
        data: a path, folder or glob, or a list of them; or data in memory: a NumPy array whose first axis is the rows, a
            mapping of arrays, an Arrow table, a pandas or polars DataFrame or Series, a Hugging Face dataset or its splits, a
            torch tensor or a mapping of tensors.
        schema: a schema, the path of a YAML schema, ``package.module:Model``, or a pandera schema or model. None checks
            that no floating-point or complex value is NaN or infinite, and that no number and no boolean is null.
        configuration: True for what the command ``datacheck scan`` does, with the nearest configuration file: schemas by path,
            ignored codes, cache, baseline. The path of such a file, or a loaded configuration. ``data`` is then paths, by
            default the configuration's. By default no configuration is read.
        workers: the number of units processed at a time; one per available processor, up to 16, by default.
        executor: ``"threads"``, ``"processes"``, a ``concurrent.futures.Executor``, or one for shards or Ray.
        progress: True for a progress bar on stderr, or what is called as units finish.
        options: how to read the files.
        sample: a share of files to look at, such as ``"1%"`` or ``0.01``, for a first look at what is too large. Which units of
            work it has depends on the files alone. Unique keys and rules about the dataset are not judged, and the report says
            so. None: everything.

    Returns:
        The report. An input that cannot be read is a finding; the others are checked.

    Raises:
        UsageError: a path matches no file, the data is of an unsupported type, or ``sample`` is not a share.
        SchemaError, ConfigurationError: the schema or the configuration is invalid.
    """
    if configuration is False or configuration is None:
        from datacheck.jobs.scan import scan as scan_data

        return scan_data(
            data, schema, workers=workers, executor=executor, progress=progress, options=options, sample=sample
        )
    if options is not None:
        raise UsageError("options: with a configuration, say how files are read under 'reading' there")
    given = {"schema": schema, "workers": workers}
    if isinstance(configuration, Configuration):
        if any(value is not None for value in given.values()):
            raise UsageError("give either a loaded configuration, or schema and workers")
        configured = configuration
    else:
        file = None if configuration is True else configuration
        configured = configure(given, config=file, place_of="scan({}=)".format)
    return check(data, configuration=configured, executor=executor, progress=progress, sample=sample)


def check(
    paths: PathsLike = None,
    *,
    configuration: Configuration | None = None,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
    sample: str | float | None = None,
    **settings: Any,
) -> GateReport:
    """Check files as the configuration of the current folder says: ``scan(paths, configuration=True)``, and any setting.

    Args:
        paths: files, folders or globs. Default: ``paths`` of the configuration.
        configuration: a complete configuration. Default: ``settings``, then the environment, then the nearest
            configuration file.
        executor: ``"threads"``, ``"processes"``, a ``concurrent.futures.Executor``, or one for shards or Ray.
        progress: True for a progress bar on stderr, or what receives rows and bytes as units of work finish.
        sample: a share of the files to look at, as of ``datacheck.scan``. Nothing of it is cached.
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
    chosen = None if sample is None else _sample(sample, configuration)
    with following(progress) as follower:
        scan = _scan(paths, configuration, executor, follower, chosen)
    selected = select(scan.findings, configuration.settings)
    comparison, baseline = Comparison(selected.findings), configuration.baseline
    if baseline is not None:
        comparison = load_baseline(baseline).compare(selected.findings, scan.checked)
    return GateReport(
        comparison.new,
        num_files=len(scan.checked.uris) if chosen is None else scan.num_files,
        num_rows=scan.num_rows,
        num_bytes=scan.num_bytes,
        seconds=time.perf_counter() - started,
        known=comparison.known,
        # What was not looked at is not fixed.
        fixed=comparison.fixed if chosen is None else (),
        baseline=baseline,
        num_ignored=selected.num_ignored,
        num_unchanged=scan.num_unchanged,
        sample="" if chosen is None else chosen.summary(),
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
    num_files: int

    @property
    def findings(self) -> Sequence[Finding]:
        return self.checked.findings


def _sample(share: str | float, configuration: Configuration) -> Sample:
    from datacheck.jobs.sampling import Sample, parse_share

    if configuration.settings.notes:
        raise UsageError("--notes reads everything, and --sample a part: leave one of them out")
    return Sample(parse_share(share))


def _scan(
    paths: PathsLike,
    configuration: Configuration,
    executor: ExecutorLike,
    progress: Progress,
    sample: Sample | None = None,
) -> _Scan:
    roots = _roots(paths, configuration)
    excluded = exclude_patterns(configuration)
    discovered = discover(roots, configuration.settings.read_options)
    inputs = with_labels(_without_excluded(discovered, excluded), excluded.match)
    files = inputs.files
    execution = Execution(configuration.settings.workers, executor, progress)
    by_schema = _by_schema(files, configuration)
    schemas = {reference: load_schema(reference) for reference in by_schema}
    share = None if sample is None else sample.share
    with execution.job("scan", [roots, configuration.settings.read_options, list(schemas.values()), share]):
        scans, notes = _scan_and_note(by_schema, schemas, configuration, execution, sample)
    verdicts = {verdict.uri: verdict for scan in scans for verdict in scan.verdicts}
    findings = [
        *(finding for file in files if file.uri in verdicts for finding in verdicts[file.uri].findings),
        *(finding for scan in scans for finding in scan.cross_file),
        # What was not checked is a note on the folder, from which excluded files are gone.
        *(one for one in check_folders(inputs) if one.code == "DC913" or not excluded.match(one.uri)),
        *(sample.findings(common_folder([file.uri for file in files])) if sample is not None and files else ()),
        *(() if files else _notes_on_excluded([file.uri for file in discovered.files], excluded)),
    ]
    findings += notes
    return _Scan(
        CheckedFiles([file.uri for file in files], roots, findings, _content_hash),
        sum(verdict.num_rows for scan in scans for verdict in scan.verdicts),
        sum(verdict.num_bytes for scan in scans for verdict in scan.verdicts),
        sum(scan.num_unchanged for scan in scans),
        len(verdicts),
    )


def _scan_and_note(
    by_schema: Mapping[str | None, list[InputFile]],
    schemas: Mapping[str | None, Schema],
    configuration: Configuration,
    execution: Execution,
    sample: Sample | None,
) -> tuple[list[ChangedScan], list[Finding]]:
    """The scan of each group of files, and the notes on them if they are wanted."""
    finished: ShardFinished | None = None
    scans, notes = [], []
    try:
        scans = _scan_by_schema(by_schema, schemas, configuration, execution, sample)
    except ShardFinished as error:
        finished = error
    if configuration.settings.notes:
        notes = list(_notes(by_schema, schemas, execution))
    elif sample is None:
        notes = list(_notes_on_series(by_schema, schemas, execution))
    if finished is not None:
        raise finished
    return scans, notes


def _notes(
    by_schema: Mapping[str | None, list[InputFile]], schemas: Mapping[str | None, Schema], execution: Execution
) -> Iterable[Finding]:
    """What looks wrong and no rule forbids, from a pass of its own over the files of each schema."""
    from datacheck.jobs.reading_for_schema import text_dtypes
    from datacheck.profile.notes.find import notes_of_files

    for reference, group in by_schema.items():
        schema = schemas[reference]
        dtypes = text_dtypes(schema)
        typed = [replace(file, options=replace(file.options, dtypes=file.options.dtypes or dtypes)) for file in group]
        yield from notes_of_files(typed, schema, execution)


def _notes_on_series(
    by_schema: Mapping[str | None, list[InputFile]], schemas: Mapping[str | None, Schema], execution: Execution
) -> Iterable[Finding]:
    """The gaps in series that a unique key of several fields numbers by its last one, where only these need be read."""
    for reference, group in by_schema.items():
        names = {name for key in schemas[reference].unique if len(key) > 1 for name in key}
        numbers = {key[-1] for key in schemas[reference].unique if len(key) > 1}
        numbers -= {rule.on for rule in schemas[reference].sequence}
        files = [file for file in group if numbers and _reads_columns(file)]
        if not files or any("." in name or "[" in name for name in names):
            continue
        chosen = [replace(file, options=replace(file.options, columns=tuple(sorted(names)))) for file in files]
        notes = _notes({reference: chosen}, schemas, execution)
        yield from (one for one in notes if one.code == "DC516" and one.field in numbers)


def _reads_columns(file: InputFile) -> bool:
    record = format_of_name(file.uri)
    return record is not None and record.name in _COLUMN_FORMATS and not file.options.partitions


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


def _notes_on_excluded(uris: Sequence[str], excluded: PathPatterns) -> Iterator[Finding]:
    """A note that says why nothing was checked, where every file is excluded."""
    patterns = list(dict.fromkeys(filter(None, map(excluded.pattern_of, uris))))
    if patterns:
        what = f"{quantity(len(uris), 'file')} {'was' if len(uris) == 1 else 'were'} not checked"
        detail = f"{what}: excluded by {join_limited(patterns)}"
        yield Finding("DC913", common_folder(uris), None, len(uris), len(uris), detail=detail)


def _scan_by_schema(
    by_schema: Mapping[str | None, list[InputFile]],
    schemas: Mapping[str | None, Schema],
    configuration: Configuration,
    execution: Execution,
    sample: Sample | None,
) -> list[ChangedScan]:
    """One scan per schema: its files are one dataset, and unique keys are unique over all of them."""
    settings = configuration.settings
    for reference, group in by_schema.items():
        require_rows(group, schemas[reference])
    finished: ShardFinished | None = None
    scans: dict[str | None, ChangedScan] = {}
    # What one process has cached is no share in a job.
    is_cached = settings.cache and sample is None and not execution.is_shared
    with Cache(settings.cache_dir) if is_cached else nullcontext() as cache:
        for reference, group in by_schema.items():
            try:
                scans[reference] = scan_changed(group, schemas[reference], cache, execution, sample)
            except ShardFinished as error:
                finished = error
    if finished is not None:
        raise finished
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
    if paths is not None and not isinstance(paths, str | os.PathLike | Sequence | Set | Iterator):
        raise UsageError(
            f"expected paths, got {type(paths).__name__}; datacheck.scan(data, schema) checks data in memory"
        )
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
    """A function from a file to its schema: the first whose pattern matches, or else the default one."""
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
