"""Delta tables: the log says which Parquet files a version of the table has. Those are read, and no others.

The log is that of https://github.com/delta-io/delta/blob/master/PROTOCOL.md: commits as JSON, and now and then a checkpoint
of what they add up to, as Parquet. What a reader must support and datacheck does not is refused, never guessed.
"""

from __future__ import annotations

import json
import posixpath
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from datacheck.sources.base import ReadOptions
from datacheck.sources.dataset_folders import log_error, log_errors, part_of, read_bounded
from datacheck.sources.deleted_rows import DeletedRows, decode_z85
from datacheck.sources.discover import InputFile
from datacheck.sources.error_translation import HIVE_NULL, check_members
from datacheck.sources.folder_recognizers import DELTA_LOG
from datacheck.sources.json_values import check_values
from datacheck.sources.logged_table import LoggedTable
from datacheck.sources.parquet_footer import check_footer
from datacheck.storage.registry import open_file, storage_of
from datacheck.text import join_limited, plain

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
_ACTIONS = ("add", "remove", "protocol", "metaData")
#: The number of characters of the UUID at the end of the name of a file of deletion vectors.
_UUID_CHARACTERS = 20
_EXPORT = "export the version that you train on to plain Parquet"
#: What a reader needs for a feature is either nothing, or checked where it is used.
_FEATURES = frozenset({
    "timestampNtz", "deletionVectors", "columnMapping", "v2Checkpoint", "vacuumProtocolCheck", "typeWidening",
    "typeWidening-preview",
})  # fmt: skip
_DTYPES = {
    "long": "int64", "integer": "int32", "short": "int16", "byte": "int8", "double": "float64", "float": "float32",
    "boolean": "bool", "date": "date32[day]", "string": "string",
}  # fmt: skip


def list_delta(uri: str, options: ReadOptions) -> list[InputFile]:
    """The Parquet files of a Delta table, at ``options.table_version`` or the newest one, with their partition columns.

    Raises ``SourceError``: DC914 for what datacheck does not support, DC911 where a part of the log is missing.
    """
    with log_errors(uri, _EXPORT):
        return _list_files(uri, options)


class DeltaSource(LoggedTable):
    """The folder of a Delta table."""

    format: ClassVar[str] = "delta"

    def list_files(self, uri: str, options: ReadOptions) -> list[InputFile]:
        return list_delta(uri, options)


def _list_files(uri: str, options: ReadOptions) -> list[InputFile]:
    state = _replay(uri, options)
    dtypes = state.partition_dtypes()
    files = []
    for path, values in sorted(state.files.items()):
        partitions = tuple((name, HIVE_NULL if value is None else value) for name, value in values.items())
        deleted = _deleted_rows(uri, state.vectors[path]) if path in state.vectors else None
        read = replace(options, partitions=partitions, dtypes=options.dtypes or dtypes, deleted=deleted)
        files.append(InputFile(part_of(uri, path), read, "parquet"))
    if not files:
        raise log_error(uri, f"version {state.version} of the table has no files", "pass a version that has rows")
    return files


def _deleted_rows(uri: str, vector: dict[str, Any]) -> DeletedRows:
    """The deletion vector of a file, by its record in the log."""
    kind, text = str(vector["storageType"]), str(vector["pathOrInlineDv"])
    size, cardinality = int(vector["sizeInBytes"]), int(vector["cardinality"])
    if kind == "i":
        return DeletedRows(cardinality, inline=decode_z85(text)[:size])
    if kind != "u" or len(text) < _UUID_CHARACTERS:
        raise log_error(uri, f"a deletion vector lies outside the table ({plain(text, 80)})", _EXPORT)
    prefix, name = text[:-_UUID_CHARACTERS], uuid.UUID(bytes=decode_z85(text[-_UUID_CHARACTERS:]))
    path = posixpath.join(prefix, f"deletion_vector_{name}.bin")
    return DeletedRows(cardinality, uri=part_of(uri, path), offset=int(vector.get("offset") or 0), size=size)


