"""Comparing data sets as the configuration says: by its schema and its thresholds, without what it excludes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datacheck.errors import UsageError
from datacheck.gate.checking import excluded_by, schema_of
from datacheck.gate.configuration import Configuration
from datacheck.gate.selection import select
from datacheck.jobs.progress import Progress
from datacheck.profile.compare.compare import compare
from datacheck.profile.compare.thresholds import Thresholds, read_thresholds
from datacheck.reports.report import Report
from datacheck.sources.discover import expand_inputs
from datacheck.text import join_limited, plain

__all__ = ["compare_configured"]


def compare_configured(
    train: str,
    others: Sequence[str],
    configuration: Configuration,
    *,
    given: Mapping[str, Any] | None = None,
    drift: bool = True,
    progress: Progress | None = None,
) -> Report:
    """What ``datacheck compare`` does.

    The schema is that of the training data, as for a scan of it; the other data sets are held against that data, whatever
    their own schema. ``given`` are thresholds that beat those of the configuration, by the names of options; those that are
    None do not.

    Raises ``UsageError``, ``ConfigurationError`` and ``SchemaError``.
    """
    thresholds = _thresholds(configuration.settings.compare, given or {})
    schema = _schema(train, configuration)
    report = compare(
        _kept(train, configuration),
        *(_kept(other, configuration) for other in others),
        schema=schema,
        thresholds=thresholds,
        drift=drift,
        workers=configuration.settings.workers,
        progress=progress,
    )
    return replace(report, findings=select(report.findings, configuration.settings).findings)


def _schema(train: str, configuration: Configuration) -> str | None:
    """The schema that holds for every file of the training data."""
    choose = schema_of(configuration)
    excluded = excluded_by(configuration)
    found = {choose(file.uri): None for file in expand_inputs([train]) if not excluded.match(file.uri)}
    if len(found) > 1:
        names = join_limited(sorted(name or "none" for name in found))
        raise UsageError(f"{plain(train)}: its files are held to different schemas, {names}; name one with --schema")
    return next(iter(found), None)


def _kept(path: str, configuration: Configuration) -> str | list[str]:
    """The data set without the files that are excluded; as it is written where none is."""
    excluded = excluded_by(configuration)
    files = [file.uri for file in expand_inputs([path])]
    kept = [uri for uri in files if not excluded.match(uri)]
    if not kept:
        raise UsageError(f"{plain(path)}: 'exclude' of the configuration leaves nothing of it to compare")
    return path if len(kept) == len(files) else kept


def _thresholds(configured: Thresholds, given: Mapping[str, Any]) -> Thresholds:
    """What is set in the configuration, each in turn beaten by an option."""
    stated = {name: value for name, value in given.items() if value is not None}
    for name, value in stated.items():
        read_thresholds({name: value}, f"--{name}")
    return read_thresholds({**configured.model_dump(by_alias=True, exclude_unset=True), **stated}, "compare")
