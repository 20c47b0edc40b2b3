"""Compare datasets as the configuration says: with its schema and thresholds, without excluded files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datacheck.errors import UsageError
from datacheck.gate.checking import exclude_patterns, schema_chooser
from datacheck.gate.configuration import Configuration
from datacheck.gate.selection import select
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import Progress, ProgressLike
from datacheck.profile.compare.compare import compare
from datacheck.profile.compare.thresholds import Thresholds, read_thresholds
from datacheck.profile.distributions import distributions
from datacheck.reports.distributions import FieldDistribution
from datacheck.reports.report import Report
from datacheck.sources.discover import expand_inputs
from datacheck.text import join_limited, plain


def compare_configured(
    train: str,
    others: Sequence[str],
    configuration: Configuration,
    *,
    given: Mapping[str, Any] | None = None,
    drift: bool = True,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
) -> Report:
    """Compare training data with other datasets. This is what ``datacheck compare`` does.

    The schema of the training data applies to all datasets. ``given`` holds thresholds by option name; those that are
    not None override the configuration.

    Raises ``UsageError``, ``ConfigurationError`` and ``SchemaError``.
    """
    thresholds = _merge_thresholds(configuration.settings.compare, given or {})
    schema = _find_schema(train, configuration)
    report = compare(
        _without_excluded(train, configuration),
        *(_without_excluded(other, configuration) for other in others),
        schema=schema,
        thresholds=thresholds,
        drift=drift,
        workers=configuration.settings.workers,
        executor=executor,
        progress=progress,
        options=configuration.settings.read_options,
    )
    return replace(report, findings=select(report.findings, configuration.settings).findings)


def distributions_configured(
    datasets: Mapping[str, Sequence[str]], configuration: Configuration, progress: Progress | None = None
) -> list[FieldDistribution]:
    """The distributions of the fields of datasets, each some paths without excluded files, for a report's page."""
    found: dict[str, list[str]] = {}
    for name, paths in datasets.items():
        for path in paths:
            found.setdefault(name, []).extend(_kept(path, configuration))
    settings = configuration.settings
    found = {name: files for name, files in found.items() if files}
    if not found:
        return []
    return distributions(found, options=settings.read_options, workers=settings.workers, progress=progress)


def _find_schema(train: str, configuration: Configuration) -> str | None:
    """The one schema of all training files."""
    choose = schema_chooser(configuration)
    excluded = exclude_patterns(configuration)
    found = {choose(file.uri): None for file in expand_inputs([train]) if not excluded.match(file.uri)}
    if len(found) > 1:
        names = join_limited(sorted(name or "none" for name in found))
        raise UsageError(f"{plain(train)}: its files have different schemas ({names}); choose one with --schema")
    return next(iter(found), None)


def _without_excluded(path: str, configuration: Configuration) -> str | list[str]:
    """The files that are not excluded, or the path unchanged if no file is."""
    kept = _kept(path, configuration)
    if not kept:
        raise UsageError(
            f"{plain(path)}: nothing to compare, because 'exclude' in the configuration matches all of its files"
        )
    return path if kept == [path] else kept


def _kept(path: str, configuration: Configuration) -> list[str]:
    """The files that are not excluded, or the path alone if no file is."""
    excluded = exclude_patterns(configuration)
    files = [file.uri for file in expand_inputs([path])]
    kept = [uri for uri in files if not excluded.match(uri)]
    return [path] if len(kept) == len(files) else kept


def _merge_thresholds(configured: Thresholds, given: Mapping[str, Any]) -> Thresholds:
    """The configured thresholds, overridden by the given ones."""
    stated = {name: value for name, value in given.items() if value is not None}
    for name, value in stated.items():
        read_thresholds({name: value}, f"--{name}")
    return read_thresholds({**configured.model_dump(by_alias=True, exclude_unset=True), **stated}, "compare")
