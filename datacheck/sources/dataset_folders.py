"""Folders that are one dataset: a store of arrays, or a table whose log says which of its files belong to it."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from datacheck.errors import DatacheckError, SourceError
from datacheck.formats import BUILT_IN, Format, load
from datacheck.storage.base import Entry, Storage
from datacheck.storage.os_errors import machine_failure
from datacheck.storage.registry import storage_of
from datacheck.text import plain

#: The largest file of a log that is read.
MAX_LOG_BYTES = 256 << 20


#: What a run writes beside the splits of its output, none of which has such a name, and how its manifest begins.
_BESIDE_SPLITS, _MANIFEST = frozenset({"ledger", "quarantine"}), "manifest.json"
_HEAD_OF_MANIFEST = re.compile(rb'\{\s*"version":\s*\d+,\s*"datacheck":')


def dataset_folder(storage: Storage, folder: str, entries: Sequence[Entry] | None = None) -> Format | None:
    """The format of a folder that is one dataset, by its entries; None for an ordinary folder."""
    if entries is None:
        entries = _list(storage, folder or ".")
    for record in BUILT_IN.values():
        if record.folder and load(record.folder)(storage, folder, entries):
            return record
    return None


def set_aside(storage: Storage, folder: str, entries: Sequence[Entry]) -> frozenset[str]:
    """The folders in the output of a run that are no data to train on: its ledger, and what it quarantined."""
    names = {entry.name for entry in entries if entry.is_folder} & _BESIDE_SPLITS
    if not names or all(entry.name != _MANIFEST for entry in entries):
        return frozenset()
    with suppress(OSError), storage.open(posixpath.join(folder, _MANIFEST)) as file:
        if _HEAD_OF_MANIFEST.match(file.read_at(0, 256)):
            return frozenset(names)
    return frozenset()


def dataset_above(storage: Storage, uri: str) -> tuple[str, Format] | None:
    """The dataset with a log that a file lies in: right in it, in a folder of a partition, or in a folder ``data``."""
    folder = posixpath.dirname(uri)
    while "=" in posixpath.basename(folder):
        folder = posixpath.dirname(folder)
    candidates = [folder, posixpath.dirname(folder)] if posixpath.basename(folder) == "data" else [folder]
    for candidate in candidates:
        record = dataset_folder(storage, candidate)
        if record is not None:
            return candidate, record
    return None


def log_error(uri: str, problem: str, remedy: str) -> SourceError:
    """The error of a table whose log does not say, in a way that datacheck supports, which rows it has."""
    return SourceError("DC914", uri, problem, remedy)


@contextmanager
def log_errors(uri: str, remedy: str) -> Iterator[None]:
    """Around reading a log, which may be damaged: what is raised becomes a ``SourceError``."""
    try:
        yield
    except DatacheckError:
        raise
    except Exception as error:
        if (failure := machine_failure(error)) is not None:
            raise SourceError("DC910", uri, *failure) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise log_error(uri, f"its log cannot be read ({plain(lines[0], 200)})", remedy) from error


def part_of(folder: str, name: str) -> str:
    """The URI of a file that an index of ``folder`` names; raises ``SourceError`` for a name that leads out of it."""
    if not name or name.startswith("/") or "\\" in name or "\0" in name or "://" in name or ".." in name.split("/"):
        problem = f"it names the file {plain(repr(name), 120)}, which is outside its folder"
        raise log_error(folder, problem, "copy the file into the folder and write the index again")
    return posixpath.join(folder, name)


def read_bounded(uri: str, limit: int = MAX_LOG_BYTES) -> bytes:
    """The content of a file of a log; raises ``SourceError`` where it is larger than ``limit``, and ``OSError``."""
    with storage_of(uri).open(uri) as file:
        size = file.seek(0, os.SEEK_END)
        # A buffer of the limit would be made for it, however small the file is.
        content = file.read_at(0, min(size, limit + 1))
    if len(content) > limit:
        raise SourceError("DC904", uri, f"it has more than {limit:,} bytes", "shorten the log with a checkpoint")
    return content


def _list(storage: Storage, folder: str) -> Sequence[Entry]:
    try:
        return storage.list(folder)
    except OSError:
        return ()
