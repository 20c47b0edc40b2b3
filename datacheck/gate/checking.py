"""The gate: files by path, each held to the schema that the configuration gives it, and judged by what is known."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from datacheck.errors import UsageError
from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.gate.baseline import Baseline, Compared, LookedAt, load_baseline
from datacheck.gate.cache import Cache
from datacheck.gate.configuration import Configuration, configure
from datacheck.gate.patterns import PathPatterns
from datacheck.gate.scanning import ChangedScan, scan_changed
from datacheck.gate.selection import Selected, select
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.reports.gate_report import GateReport
from datacheck.schema.loading import load_schema
from datacheck.sources.discover import InputFile, expand_inputs
from datacheck.storage import storage_of

__all__ = ["PathsLike", "check", "excluded_by", "rebase", "schema_of"]

PathsLike = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None

_POINTER = ".dvc"


def check(
    paths: PathsLike = None,
    *,
    configuration: Configuration | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    **settings: Any,
) -> GateReport:
    """Check files as the configuration of the current folder says: what ``datacheck scan`` does.

    Args:
        paths: files, folders or globs; the ``paths`` of the configuration unless given.
        configuration: what holds; made of ``settings``, the environment and the nearest configuration file unless given.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: told as units end.
        settings: what beats the environment and the file, such as ``schema="schemas/flights.yaml"``,
            ``ignore=["DC104"]`` or ``cache=False``; dashes in names are written ``_``.

    Returns:
        The report. Its ``ok`` says that nothing was found that is an error and is not in the baseline.

    Raises:
        UsageError: a path stands for nothing.
        ConfigurationError: the configuration, a schema or the baseline is wrong.
    """
    started = time.perf_counter()
    if configuration is None:
        given = {name.replace("_", "-"): value for name, value in settings.items()}
        configuration = configure(given, place="check({}=)".format)
    elif settings:
        raise UsageError(f"give a configuration or settings, not both: {', '.join(sorted(settings))}")
    looked = _look(paths, configuration, executor, progress or NullProgress())
    selected = select(looked.findings, configuration.settings)
    compared, name = Compared(selected.findings, (), ()), configuration.baseline
    if name is not None:
        compared = load_baseline(name).compare(selected.findings, looked.looked_at)
    return GateReport(
        compared.new,
        len(looked.files),
        looked.num_rows,
        looked.num_bytes,
        time.perf_counter() - started,
        compared.known,
        compared.fixed,
        name,
        selected.num_ignored,
        looked.num_unchanged,
    )


def rebase(
    paths: PathsLike, configuration: Configuration, baseline: str, *, progress: Progress | None = None
) -> Baseline:
    """The baseline of a file, brought up to date with what is found now; the file itself is left as it is."""
    looked = _look(paths, configuration, "threads", progress or NullProgress())
    selected: Selected = select(looked.findings, configuration.settings)
    return load_baseline(baseline, must_exist=False).updated(selected.findings, looked.looked_at)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found, before anything is judged."""

    files: Sequence[InputFile]
    roots: Sequence[str]
    scans: Sequence[ChangedScan]
    findings: Sequence[Finding]

    @property
    def looked_at(self) -> LookedAt:
        return LookedAt([file.uri for file in self.files], self.roots, self.findings, _content_of)

    @property
    def num_rows(self) -> int:
        return sum(verdict.num_rows for scan in self.scans for verdict in scan.verdicts)

    @property
    def num_bytes(self) -> int:
        return sum(verdict.num_bytes for scan in self.scans for verdict in scan.verdicts)

    @property
    def num_unchanged(self) -> int:
        return sum(scan.num_unchanged for scan in self.scans)


def _look(paths: PathsLike, configuration: Configuration, executor: ExecutorLike, progress: Progress) -> _Looked:
    settings = configuration.settings
    roots = _wanted(paths, configuration)
    excluded = excluded_by(configuration)
    files = [file for file in expand_inputs(roots) if not excluded.match(file.uri)]
    # Files of one schema are one data set: what must be unique is so over all of them.
    by_schema: dict[str | None, list[InputFile]] = {}
    schemas = schema_of(configuration)
    for file in files:
        by_schema.setdefault(schemas(file.uri), []).append(file)
    loaded = {reference: load_schema(reference) for reference in by_schema}
    with _cache(configuration) as cache:
        scans = [
            scan_changed(
                group, loaded[reference], cache, workers=settings.workers, executor=executor, progress=progress
            )
            for reference, group in by_schema.items()
        ]
    return _Looked(files, roots, scans, _findings(files, scans))


def _findings(files: Sequence[InputFile], scans: Sequence[ChangedScan]) -> list[Finding]:
    """Those on files one by one, in the order of the files, then those on files together."""
    by_uri = {verdict.uri: verdict for scan in scans for verdict in scan.verdicts}
    alone = [finding for file in files for finding in by_uri[file.uri].findings]
    return [*alone, *(finding for scan in scans for finding in scan.cross_file)]


def _wanted(paths: PathsLike, configuration: Configuration) -> list[str]:
    written: Iterable[str | os.PathLike[str]] = [paths] if isinstance(paths, str | os.PathLike) else paths or ()
    wanted = [os.fspath(path) for path in written] or list(configuration.settings.paths)
    if not wanted:
        raise UsageError("there is nothing to check: name files or folders, or set 'paths' in the configuration")
    return [_behind_pointer(path) for path in wanted]


def _behind_pointer(path: str) -> str:
    """The data that a DVC pointer points to, where it would be; git knows only the pointer."""
    data = path.removesuffix(_POINTER)
    return data if path.endswith(_POINTER) and format_of_name(data) else path


def schema_of(configuration: Configuration) -> Callable[[str], str | None]:
    """Which schema holds for a file: that of the first pattern that matches, or else the one for all."""
    settings = configuration.settings
    by_pattern = [(PathPatterns([pattern], configuration.root), schema) for pattern, schema in settings.schemas.items()]

    def choose(uri: str) -> str | None:
        return next((schema for patterns, schema in by_pattern if patterns.match(uri)), settings.schema_)

    return choose


def excluded_by(configuration: Configuration) -> PathPatterns:
    """The patterns of files that are left out."""
    return PathPatterns(configuration.settings.exclude, configuration.exclude_root)


@contextmanager
def _cache(configuration: Configuration) -> Iterator[Cache | None]:
    if not configuration.settings.cache:
        yield None
        return
    with Cache(configuration.settings.cache_dir) as cache:
        yield cache


def _content_of(uri: str) -> str | None:
    try:
        return storage_of(uri).content_hash(uri)
    except OSError:
        return None
