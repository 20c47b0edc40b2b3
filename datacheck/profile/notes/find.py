"""Finding notes: profile data in one pass, and judge what was seen."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import ProgressLike, following
from datacheck.jobs.scan import are_paths
from datacheck.profile.data_profile import DataProfile
from datacheck.profile.dataset import FileSet, find_files, kind_of_file, profile_files, profile_memory
from datacheck.profile.notes.files import judge_files
from datacheck.profile.notes.judge import judge_leaf
from datacheck.profile.options import ProfileOptions
from datacheck.schema.model import Schema
from datacheck.sources.base import ReadOptions
from datacheck.sources.discover import InputFile

#: Distinct texts, integers and booleans to count.
MAX_DISTINCT = 50
NOTE_OPTIONS = ProfileOptions(max_distinct=MAX_DISTINCT, with_samples=True, with_notes=True)


def find_notes(
    data: Any,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
    options: ReadOptions | None = None,
) -> tuple[Finding, ...]:
    """Find what looks wrong in data and no rule forbids: sentinels, outliers, constant fields, blank texts and so on.

    Args:
        data: a path, folder or glob, or several; or data in memory, as for :func:`datacheck.scan`.
        workers, executor, progress, options: as for :func:`datacheck.scan`.

    Returns:
        Findings of severity info (DC5xx). Files that cannot be read are left out; a scan reports them.

    Raises:
        UsageError: a path matches nothing, or the data is of an unsupported type.
    """
    if are_paths(data):
        with following(progress) as follower:
            execution = Execution(workers, executor, follower)
            return notes_of_files(find_files(data, options), Schema(), execution)
    with profile_memory(data, NOTE_OPTIONS) as profile:
        return notes_of_profiles([profile])


def notes_of_files(files: Sequence[InputFile], schema: Schema, execution: Execution) -> tuple[Finding, ...]:
    """The notes on files; files of one folder, format and kind of name together.

    What ``schema`` lists as missing is left out.
    """
    groups: dict[tuple[str, ...], list[InputFile]] = {}
    for file in files:
        groups.setdefault(_group_of(file.uri), []).append(file)
    profiles = profile_files(
        list(map(FileSet.of, groups.values())),
        replace(NOTE_OPTIONS, missing_in=schema),
        execution,
    )
    return notes_of_profiles(profiles)


def _group_of(uri: str) -> tuple[str, ...]:
    """What the files of one dataset share. Arrays without a name are distinguished by the names of their files."""
    record, folder = format_of_name(uri), posixpath.dirname(uri)
    while "=" in posixpath.basename(folder):
        folder = posixpath.dirname(folder)
    is_named = record is not None and record.is_tabular
    pattern = "" if is_named else kind_of_file(uri)
    return (folder, record.name if record is not None else "", pattern)


def notes_of_profiles(profiles: Sequence[DataProfile]) -> tuple[Finding, ...]:
    """The notes on datasets that were profiled with :data:`NOTE_OPTIONS`, or more."""
    found: list[Finding] = []
    for profile in profiles:
        first_file: dict[str | None, str] = {}
        derived: set[str | None] = set()
        for file in profile.files:
            for path, facts in file.fields.items():
                first_file.setdefault(path, file.uri)
                if facts.is_derived:
                    derived.add(path)
        for key, leaf in profile.leaves.items():
            is_derived = leaf.path in derived
            found += judge_leaf(leaf, profile.notes.get(key), first_file.get(leaf.path, ""), is_derived=is_derived)
        found += profile.row_lengths.judge()
    return (*found, *judge_files(profiles))
