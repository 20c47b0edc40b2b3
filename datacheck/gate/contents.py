"""Names for what files hold: the same name, the same content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from datacheck.gate.cache import Cache
from datacheck.gate.fingerprints import State, hash_content, is_at_rest
from datacheck.jobs.executors.local import map_in_order
from datacheck.sources.discover import InputFile
from datacheck.sources.suffixes import format_of_name

__all__ = ["Content", "name_contents"]

#: Formats of which everything that is checked lies in the one file. Nothing is remembered of any other.
_SELF_CONTAINED = frozenset({"arrow", "csv", "npy", "npz", "parquet", "safetensors", "torch"})
#: Small files are always hashed, since that costs next to nothing.
_SMALL_BYTES = 16 << 20
#: Formats that take much longer to check than to hash. A large file of any other is checked about as fast, so a hash of it
#: would be a loss: it is known again by its state alone.
_SLOW = frozenset({"csv", "npz"})


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds: its name (a hash), and the state that the file had when it was so."""

    name: str
    state: State

    def still_holds(self, uri: str) -> bool:
        """Whether the file is as it was."""
        return State.of(uri) == self.state


def name_contents(files: Sequence[InputFile], cache: Cache, workers: int | None) -> list[Content | None]:
    """The content of each file; None for one that cannot be named: no regular file, of another format, or just changed.

    A file whose state is the one that was remembered is not opened.
    """
    states = [State.of(file.uri) if format_of_name(file.uri) in _SELF_CONTAINED else None for file in files]
    keys = [_key(file.uri) for file in files]
    remembered = cache.get(key for key, state in zip(keys, states, strict=True) if state is not None)
    contents: list[Content | None] = [None] * len(files)
    unknown: list[int] = []
    for position, (key, state) in enumerate(zip(keys, states, strict=True)):
        if state is None:
            continue
        name = _remembered(remembered.get(key), state)
        if name is not None:
            contents[position] = Content(name, state)
        elif state.size > _SMALL_BYTES and format_of_name(files[position].uri) not in _SLOW:
            if is_at_rest(files[position].uri, state):
                contents[position] = Content(f"state:{key}:{state.numbers}", state)
        else:
            unknown.append(position)
    hashes = map_in_order(partial(_hash, files, states), unknown, workers)
    for position, digest in zip(unknown, hashes, strict=True):
        state = states[position]
        if state is not None and digest is not None:
            contents[position] = Content(digest, state)
            cache.put(keys[position], {"state": state.numbers, "content": digest})
    return contents


def _hash(files: Sequence[InputFile], states: Sequence[State | None], position: int) -> str | None:
    state = states[position]
    return None if state is None else hash_content(files[position].uri, state)


def _remembered(entry: Any, state: State) -> str | None:
    if not isinstance(entry, Mapping) or entry.get("state") != list(state.numbers):
        return None
    name = entry.get("content")
    return name if isinstance(name, str) else None


def _key(uri: str) -> str:
    path = os.path.abspath(uri)  # noqa: PTH100 - called for every file of every run
    return f"path:{hashlib.sha256(os.fsencode(path)).hexdigest()}"
