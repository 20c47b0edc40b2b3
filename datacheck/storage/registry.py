"""Which storage holds a URI."""

from __future__ import annotations

from datacheck.storage.base import DataFile, Storage
from datacheck.storage.local import LocalStorage

__all__ = ["LOCAL", "open_file", "read_bytes", "register_storage", "storage_of"]

LOCAL = LocalStorage()
_by_scheme: dict[str, Storage] = {}


def register_storage(scheme: str, storage: Storage) -> None:
    """Use a storage for every URI that begins with ``scheme://``; a storage of the same scheme is replaced."""
    _by_scheme[scheme] = storage


def storage_of(uri: str) -> Storage:
    """The storage that holds a URI: that of its scheme, the local file system where no storage has that scheme."""
    scheme, separator, _ = uri.partition("://")
    return _by_scheme.get(scheme, LOCAL) if separator else LOCAL


def open_file(uri: str) -> DataFile:
    """Open a file for reading, wherever it is stored; raises ``OSError``."""
    return storage_of(uri).open(uri)


def read_bytes(uri: str) -> bytes:
    """The whole content of a small file; raises ``OSError``."""
    with open_file(uri) as file:
        return file.read()