@dataclass(slots=True)
class _State:
    """What the commits up to ``version`` add up to: the files with the values of their partition columns."""

    uri: str
    version: int
    files: dict[str, dict[str, str | None]] = field(default_factory=dict)
    vectors: dict[str, dict[str, Any]] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def apply(self, action: dict[str, Any]) -> None:
        if added := action.get("add"):
            path = unquote(added["path"])
            self.files[path] = dict(added.get("partitionValues") or {})
            self.vectors.pop(path, None)
            if added.get("deletionVector"):
                self.vectors[path] = added["deletionVector"]
        elif removed := action.get("remove"):
            path = unquote(removed["path"])
            # An update of a deletion vector adds the file again in the same commit, in any order.
            self.files.pop(path, None)
            self.vectors.pop(path, None)
        self.protocol = action.get("protocol") or self.protocol
        self.metadata = action.get("metaData") or self.metadata

    def check(self) -> None:
        """Raise ``SourceError`` for what this reader does not know."""
        features = set(self.protocol.get("readerFeatures") or ())
        unknown = sorted(map(str, features - _FEATURES))
        if unknown or int(self.protocol.get("minReaderVersion") or 1) > 3:
            what = join_limited(unknown) if unknown else f"version {self.protocol['minReaderVersion']} of the protocol"
            raise log_error(
                self.uri, f"reading the Delta table needs {what}, which datacheck does not support", _EXPORT
            )
        mode = dict(self.metadata.get("configuration") or {}).get("delta.columnMapping.mode", "none")
        if mode != "none":
            problem = (
                "the Delta table maps the names of its columns (delta.columnMapping.mode), which is not applied here"
            )
            raise log_error(self.uri, problem, _EXPORT)

    def partition_dtypes(self) -> tuple[tuple[str, str], ...]:
        names = list(self.metadata.get("partitionColumns") or ())
        fields = json.loads(self.metadata.get("schemaString") or "{}").get("fields", []) if names else []
        return tuple(
            (one["name"], _DTYPES[one["type"]])
            for one in fields
            if one["name"] in names and isinstance(one["type"], str) and one["type"] in _DTYPES
        )


def _replay(uri: str, options: ReadOptions) -> _State:
    log = posixpath.join(uri, DELTA_LOG)
    names = [entry.name for entry in storage_of(uri).list(log) if not entry.is_folder]
    commits = {int(match[1]): match[0] for name in names if (match := _COMMIT.fullmatch(name))}
    checkpoints = _checkpoints(names)
    newest = max([*commits, *checkpoints], default=None)
    if newest is None:
        raise log_error(uri, "it has the folder _delta_log of a Delta table, and no commits in it", _EXPORT)
    version = newest if options.table_version is None else options.table_version
    base = max((number for number in checkpoints if number <= version), default=-1)
    missing = [number for number in range(base + 1, version + 1) if number not in commits]
    if missing:
        problem = f"commit {missing[0]} of the log is missing, so version {version} of the Delta table is not known"
        raise log_error(uri, problem, f"pass a version that is here (the newest is {newest}), or restore the log")
    state = _State(uri, version)
    for name in checkpoints.get(base, ()):
        _apply(state, _checkpoint_actions(posixpath.join(log, name), options), options)
    for number in range(base + 1, version + 1):
        name = posixpath.join(log, commits[number])
        content = read_bounded(name)
        check_values(name, content)
        actions = [json.loads(line) for line in content.splitlines() if line.strip()]
        # What a commit removes is what was there before it.
        _apply(state, sorted(actions, key=lambda action: "remove" not in action), options)
    state.check()
    return state


def _apply(state: _State, actions: Iterable[dict[str, Any]], options: ReadOptions) -> None:
    for action in actions:
        state.apply(action)
        check_members(state.uri, len(state.files), options.max_members, "files")


def _checkpoints(names: Iterable[str]) -> dict[int, list[str]]:
    """The files of each complete checkpoint, by version."""
    found: dict[int, dict[int, list[str]]] = {}
    for name in sorted(names):
        if match := _CHECKPOINT.fullmatch(name):
            found.setdefault(int(match[1]), {}).setdefault(int(match[3] or 1), []).append(name)
    return {
        version: next(parts for total, parts in by_total.items() if len(parts) == total)
        for version, by_total in found.items()
        if any(len(parts) == total for total, parts in by_total.items())
    }


def _checkpoint_actions(uri: str, options: ReadOptions) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    check_footer(uri, None, ReadOptions())
    num_actions = 0
    with open_file(uri) as file, pq.ParquetFile(file, thrift_container_size_limit=ReadOptions().max_members) as parquet:
        # A checkpoint names a file that was removed only for those who delete it: it adds no such file.
        wanted = [name for name in parquet.schema_arrow.names if name in (*_ACTIONS, "sidecar") and name != "remove"]
        for batch in parquet.iter_batches(1024, columns=wanted):
            is_action = np.zeros(batch.num_rows, np.bool_)
            for column in batch.columns:
                is_action |= column.is_valid().to_numpy(zero_copy_only=False)
            num_actions += int(np.count_nonzero(is_action))
            check_members(uri, num_actions, options.max_members, "actions")
            for record in batch.filter(pa.array(is_action)).to_pylist() if is_action.any() else ():
                if record.get("sidecar"):
                    raise log_error(
                        uri, "the checkpoint of its log has sidecar files, which datacheck does not support", _EXPORT
                    )
                yield {key: _as_mapping(value) for key, value in record.items() if value is not None}


def _as_mapping(value: dict[str, Any]) -> dict[str, Any]:
    """A struct of a checkpoint with its maps, which Arrow gives as lists of pairs, as mappings."""
    maps = ("partitionValues", "configuration")
    return {name: dict(one) if name in maps and one is not None else one for name, one in value.items()}
