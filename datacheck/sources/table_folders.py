"""Folders that are tables: a log in them says which of their files belong to the table, and the others are left over."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from datacheck.errors import SourceError
from datacheck.storage.base import Entry, Storage

__all__ = ["table_above", "table_error", "table_kind"]

_EXPORT = {
    "Delta": "export the version that you train on to plain Parquet, or pass the files that"
    " deltalake.DeltaTable(...).file_uris() names",
    "Iceberg": "export the snapshot that you train on to plain Parquet, or pass the files that pyiceberg's"
    " table.scan().plan_files() names",
}


def table_kind(storage: Storage, folder: str, entries: Iterable[Entry]) -> str | None:
    """What kind of table a folder is, by its entries; None for an ordinary folder."""
    folders = {entry.name for entry in entries if entry.is_folder}
    if "_delta_log" in folders:
        return "Delta"
    if "metadata" in folders and any(
        entry.name.endswith(".metadata.json") for entry in _list(storage, posixpath.join(folder, "metadata"))
    ):
        return "Iceberg"
    return None


def table_above(storage: Storage, uri: str) -> tuple[str, str] | None:
    """The table that a file lies in, with its kind: right in it, in a folder of a partition, or in Iceberg's ``data``."""
    folder = posixpath.dirname(uri)
    while "=" in posixpath.basename(folder):
        folder = posixpath.dirname(folder)
    candidates = [folder, posixpath.dirname(folder)] if posixpath.basename(folder) == "data" else [folder]
    for candidate in candidates:
        kind = table_kind(storage, candidate, _list(storage, candidate or "."))
        if kind is not None:
            return candidate, kind
    return None


def table_error(uri: str, kind: str) -> SourceError:
    return SourceError("DC914", uri, f"it is {'an' if kind[0] in 'AEIOU' else 'a'} {kind} table", _EXPORT[kind])


def _list(storage: Storage, folder: str) -> Sequence[Entry]:
    try:
        return storage.list(folder)
    except OSError:
        return ()
