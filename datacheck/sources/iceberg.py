"""Iceberg tables: the metadata of a snapshot says which data files the table has. Those are read, and no others.

Follows https://iceberg.apache.org/spec: ``metadata/*.metadata.json`` names a snapshot, the snapshot a list of manifests,
and each manifest its data files; lists and manifests are Avro. Every name is followed inside the folder of the table only,
wherever the metadata says that it was written.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.distinct import distinct
from datacheck.sources.avro import iter_records
from datacheck.sources.base import ReadOptions
from datacheck.sources.dataset_folders import MAX_LOG_BYTES, log_error, log_errors, part_of, read_bounded
from datacheck.sources.deleted_rows import DeletedRows
from datacheck.sources.discover import InputFile
from datacheck.sources.error_translation import check_bytes, check_members
from datacheck.sources.iceberg_equality import ListedFile, deleted_by_value
from datacheck.sources.json_values import load_values
from datacheck.sources.logged_table import LoggedTable
from datacheck.sources.parquet_footer import check_footer
from datacheck.storage.registry import open_file, storage_of
from datacheck.text import plain

_METADATA = re.compile(r"v?(\d+)(?:-[^/]*)?(?:\.gz)?\.metadata\.json(?:\.gz)?")
_EXPORT = "export the snapshot that you train on to plain Parquet"
_FORMATS = {"PARQUET": "parquet", "ORC": "orc", "AVRO": "avro"}
_DELETED = 2
#: What a file holds: rows, positions of deleted rows, or values of deleted rows.
_DATA, _POSITIONS = 0, 1
#: The most rows that may be deleted by position.
_MAX_POSITIONS = 1 << 23


def list_iceberg(uri: str, options: ReadOptions) -> list[InputFile]:
    """The data files of an Iceberg table, in the snapshot ``options.table_version`` or the current one.

    Raises ``SourceError``: DC914 for what datacheck does not support.
    """
    with log_errors(uri, _EXPORT):
        return _list_files(uri, options)


class IcebergSource(LoggedTable):
    """The folder of an Iceberg table."""

    format: ClassVar[str] = "iceberg"

    def list_files(self, uri: str, options: ReadOptions) -> list[InputFile]:
        return list_iceberg(uri, options)


def _list_files(uri: str, options: ReadOptions) -> list[InputFile]:
    metadata = _read_metadata(uri)
    if int(metadata["format-version"]) > 3:
        raise log_error(uri, f"version {metadata['format-version']} of the Iceberg format is not supported", _EXPORT)
    snapshots = {one["snapshot-id"]: one for one in metadata.get("snapshots") or ()}
    wanted = metadata.get("current-snapshot-id") if options.table_version is None else options.table_version
    if wanted not in snapshots:
        raise log_error(uri, f"the Iceberg table has no snapshot {plain(str(wanted))}", "pass an existing one")
    location = str(metadata["location"]).rstrip("/")
    files: dict[str, InputFile] = {}
    listed: list[ListedFile] = []
    deletes: list[dict[str, Any]] = []
    by_value: list[ListedFile] = []
    unpartitioned = {one["spec-id"] for one in metadata.get("partition-specs") or () if not one["fields"]}
    for manifest in iter_records(uri, _open(uri, location, snapshots[wanted]["manifest-list"]), options):
        for entry in iter_records(uri, _open(uri, location, manifest["manifest_path"]), options):
            data = entry["data_file"]
            if entry["status"] == _DELETED:
                continue
            content = data.get("content") or _DATA
            if content == _POSITIONS:
                deletes.append(data)
                continue
            path = _inside(uri, location, data["file_path"])
            one = _listed(path, manifest, entry, unpartitioned if content != _DATA else ())
            if content != _DATA:
                by_value.append(one)
                continue
            listed.append(one)
            kind = _FORMATS.get(str(data["file_format"]).upper())
            if kind is None:
                raise log_error(
                    uri, f"its data files are {plain(str(data['file_format']))}, which is not supported", _EXPORT
                )
            files[path] = InputFile(path, options, kind)
            check_members(uri, len(files), options.max_members, "files")
    deleted = _deleted_rows(uri, location, deletes, options)
    affected = {path for path in deleted if path in files}
    affected |= {data.path for data in listed if any(one.is_for(data) for one in by_value)}
    if kinds := sorted({files[path].format for path in affected} - {"parquet"}):
        raise log_error(uri, f"rows of {kinds[0]} files are deleted, which is not applied here", _EXPORT)
    for path, rows in deleted_by_value(uri, listed, by_value, options):
        more = deleted[path].read(path) if path in deleted else rows
        every = np.union1d(rows, more)
        if len(every):
            deleted[path] = DeletedRows(len(every), rows=every.tobytes())
    for path in affected & deleted.keys():
        files[path] = replace(files[path], options=replace(files[path].options, deleted=deleted[path]))
    if not files:
        raise log_error(uri, f"the snapshot {plain(str(wanted))} of the Iceberg table has no files", _EXPORT)
    return [files[path] for path in sorted(files)]


def _listed(path: str, manifest: dict[str, Any], entry: dict[str, Any], unpartitioned: Collection[int]) -> ListedFile:
    """A file of a manifest, which says what its entries do not."""
    sequence = entry.get("sequence_number")
    sequence = manifest.get("sequence_number") if sequence is None else sequence
    number = int(manifest.get("partition_spec_id") or 0)
    partition = (number, repr(entry["data_file"].get("partition")))
    return ListedFile(path, entry["data_file"], int(sequence or 0), None if number in unpartitioned else partition)


def _deleted_rows(
    uri: str, location: str, deletes: Sequence[dict[str, Any]], options: ReadOptions
) -> dict[str, DeletedRows]:
    """The deleted rows of data files, by their place in the table: from files of positions, or from bitmaps."""
    found: dict[str, DeletedRows] = {}
    positions: dict[str, list[Any]] = {}
    total = 0
    for data in deletes:
        path, kind = _inside(uri, location, data["file_path"]), str(data["file_format"]).upper()
        if kind == "PUFFIN":
            owner = _inside(uri, location, data["referenced_data_file"])
            size, offset = int(data["content_size_in_bytes"]) - 8, int(data["content_offset"])
            found[owner] = DeletedRows(int(data["record_count"]), uri=path, offset=offset, size=size)
            continue
        if kind != "PARQUET":
            raise log_error(
                uri, f"its files of deleted positions are {plain(kind, 40)}, which is not supported", _EXPORT
            )
        for batch in _read_positions(path, options):
            total += batch.num_rows
            if total > _MAX_POSITIONS:
                problem = f"more than {_MAX_POSITIONS:,} of its rows are deleted by position"
                raise log_error(uri, problem, f"{_EXPORT}, or compact the table first")
            for name in batch.column("file_path").unique().to_pylist():
                rows = batch.filter(pc.equal(batch.column("file_path"), name)).column("pos").to_numpy()
                positions.setdefault(_inside(uri, location, str(name)), []).append(rows)
    for owner, parts in positions.items():
        rows = distinct(np.concatenate(parts).astype(np.int64))
        found.setdefault(owner, DeletedRows(len(rows), rows=rows.tobytes()))
    return found


def _read_positions(uri: str, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    """The paths and positions in a file of deleted rows."""
    import pyarrow.parquet as pq

    check_footer(uri, None, options)
    with open_file(uri) as file, pq.ParquetFile(file, thrift_container_size_limit=options.max_members) as parquet:
        check_bytes(uri, parquet.metadata.num_rows * 8, options.max_bytes_at_once)
        yield from parquet.iter_batches(1 << 16, columns=["file_path", "pos"], use_threads=False)


def _read_metadata(uri: str) -> dict[str, Any]:
    """The newest metadata file of a table."""
    folder = posixpath.join(uri, "metadata")
    names = [entry.name for entry in storage_of(uri).list(folder) if not entry.is_folder]
    numbered = sorted((int(match[1]), match[0]) for name in names if (match := _METADATA.fullmatch(name)))
    if not numbered:
        raise log_error(uri, "it has the metadata of an Iceberg table under no known name", _EXPORT)
    name = posixpath.join(folder, numbered[-1][1])
    content = read_bounded(name)
    if content.startswith(b"\x1f\x8b"):
        content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_LOG_BYTES)
    metadata = load_values(name, content)
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
