"""A folder of results that the shards of a job share: plain files, each written whole under a name of its own.

::

    <folder>/<job>/shards/3-of-8.started    a shard that has started; it becomes 3-of-8.finished
    <folder>/<job>/scan-1-1f3a.../000017     the results of one chunk of the first pass that is called scan
    <folder>/<job>/scan-1-1f3a.../000018.claim    which shard has begun a chunk

There is no lock: two shards that do the same chunk write the same content, and claims only keep that rare. The name
of a job is made from its settings, its version and its files, and the name of a pass also from its items. So results
of anything else are never taken for these.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache, partial
from types import NoneType
from typing import Any

import numpy as np

from datacheck.errors import OutputError
from datacheck.jobs.sharding.result_codec import References, decode, encode
from datacheck.publishing.sealed_json import DamagedError
from datacheck.sources.base import ReadOptions
from datacheck.sources.discover import InputFile
from datacheck.storage import open_file, storage_of
from datacheck.storage.base import Fingerprint
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

#: A larger file of results is not read.
MAX_RESULT_BYTES = 1 << 31
#: Items in a chunk: few enough to divide the work, and enough that a million small files are not a million objects.
_WANTED_CHUNKS, _MAX_ITEMS = 8192, 64
_DIGESTED_TOGETHER = 256
_JSON_TYPES = frozenset({NoneType, bool, int, float, str})
_SHARDS = "shards"
_CLAIM = "claim"
_STARTED, _FINISHED = "started", "finished"
_STATE = re.compile(rf"(\d+)-of-(\d+)\.({_STARTED}|{_FINISHED})")


@lru_cache(maxsize=8)
def chunks_of(num_items: int) -> tuple[range, ...]:
    """The items of each chunk. They depend on the number of items alone, so that the number of shards may change."""
    size = max(1, min(_MAX_ITEMS, -(-num_items // _WANTED_CHUNKS)))
    items = range(num_items)
    return tuple(items[start : start + size] for start in range(0, num_items, size))


def digest(value: Any) -> str:
    """A hash of settings or items: equal in every process and on every machine for equal values."""
    found = hashlib.sha256()
    items = value if isinstance(value, list) else [value]
    # Some at a time: a pass may have millions of items.
    for start in range(0, len(items), _DIGESTED_TOGETHER):
        some = list(map(_plain, items[start : start + _DIGESTED_TOGETHER]))
        found.update(json.dumps(some, sort_keys=True).encode() + b"\n")
    return found.hexdigest()[:16]


def _plain(value: Any) -> Any:
    if type(value) in _JSON_TYPES:
        return value
    if isinstance(value, Fingerprint):
        # Another machine may see other inode numbers.
        return [value.size, value.mtime_ns, value.version]
    if isinstance(value, InputFile):
        # What is known of a file is not taken for what has changed since.
        return [value.uri, value.format, _plain(value.options), _plain(_state_of(value.uri))]
    if isinstance(value, dict):
        return [[_plain(key), _plain(one)] for key, one in value.items()]
    if isinstance(value, range):
        return [value.start, value.stop, value.step]
    if isinstance(value, list | tuple):
        return list(map(_plain, value))
    if isinstance(value, set | frozenset):
        return sorted((_plain(one) for one in value), key=str)
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, partial):
        return [value.func.__qualname__, *map(_plain, value.args)]
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, ReadOptions):
        return _plain_options(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value)
    return type(value).__name__


def _plain_fields(value: Any) -> list[Any]:
    return [type(value).__name__, *(_plain(getattr(value, one.name)) for one in fields(value) if one.compare)]


@lru_cache(maxsize=64)
def _plain_options(options: ReadOptions) -> list[Any]:
    """The options for reading: a million units share a few."""
    return _plain_fields(options)


def _state_of(uri: str) -> Fingerprint | None:
    try:
        return storage_of(uri).stat(uri, recent=True).fingerprint
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class ShardState:
    """What a shard says of itself: which one of how many it is, and whether it has finished."""

    index: int
    count: int
    is_finished: bool


@dataclass(slots=True)
class ResultStore:
    """The results of one job in a folder."""

    folder: str
    job: str

    @property
    def _root(self) -> str:
        return f"{self.folder}/{self.job}"

    def write(self, stage: str, chunk: int, results: Sequence[Any], references: References) -> None:
        """Write the results of one chunk, whole or not at all."""
        content = encode(list(results), references)
        uri = self._uri(stage, chunk)
        with output_errors(uri):
            storage = storage_of(uri)
            storage.make_folder(f"{self._root}/{stage}")
            storage.put(uri, content)

    def read(self, stage: str, chunk: int, references: References) -> list[Any]:
        """The results of one chunk; raises ``OSError`` and ``DamagedError``."""
        uri = self._uri(stage, chunk)
        with open_file(uri) as file:
            if file.seek(0, os.SEEK_END) > MAX_RESULT_BYTES:
                raise DamagedError(f"{plain(uri)}: larger than {MAX_RESULT_BYTES:,} bytes")
            file.seek(0)
            return decode(file.read(), references)

    def finished(self, stage: str) -> set[int]:
        """The finished chunks of a pass."""
        return self.progress(stage)[0]

    def progress(self, stage: str) -> tuple[set[int], set[int]]:
        """The finished chunks of a pass, and the claimed ones."""
        finished, claimed = set(), set()
        for name in self._names(f"{self._root}/{stage}"):
            number, dot, kind = name.partition(".")
            if number.isdecimal() and not dot:
                finished.add(int(number))
            elif number.isdecimal() and kind == _CLAIM:
                claimed.add(int(number))
        return finished, claimed

    def claim(self, stage: str, chunk: int, shard: tuple[int, int]) -> tuple[int, int] | None:
        """Claim a chunk, so that only one shard does it, and return the shard that claimed it before, if any.

        A claim only saves work: a shard that has waited long enough does the chunk nevertheless.
        """
        uri = f"{self._uri(stage, chunk)}.{_CLAIM}"
        with output_errors(uri):
            storage = storage_of(uri)
            storage.make_folder(f"{self._root}/{stage}")
            try:
                storage.put(uri, f"{shard[0]}/{shard[1]}".encode(), if_absent=True)
            except FileExistsError:
                return self.owner(stage, chunk)
        return None

    def owner(self, stage: str, chunk: int) -> tuple[int, int]:
        """The shard that has claimed a chunk; none where the claim is gone or damaged."""
        uri = f"{self._uri(stage, chunk)}.{_CLAIM}"
        with suppress(OSError), open_file(uri) as file:
            if found := re.fullmatch(rb"(\d{1,9})/(\d{1,9})", file.read(40)):
                return int(found[1]), int(found[2])
        return 0, 0

    def has(self, stage: str, chunk: int) -> bool:
        """Whether a chunk of a pass is finished."""
        uri = self._uri(stage, chunk)
        return storage_of(uri).exists(uri)

    def forget(self, stage: str, chunk: int) -> None:
        """Delete the results of a chunk."""
        uri = self._uri(stage, chunk)
        with output_errors(uri):
            storage_of(uri).delete(uri)

    def announce(self, state: ShardState) -> None:
        """Say what a shard is doing."""
        folder = f"{self._root}/{_SHARDS}"
        name = f"{state.index}-of-{state.count}"
        with output_errors(folder):
            storage = storage_of(folder)
            storage.make_folder(folder)
            storage.put(f"{folder}/{name}.{_FINISHED if state.is_finished else _STARTED}", b"")
            storage.delete(f"{folder}/{name}.{_STARTED if state.is_finished else _FINISHED}")

    def shards(self) -> list[ShardState]:
        """The shards that have started, also of an earlier division: one listing, however many there are."""
        names = (_STATE.fullmatch(name) for name in self._names(f"{self._root}/{_SHARDS}"))
        return [ShardState(int(one[1]), int(one[2]), one[3] == _FINISHED) for one in names if one is not None]

    def other_jobs(self) -> list[str]:
        """Results of other jobs in the folder: with other settings, another version, or of other files."""
        return [name for name in self._names(self.folder) if name != self.job]

    def _names(self, folder: str) -> Iterable[str]:
        try:
            return [entry.name for entry in storage_of(folder).list(folder)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise OutputError(f"{plain(folder)}: {error.strerror or error}") from None

    def _uri(self, stage: str, chunk: int) -> str:
        return f"{self._root}/{stage}/{chunk:06d}"
