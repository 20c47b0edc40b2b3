"""What tells one run from another: the same version, schema, rules and options over the same content give the same output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import NoneType
from typing import Any

from datacheck.findings import typed
from datacheck.text import plain

_MAX_SHOWN = 5
#: In place of the field, for the label file of a sample.
LABEL_FIELD = ""


@dataclass(frozen=True, slots=True)
class InputState:
    """One file of an input. ``content`` is a hash, or the storage's own version; None for a file that cannot be read.

    ``field`` is that of an aligned array, and ``LABEL_FIELD`` for a label file, which follows its sample; otherwise None.

    ``mtime_ns`` says whether the content has to be looked at again. It does not tell one run from another.
    """

    split: str
    field: str | None
    path: str
    size: int | None = None
    mtime_ns: int | None = None
    content: str | None = None

    @classmethod
    def from_json(cls, record: Any) -> InputState:
        """Read a record of :meth:`RunIdentity.to_json`; raises ``KeyError`` or ``TypeError`` for anything else."""
        return cls(
            typed(record["split"], str),
            typed(record["field"], str, NoneType),
            typed(record["path"], str),
            typed(record["size"], int, NoneType),
            typed(record["mtime_ns"], int, NoneType),
            typed(record["content"], str, NoneType),
        )

    @property
    def key(self) -> tuple[str, str | None, str]:
        return self.split, self.field, self.path


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The settings of a run by name (``version``, ``schema``, ``rules`` and others), as plain JSON values, and its inputs."""

    settings: Mapping[str, Any]
    inputs: tuple[InputState, ...]
    fingerprint: str = field(init=False, default="")

    def __post_init__(self) -> None:
        inputs = [[*one.key, one.size, one.content] for one in self.inputs]
        text = json.dumps([dict(self.settings), inputs], sort_keys=True)
        object.__setattr__(self, "fingerprint", f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")

    def to_json(self) -> dict[str, Any]:
        """The identity as plain JSON values."""
        return {"settings": dict(self.settings), "inputs": [asdict(one) for one in self.inputs]}

    @classmethod
    def from_json(cls, record: Any) -> RunIdentity:
        """Read what :meth:`to_json` wrote; raises ``KeyError`` or ``TypeError`` for anything else."""
        return cls(dict(record["settings"]), tuple(map(InputState.from_json, record["inputs"])))

    def differences(self, earlier: RunIdentity) -> list[str]:
        """What differs from an earlier run, in words. An input that could not be read then or now is not a difference."""
        found = [
            _describe_change(name, earlier.settings.get(name), value)
            for name, value in self.settings.items()
            if earlier.settings.get(name) != value
        ]
        changed = list(_input_changes(earlier.inputs, self.inputs))
        if changed:
            more = f" and {len(changed) - _MAX_SHOWN:,} more" if len(changed) > _MAX_SHOWN else ""
            found.append(f"inputs: {', '.join(changed[:_MAX_SHOWN])}{more}")
        return found


def _input_changes(before: Sequence[InputState], after: Sequence[InputState]) -> Iterator[str]:
    old, new = ({one.key: one for one in states} for states in (before, after))
    for key, state in new.items():
        known = old.get(key)
        if known is None:
            yield f"{plain(state.path)} is new"
        elif state.content is not None and known.content is not None and state.content != known.content:
            sizes = f"{state.size:,} bytes" + ("" if state.size == known.size else f", was {known.size:,}")
            yield f"{plain(state.path)} has other content ({sizes})"
    yield from (f"{plain(state.path)} is gone" for key, state in old.items() if key not in new)
    if old.keys() == new.keys() and [*old] != [*new]:
        yield "the same files in another order"


def _describe_change(name: str, before: Any, after: Any) -> str:
    """The parts of a setting that differ, by their paths."""
    changes = list(_changes(name, before, after))
    more = f" and {len(changes) - _MAX_SHOWN:,} more changes" if len(changes) > _MAX_SHOWN else ""
    return ", ".join(changes[:_MAX_SHOWN]) + more


def _changes(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping) and before.get("action") == after.get("action"):
        for key in dict.fromkeys((*before, *after)):
            if before.get(key) != after.get(key):
                yield from _changes(f"{path}.{key}", before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if old != new:
                yield from _changes(f"{path}[{index}]", old, new)
    else:
        yield f"{plain(path)} is {_show(after)}, was {_show(before)}"


def _show(value: Any) -> str:
    return "not set" if value is None else plain(json.dumps(value), 80)
