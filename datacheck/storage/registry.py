"""Which storage holds a URI."""

from __future__ import annotations

import errno
import importlib

from datacheck.storage.base import DataFile, Storage
from datacheck.storage.local import LocalStorage
from datacheck.storage.os_calls import NOT_REGULAR

LOCAL = LocalStorage()
_by_scheme: dict[str, Storage] = {}
_OBJECTS = "datacheck.storage.object_storage:OBJECTS"
#: Storages that are imported when a URI of theirs is first used.
_BUILT_IN = {
    **dict.fromkeys(("s3", "gs", "az", "https", "http"), _OBJECTS),
    "hf": "datacheck.storage.hub:HUB",
}


def register_storage(scheme: str, storage: Storage) -> None:
    """Use a storage for every URI that begins with ``scheme://``; a storage of the same scheme is replaced."""
    _by_scheme[scheme] = storage


def known_schemes() -> list[str]:
    """The schemes of URIs that have a storage."""
    return list({**_BUILT_IN, **_by_scheme})


def is_built_in(uri: str) -> bool:
    """Whether every process of datacheck finds the storage of a URI, and not only one that registered it."""
    scheme, separator, _ = uri.partition("://")
    return not separator or scheme not in _by_scheme or scheme in _BUILT_IN


def storage_of(uri: str) -> Storage:
    """The storage for the scheme of a URI; the local file system if no storage has that scheme."""
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return LOCAL
    if scheme not in _by_scheme and scheme in _BUILT_IN:
        module, _, name = _BUILT_IN[scheme].partition(":")
        register_storage(scheme, getattr(importlib.import_module(module), name))
    return _by_scheme.get(scheme, LOCAL)


def open_file(uri: str) -> DataFile:
    """Open an input for reading, wherever it is stored; raises ``OSError``."""
    return storage_of(uri).open(uri, recent=True)


def library_path(uri: str) -> str | None:
    """The path of an input, for C libraries that open and map files themselves; None where it has none.

    Raises ``OSError`` for what they might wait for without end.
    """
    storage = storage_of(uri)
    path = storage.local_path(uri)
    if path is not None and storage.stat(uri).kind == "other":
        raise OSError(errno.EINVAL, NOT_REGULAR, uri)
    return path


def read_bytes(uri: str) -> bytes:
    """The whole content of a small file; raises ``OSError``."""
    with open_file(uri) as file:
        return file.read()


def hold_in_memory(uri: str, max_bytes: int) -> None:
    """Read a small local file at once; until :func:`release_memory`, or the next file, this thread reads it from memory."""
    if storage_of(uri) is LOCAL:
        LOCAL.hold(uri, max_bytes)


def release_memory() -> None:
    """Hold no file in memory any longer."""
    LOCAL.release()


def held_in_memory(uri: str) -> bytes | None:
    """The content of the file that this thread holds; None for any other."""
    return LOCAL.held(uri)
