"""Identifying a run by its settings and the content of its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from datacheck._version import __version__
from datacheck.jobs.execution import Execution
from datacheck.jobs.inputs import Input, path_from_pipeline
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.stage import Stage
from datacheck.publishing.identity import LABEL_FIELD, InputState, RunIdentity
from datacheck.storage import Fingerprint, storage_of

#: They decide what can be read, and what could not be read is tried again.
_LIMITS = ("max_expanded_bytes", "max_expansion_ratio", "max_members", "verify_checksums", "keep_going")

#: Larger files that cannot be read are told apart by their size.
_MAX_HASHED_UNREADABLE = 1 << 30


def identify(
    pipeline: Pipeline, inputs: Sequence[Input], statistics: str, earlier: RunIdentity | None, execution: Execution
) -> RunIdentity:
    """The identity of a run. Files that are as an ``earlier`` run left them are not read again."""
    known = {one.key: one for one in earlier.inputs} if earlier is not None else {}
    files = [
        _File(uri, state, known.get(state.key), item.info.units[0].fingerprint if item.info else None)
        for item in inputs
        for name, uri in _files(item)
        for state in [InputState(item.split, name, path_from_pipeline(uri, pipeline))]
    ]
    # Hashes are computed without the GIL: on this machine threads are enough.
    execution = replace(execution, executor="threads") if isinstance(execution.executor, str) else execution
    states = execution.map(_state, files, lambda file: file.state, stage=Stage("identify"))
    return RunIdentity(settings_of(pipeline, statistics), tuple(states))


def states_of(item: Input, pipeline: Pipeline) -> list[InputState]:
    """The states of the files of an input as they are now."""
    states = [(uri, InputState(item.split, name, path_from_pipeline(uri, pipeline))) for name, uri in _files(item)]
    return [_state(_File(uri, state, None, None)) for uri, state in states]


def with_contents(inputs: Sequence[Input], identity: RunIdentity) -> list[Input]:
    """The inputs, whose content other machines can compare with what was identified."""
    states = iter(identity.inputs)
    contents = {uri: state.content for item in inputs for (_, uri), state in zip(_files(item), states, strict=False)}
    known = {uri: content for uri, content in contents.items() if content is not None}
    return [replace(item, info=item.info and item.info.with_contents(known)) for item in inputs]


def settings_of(pipeline: Pipeline, statistics: str) -> dict[str, Any]:
    """What decides about the output of a run, other than its inputs, as plain JSON values."""
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
    return {name: _plain(value) for name, value in settings.items()}


def _files(item: Input) -> list[tuple[str | None, str]]:
    own = [(None, item.uri)] if item.files is None else list(item.files.items())
    return [*own, *((LABEL_FIELD, uri) for uri, _ in item.labels)]


@dataclass(frozen=True, slots=True)
class _File:
    """A file to identify: what is known of it, also from an earlier run, and what it was when it was inspected."""

    uri: str
    state: InputState
    before: InputState | None = field(compare=False)
    fingerprint: Fingerprint | None


def _state(file: _File) -> InputState:
    uri, state, before = file.uri, file.state, file.before
    storage = storage_of(uri)
    try:
        now: Fingerprint = storage.stat(uri).fingerprint
        state = replace(state, size=now.size, mtime_ns=now.mtime_ns)
        if now.version:
            return replace(state, content=now.version)
        if before is not None and before.content and (before.size, before.mtime_ns) == (now.size, now.mtime_ns):
            return before
        if file.fingerprint is None and now.size > _MAX_HASHED_UNREADABLE:
            # It may be as large as a sparse file claims, and nobody would wait for that.
            return state
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
