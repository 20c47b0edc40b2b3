"""Identifying a run by its settings and the content of its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from datacheck._version import __version__
from datacheck.jobs.executors.local import map_in_order
from datacheck.jobs.inputs import Input, path_from_pipeline
from datacheck.jobs.pipeline import Pipeline
from datacheck.publishing.identity import InputState, RunIdentity
from datacheck.storage import Fingerprint, storage_of

__all__ = ["identify"]

#: They decide what can be read, and what could not be read is tried again.
_LIMITS = ("max_expanded_bytes", "max_expansion_ratio", "max_members", "verify_checksums", "keep_going")

Known = Mapping[tuple[str, str | None, str], InputState]


def identify(
    pipeline: Pipeline, inputs: Sequence[Input], statistics: str, earlier: RunIdentity | None, workers: int | None
) -> RunIdentity:
    """The identity of a run. Files that are as an ``earlier`` run left them are not read again."""
    known = {one.key: one for one in earlier.inputs} if earlier is not None else {}
    settings: dict[str, Any] = {
        "version": __version__,
        "schema": pipeline.schema.model_dump(mode="json", exclude_defaults=True),
        "rules": [rule.model_dump(mode="json", exclude_none=True) for rule in pipeline.plan.rules],
        "otherwise": pipeline.plan.otherwise,
        "fit": pipeline.fit,
        "format": pipeline.format,
        "options": dict(pipeline.format_options),
        "reading": {name: value for name, value in asdict(pipeline.reading).items() if name not in _LIMITS},
        "rows": dict(pipeline.rows),
        "statistics": hashlib.sha256(statistics.encode()).hexdigest() if statistics else None,
    }
    files = [
        (uri, InputState(item.split, field, path_from_pipeline(uri, pipeline)))
        for item in inputs
        for field, uri in _files(item)
    ]
    states = map_in_order(partial(_state, known=known), files, workers)
    return RunIdentity(_plain(settings), tuple(states))


def _files(item: Input) -> list[tuple[str | None, str]]:
    return [(None, item.uri)] if item.files is None else list(item.files.items())


def _state(file: tuple[str, InputState], known: Known) -> InputState:
    uri, state = file
    storage = storage_of(uri)
    try:
        now: Fingerprint = storage.stat(uri).fingerprint
        state = replace(state, size=now.size, mtime_ns=now.mtime_ns)
        before = known.get(state.key)
        if now.version:
            return replace(state, content=now.version)
        if before is not None and before.content and (before.size, before.mtime_ns) == (now.size, now.mtime_ns):
            return before
        return replace(state, content=storage.content_hash(uri))
    except OSError:
        return state


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
