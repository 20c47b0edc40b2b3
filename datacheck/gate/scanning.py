"""Scanning what has changed, and remembering the verdict on everything else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from datacheck.findings import Finding
from datacheck.gate.cache import Cache
from datacheck.gate.contents import Content, name_contents
from datacheck.gate.verdicts import (
    file_key,
    from_json,
    is_kept,
    rules_of,
    set_findings,
    set_key,
    set_to_json,
    to_json,
)
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.file_verdict import FileVerdict
from datacheck.jobs.progress import Progress
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Schema
from datacheck.sources.discover import InputFile

__all__ = ["Scanned", "scan_changed"]


@dataclass(frozen=True, slots=True)
class Scanned:
    """A verdict on each file, in order; findings about all of them together; how many verdicts were remembered."""

    verdicts: list[FileVerdict]
    together: tuple[Finding, ...]
    num_unchanged: int


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What is known of files before any is read: the verdict on each, or None, and the one on all together."""

    rules: str
    contents: Sequence[Content | None]
    verdicts: Sequence[FileVerdict | None]
    together: tuple[Finding, ...] | None


def scan_changed(
    files: Sequence[InputFile],
    schema: Schema,
    cache: Cache | None,
    *,
    workers: int | None,
    executor: ExecutorLike,
    progress: Progress,
) -> Scanned:
    """Scan files, but for those whose verdict the cache holds.

    Where keys must be unique over all files, what was found of them together is remembered as well. It holds for exactly
    these files in this order; for any others the keys of all are read again, and nothing else of the unchanged ones.
    """
    remembered = None if cache is None else _remember(files, schema, cache, workers)
    known: Sequence[FileVerdict | None] = [None] * len(files) if remembered is None else remembered.verdicts
    together = None if remembered is None else remembered.together
    needs_all = together is None and bool(unique_keys(schema))
    wanted = [file for file, verdict in zip(files, known, strict=True) if verdict is None or needs_all]
    if not wanted:
        return Scanned([verdict for verdict in known if verdict is not None], together or (), len(files))

    from datacheck.jobs.file_results import Duplicates
    from datacheck.jobs.scan import scan_each

    only_keys = {file.uri for file, verdict in zip(files, known, strict=True) if verdict is not None}
    verdicts: list[FileVerdict] = []
    with Duplicates() as duplicates:
        scanned = scan_each(
            wanted, schema, duplicates, only_keys=only_keys, workers=workers, executor=executor, progress=progress
        )
        with closing(scanned):
            for verdict in known:
                if verdict is not None and not needs_all:
                    verdicts.append(verdict)
                    continue
                fresh = next(scanned)
                # Of a file whose keys alone were read, nothing is found but that they could not be.
                verdicts.append(fresh if verdict is None or fresh.findings else verdict)
        if needs_all:
            together = tuple(duplicates.findings())
    if cache is not None and remembered is not None:
        _keep(files, verdicts, together if needs_all else None, remembered, cache)
    num_unchanged = sum(verdict is before for verdict, before in zip(verdicts, known, strict=True))
    return Scanned(verdicts, together or (), num_unchanged)


def _remember(files: Sequence[InputFile], schema: Schema, cache: Cache, workers: int | None) -> _Remembered | None:
    """What the cache knows of files; None where nothing may be kept about them."""
    rules = rules_of(schema)
    if rules is None:
        return None
    contents = name_contents(files, cache, workers)
    keys = [
        None if content is None else file_key(rules, file, content.name)
        for file, content in zip(files, contents, strict=True)
    ]
    together_key = _set_key(rules, files, contents) if unique_keys(schema) else None
    entries = cache.get(key for key in (*keys, together_key) if key is not None)
    verdicts = [
        from_json(entries[key], file.uri) if key in entries else None for file, key in zip(files, keys, strict=True)
    ]
    together = set_findings(entries[together_key], files) if together_key in entries else None
    return _Remembered(rules, contents, verdicts, together)


def _set_key(rules: str, files: Sequence[InputFile], contents: Sequence[Content | None]) -> str | None:
    names = [content.name for content in contents if content is not None]
    return set_key(rules, files, names) if len(names) == len(files) else None


def _keep(
    files: Sequence[InputFile],
    verdicts: Sequence[FileVerdict],
    together: Sequence[Finding] | None,
    before: _Remembered,
    cache: Cache,
) -> None:
    """Keep what was found of files that are still as they were before they were read."""
    all_kept = True
    for file, verdict, content, known in zip(files, verdicts, before.contents, before.verdicts, strict=True):
        if content is None or not is_kept(verdict) or not content.still_holds(file.uri):
            all_kept = False
        elif verdict is not known:
            cache.put(file_key(before.rules, file, content.name), to_json(verdict))
    key = _set_key(before.rules, files, before.contents)
    if together is not None and all_kept and key is not None:
        cache.put(key, set_to_json(together, files))
