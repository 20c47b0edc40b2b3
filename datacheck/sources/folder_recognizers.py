"""Recognizes folders that are one dataset, by the names in them. Reads no format, so that it costs nothing elsewhere."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from datacheck.errors import SourceError
from datacheck.sources.dataset_folders import read_bounded
from datacheck.sources.json_values import load_values
from datacheck.storage.base import Entry, Storage

DELTA_LOG = "_delta_log"
DCP_METADATA, DCP_SUFFIX = ".metadata", ".distcp"
SHARD_INDEX = "index.json"
_MAX_INDEX_BYTES = 64 << 20
ZARR_METADATA = frozenset({"zarr.json", ".zgroup", ".zarray", ".zmetadata"})


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


def is_dcp(storage: Storage, folder: str, entries: Sequence[Entry]) -> bool:
    """Whether a folder is a distributed checkpoint of torch, or what is left of one whose files are gone."""
    names = [entry.name for entry in entries if not entry.is_folder]
    if DCP_METADATA not in names or any(name.endswith(DCP_SUFFIX) for name in names):
        return any(name.endswith(DCP_SUFFIX) for name in names)
    try:
        with storage.open(posixpath.join(folder, DCP_METADATA)) as file:
            return b"torch.distributed.checkpoint" in file.read_at(0, 1 << 12)
    except OSError:
        return False


def is_zarr(_storage: Storage, folder: str, entries: Sequence[Entry]) -> bool:
    """Whether a folder is a Zarr store: it has the metadata of an array or a group, or the name of one."""
    return folder.lower().endswith(".zarr") or any(
        entry.name in ZARR_METADATA and not entry.is_folder for entry in entries
    )


def is_lance(_storage: Storage, folder: str, entries: Sequence[Entry]) -> bool:
    """Whether a folder is a Lance dataset: it has versions, or the name of one."""
    return folder.lower().endswith(".lance") or any(entry.name == "_versions" and entry.is_folder for entry in entries)


def read_index(folder: str) -> Any:
    """The index of a folder of shards; raises what ``json`` raises, ``OSError`` and, for a bomb, ``SourceError``."""
    name = posixpath.join(folder, SHARD_INDEX)
    return load_values(name, read_bounded(name, _MAX_INDEX_BYTES))


def is_litdata(_storage: Storage, folder: str, entries: Sequence[Entry]) -> bool:
    """Whether a folder has the index of LitData."""
    if not any(entry.name == SHARD_INDEX and not entry.is_folder for entry in entries):
        return False
    try:
        record = read_index(folder)
    except (SourceError, OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "chunks" in record and isinstance(record.get("config"), dict)
