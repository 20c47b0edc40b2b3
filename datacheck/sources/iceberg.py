"""Iceberg tables: the metadata of a snapshot says which data files the table has. Those are read, and no others.

Follows https://iceberg.apache.org/spec: ``metadata/*.metadata.json`` names a snapshot, the snapshot a list of manifests,
and each manifest its data files; lists and manifests are Avro. Every name is followed inside the folder of the table only,
wherever the metadata says that it was written.
"""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.avro import iter_records
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit
from datacheck.sources.dataset_folders import MAX_LOG_BYTES, log_error, log_errors, part_of, read_bounded
from datacheck.sources.discover import InputFile
from datacheck.storage.registry import storage_of
from datacheck.text import plain, quantity

__all__ = ["IcebergSource", "list_iceberg"]

_METADATA = re.compile(r"v?(\d+)(?:-[^/]*)?(?:\.gz)?\.metadata\.json(?:\.gz)?")
_EXPORT = "export the snapshot that you train on to plain Parquet"
_FORMATS = {"PARQUET": "parquet", "ORC": "orc", "AVRO": "avro"}
_DELETED = 2


def list_iceberg(uri: str, options: ReadOptions) -> list[InputFile]:
    """The data files of an Iceberg table, in the snapshot ``options.table_version`` or the current one.

    Raises ``SourceError``: DC914 for what is not known here.
    """
    with log_errors(uri, _EXPORT):
        return _list_files(uri, options)


class IcebergSource:
    """Says why the metadata of a table cannot be followed; where they can, its files are read in their formats."""

    format: ClassVar[str] = "iceberg"

    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        list_iceberg(uri, options)
        raise log_error(uri, "it is the folder of a table", "name the folder, not this")

    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        raise log_error(unit.uri, "it is the folder of a table", "name the folder, not this")


def _list_files(uri: str, options: ReadOptions) -> list[InputFile]:
    metadata = _read_metadata(uri)
    if int(metadata["format-version"]) > 3:
        raise log_error(uri, f"version {metadata['format-version']} of the Iceberg format is not known here", _EXPORT)
    snapshots = {one["snapshot-id"]: one for one in metadata.get("snapshots") or ()}
    wanted = metadata.get("current-snapshot-id") if options.table_version is None else options.table_version
    if wanted not in snapshots:
        raise log_error(uri, f"the Iceberg table has no snapshot {plain(str(wanted))}", "pass one that it has")
    location = str(metadata["location"]).rstrip("/")
    files: dict[str, InputFile] = {}
    deletes = 0
    for manifest in iter_records(uri, _open(uri, location, snapshots[wanted]["manifest-list"]), options):
        for entry in iter_records(uri, _open(uri, location, manifest["manifest_path"]), options):
            data = entry["data_file"]
            if entry["status"] == _DELETED:
                continue
            if data.get("content") or 0:
                deletes += 1
                continue
            kind = _FORMATS.get(str(data["file_format"]).upper())
            if kind is None:
                raise log_error(
                    uri, f"its data files are {plain(str(data['file_format']))}, which is not read", _EXPORT
                )
            path = _inside(uri, location, data["file_path"])
            files[path] = InputFile(path, options, kind)
            if len(files) > options.max_members:
                problem = f"it has more than {options.max_members:,} files"
                raise SourceError("DC904", uri, problem, "if the table is trusted, raise the limit max_members")
    if deletes:
        problem = (
            f"rows of the Iceberg table are deleted by {quantity(deletes, 'delete file')}, which are not applied here"
        )
        raise log_error(uri, problem, f"{_EXPORT}, or compact the table first")
    if not files:
        raise log_error(uri, f"the snapshot {plain(str(wanted))} of the Iceberg table has no files", _EXPORT)
    return [files[path] for path in sorted(files)]


def _read_metadata(uri: str) -> dict[str, Any]:
    """The newest metadata file of a table."""
    folder = posixpath.join(uri, "metadata")
    names = [entry.name for entry in storage_of(uri).list(folder) if not entry.is_folder]
    numbered = sorted((int(match[1]), match[0]) for name in names if (match := _METADATA.fullmatch(name)))
    if not numbered:
        raise log_error(uri, "it has the metadata of an Iceberg table under no known name", _EXPORT)
    content = read_bounded(posixpath.join(folder, numbered[-1][1]))
    if content.startswith(b"\x1f\x8b"):
        content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_LOG_BYTES)
    metadata = json.loads(content)
    if not isinstance(metadata, dict):
        raise ValueError("the metadata is not a JSON object")
    return metadata


def _inside(uri: str, location: str, path: str) -> str:
    """Where a file of a table is now, which was written below ``location``."""
    if not path.startswith(f"{location}/"):
        problem = f"its metadata name {plain(path, 120)}, which is not below its location {plain(location, 120)}"
        raise log_error(uri, problem, _EXPORT)
    return part_of(uri, path[len(location) + 1 :])


def _open(uri: str, location: str, path: str) -> io.BytesIO:
    return io.BytesIO(read_bounded(_inside(uri, location, path)))
