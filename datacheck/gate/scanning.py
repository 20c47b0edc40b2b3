"""Scanning only what changed: every other file keeps its cached verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datacheck.findings import Finding
from datacheck.gate.cache import Cache
from datacheck.gate.contents import Content, name_contents
from datacheck.gate.verdicts import (
    cross_file_from_json,
    cross_file_key,
    cross_file_to_json,
    digest_rules,
    file_key,
    is_cacheable,
    verdict_from_json,
    verdict_to_json,
)
from datacheck.jobs.execution import Execution
from datacheck.jobs.file_differences import compare_files
from datacheck.jobs.file_verdict import FileVerdict
from datacheck.jobs.unseen_fields import unseen_fields
from datacheck.schema.dataset_constraints import has_rules_across_files, is_of_moment
from datacheck.schema.model import Schema
from datacheck.sources.discover import InputFile

if TYPE_CHECKING:
    from datacheck.jobs.sampling import Sample
    from datacheck.jobs.units.unit_cache import UnitCache


@dataclass(frozen=True, slots=True)
class ChangedScan:
    """The verdict on each file in order, the findings across files, and how many verdicts came from the cache."""

    verdicts: list[FileVerdict]
    cross_file: tuple[Finding, ...]
    num_unchanged: int


@dataclass(frozen=True, slots=True)
class _Cached:
    """What the cache knows. ``file_keys`` and ``verdicts`` have an entry for each file, None where there is none.

    ``contents`` are the files as they were before anything was read.
    """

    contents: Sequence[Content | None]
    file_keys: Sequence[str | None]
    verdicts: Sequence[FileVerdict | None]
    cross_file_key: str | None = None
    cross_file: tuple[Finding, ...] | None = None
    rules: str | None = None

    @classmethod
    def nothing(cls, num_files: int) -> _Cached:
        return cls([None] * num_files, [None] * num_files, [None] * num_files)


def scan_changed(
    files: Sequence[InputFile],
    schema: Schema,
    cache: Cache | None,
    execution: Execution,
    sample: Sample | None = None,
) -> ChangedScan:
    """Scan the files that have no cached verdict.

    What is found across files is cached for exactly these files in this order. For any other list of files the columns
    that this needs are read again from all files, and nothing else of unchanged files.
    Of a ``sample`` nothing is cached, and nothing is found across files.
    """
    if sample is not None:
        verdicts, _ = _scan(files, schema, set(), execution, sample)
        return ChangedScan(verdicts, tuple(_compare(verdicts, schema)), 0)
    cached = _Cached.nothing(len(files)) if cache is None else _look_up(files, schema, cache, execution.workers)
    rereads_keys = has_rules_across_files(schema) and cached.cross_file is None
    to_read = [file for file, verdict in zip(files, cached.verdicts, strict=True) if verdict is None or rereads_keys]
    if not to_read:
        # Return before the scanner is imported.
        verdicts = [verdict for verdict in cached.verdicts if verdict is not None]
        return ChangedScan(verdicts, (*(cached.cross_file or ()), *_compare(verdicts, schema)), len(verdicts))
    unchanged = {file.uri for file, verdict in zip(files, cached.verdicts, strict=True) if verdict is not None}
    unit_cache = None if cache is None or cached.rules is None else _unit_cache(cached.rules, cache)
    fresh, duplicates = _scan(to_read, schema, unchanged, execution, unit_cache=unit_cache)
    verdicts = _merge(cached.verdicts, fresh, rereads_keys)
    if cache is not None:
        _store(files, verdicts, duplicates if rereads_keys else None, cached, cache, unit_cache)
    num_unchanged = sum(verdict is before for verdict, before in zip(verdicts, cached.verdicts, strict=True))
    across = duplicates if rereads_keys else cached.cross_file or ()
    return ChangedScan(verdicts, (*across, *_compare(verdicts, schema)), num_unchanged)


def _compare(verdicts: Sequence[FileVerdict], schema: Schema) -> list[Finding]:
    return [*compare_files(verdicts, schema), *unseen_fields(verdicts)]


def _look_up(files: Sequence[InputFile], schema: Schema, cache: Cache, workers: int | None) -> _Cached:
    """What the cache knows about files: nothing if the schema runs code of the user's."""
    rules = digest_rules(schema)
    if rules is None:
        return _Cached.nothing(len(files))
    contents = name_contents(files, cache, workers)
    keys = [
        None if content is None else file_key(rules, file, content.name)
        for file, content in zip(files, contents, strict=True)
    ]
    known_keys = [key for key in keys if key is not None]
    is_cached = has_rules_across_files(schema) and not is_of_moment(schema) and len(known_keys) == len(keys)
    across = cross_file_key(known_keys) if is_cached else None
    entries = cache.get(key for key in (*known_keys, across) if key is not None)
    verdicts = [
        verdict_from_json(entries[key], file.uri) if key in entries else None
        for file, key in zip(files, keys, strict=True)
    ]
    cross_file = cross_file_from_json(entries[across], files) if across in entries else None
    return _Cached(contents, keys, verdicts, across, cross_file, rules)


def _unit_cache(rules: str, cache: Cache) -> UnitCache:
    from datacheck.jobs.units.unit_cache import UnitCache

    return UnitCache(cache, rules)


def _scan(
    files: Sequence[InputFile],
    schema: Schema,
    only_keys: set[str],
    execution: Execution,
    sample: Sample | None = None,
    unit_cache: UnitCache | None = None,
) -> tuple[list[FileVerdict], tuple[Finding, ...]]:
    """The verdict on each file, and the findings across files. Files in ``only_keys`` are read only for the latter."""
    from datacheck.jobs.across_files import AcrossFiles
    from datacheck.jobs.row_lines import lines_of_files
    from datacheck.jobs.scan import scan_each

    with AcrossFiles(schema, execution if sample is None else None) as across:
        each = scan_each(files, schema, across, execution, only_keys=only_keys, sample=sample, unit_cache=unit_cache)
        verdicts = list(each)
        if sample is not None:
            return verdicts, ()
        return verdicts, tuple(lines_of_files(across.findings([file.uri for file in files]), files))


def _merge(cached: Sequence[FileVerdict | None], fresh: Sequence[FileVerdict], rereads_keys: bool) -> list[FileVerdict]:
    """The verdict on each file in order, fresh ones in place of missing ones."""
    remaining = iter(fresh)
    verdicts: list[FileVerdict] = []
    for before in cached:
        if before is not None and not rereads_keys:
            verdicts.append(before)
            continue
        now = next(remaining)
        # Reading only the keys of an unchanged file finds nothing, unless they cannot be read.
        verdicts.append(now if before is None or now.findings else before)
    return verdicts


def _store(
    files: Sequence[InputFile],
    verdicts: Sequence[FileVerdict],
    duplicates: Sequence[Finding] | None,
    cached: _Cached,
    cache: Cache,
    unit_cache: UnitCache | None,
) -> None:
    """Cache the verdicts on files that are still as they were before they were read."""
    all_cacheable = True
    for position, (file, verdict) in enumerate(zip(files, verdicts, strict=True)):
        content, key = cached.contents[position], cached.file_keys[position]
        if content is None or key is None or not content.still_holds(file.uri):
            all_cacheable = False
            continue
        if unit_cache is not None:
            unit_cache.remember(file.uri)
        if not is_cacheable(verdict):
            all_cacheable = False
        elif verdict is not cached.verdicts[position]:
            cache.put(key, verdict_to_json(verdict))
    if duplicates is not None and all_cacheable and cached.cross_file_key is not None:
        cache.put(cached.cross_file_key, cross_file_to_json(duplicates, files))
