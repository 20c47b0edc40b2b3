"""Recognizes folders that are one dataset, by the names in them. Reads no format, so that it costs nothing elsewhere."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from datacheck.storage.base import Entry, Storage

__all__ = ["DCP_METADATA", "DCP_SUFFIX", "DELTA_LOG", "is_dcp", "is_delta", "is_iceberg"]

DELTA_LOG = "_delta_log"
DCP_METADATA, DCP_SUFFIX = ".metadata", ".distcp"


def is_iceberg(storage: Storage, folder: str, entries: Sequence[Entry]) -> bool:
    """Whether a folder has the metadata of an Iceberg table."""
    if not any(entry.name == "metadata" and entry.is_folder for entry in entries):
        return False
    try:
        return any(".metadata.json" in entry.name for entry in storage.list(posixpath.join(folder, "metadata")))
    except OSError:
        return False


def is_delta(_storage: Storage, _folder: str, entries: Sequence[Entry]) -> bool:
    """Whether a folder has the log of a Delta table."""
    return any(entry.name == DELTA_LOG and entry.is_folder for entry in entries)


def is_dcp(_storage: Storage, _folder: str, entries: Sequence[Entry]) -> bool:
    """Whether a folder is a distributed checkpoint of torch."""
    names = [entry.name for entry in entries if not entry.is_folder]
    return DCP_METADATA in names and any(name.endswith(DCP_SUFFIX) for name in names)
