"""Open the output of ``datacheck run`` with the original file and row of each row."""

from __future__ import annotations

import bisect
import functools
import itertools
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.errors import SourceError, UsageError, nearest_name
from datacheck.formats import format_of_name, get_format, is_one_array
from datacheck.leaves import IntArray
from datacheck.sources import get_source, source_for
from datacheck.sources.aligned import inspect_aligned
from datacheck.sources.base import InputInfo, ReadOptions
from datacheck.sources.detect import inspect_input
from datacheck.sources.discover import InputFile, Inputs
from datacheck.sources.optional import MissingLibraryError
from datacheck.storage import open_file, read_bytes, storage_of
from datacheck.text import join_limited, plain
from datacheck.torch.loader.index_complement import IndexComplement
from datacheck.torch.loader.provenance import SampleOrigin

MANIFEST_NAME = "manifest.json"
_MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class Part:
    """Files that are read together as one table, and which rows of which original file they hold.

    Row ``k`` is row ``row_start + kept[k]`` of ``uri``, or ``row_start + k`` if ``kept`` is None. ``error`` says why a file
    that is one sample cannot be read.
    """

    info: InputInfo
    num_rows: int
    uri: str
    row_start: int = 0
    kept: IndexComplement | None = None
    error: SourceError | None = None

    def origin(self, row: int) -> SampleOrigin:
        """The original file and row of a row; the caller sets the index."""
        original = self.row_start + (row if self.kept is None else self.kept[row])
        return SampleOrigin(-1, self.uri, _row_group(self.uri, original), original)


@functools.lru_cache(maxsize=1024)
def _group_ends(uri: str) -> tuple[int, ...] | None:
    """The end of each row group of a Parquet file; None for other files and for a missing one."""
    try:
        with open_file(uri) as file:
            metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowException):
        return None
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return tuple(np.cumsum(counts).tolist())


def _row_group(uri: str, row: int) -> int | None:
    record = format_of_name(uri)
    ends = _group_ends(uri) if record is not None and record.name == "parquet" else None
    return None if ends is None else bisect.bisect_right(ends, row)


def parts_of_files(inputs: Inputs) -> list[Part]:
    """Files that no run published; raises ``UsageError`` and ``SourceError``.

    A file that is one sample and cannot be read is a sample that raises, unless there are no others.
    """
    parts = list(map(_part_of_file, inputs.files))
    errors = [part.error for part in parts if part.error is not None]
    if errors and len(errors) == len(parts):
        raise errors[0]
    return parts


def _part_of_file(file: InputFile) -> Part:
    try:
        return _whole_part(inspect_input(file), file.uri)
    except MissingLibraryError:
        raise
    except SourceError as error:
        record = get_format(file.format) if file.format else format_of_name(file.uri)
        if record is None or not (record.is_sample or (record.is_arrays and file.options.rows == "file")):
            raise
        return Part(InputInfo(file.uri, record.name, 0, 1, ()), 1, file.uri, error=error)


def parts_of_table(files: Mapping[str, str], options: ReadOptions) -> list[Part]:
    """Arrays by field that are aligned row by row."""
    info = inspect_aligned(files, options)
    return [_whole_part(info, info.uri)]


def _whole_part(info: InputInfo, uri: str) -> Part:
    """All rows of a file but its malformed lines, which have row numbers, too."""
    if not info.aligned:
        raise UsageError(f"{plain(info.uri)}: its arrays do not make up one table: {info.problem}")
    if info.num_rows is not None:
        return Part(info, info.num_rows, uri)
    num_rows, malformed = 0, []
    for unit in info.units:
        for batch in get_source(info.format).read(unit):
            num_rows += batch.num_rows if batch.counts_rows else 0
            malformed += [line.row for line in batch.malformed]
            # The next batch is read into the memory of this one.
            del batch
    if not malformed:
        return Part(info, num_rows, uri)
    removed = np.array(malformed, np.int64)
    return Part(info, num_rows, uri, kept=IndexComplement(num_rows + len(removed), removed))


def parts_of_output(path: str, split: str | None, options: ReadOptions) -> list[Part] | None:
    """The parts of a published output, of one of its splits, or of a file in it; None if ``path`` is none of these."""
    parent, name = posixpath.split(path.rstrip("/"))
    grandparent, parent_name = posixpath.split(parent)
    for folder, inner in ((path, None), (parent or ".", name), (grandparent or ".", f"{parent_name}/{name}")):
        if not storage_of(folder).exists(_join(folder, MANIFEST_NAME)):
            continue
        manifest = _read(_join(folder, MANIFEST_NAME))
        if inner is None:
            return list(_parts_of_split(folder, manifest, split, None, options))
        if inner in _splits(manifest):
            return list(_parts_of_split(folder, manifest, inner, None, options))
        named = list(_parts_of_split(folder, manifest, split or inner.partition("/")[0], inner, options))
        if named:
            return named
    return None


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _read(uri: str) -> dict[str, Any]:
    try:
        record = json.loads(read_bytes(uri))
        if record["version"] == _MANIFEST_VERSION and isinstance(record["inputs"], list):
            return dict(record)
        problem = f"expected version {_MANIFEST_VERSION}, got {record['version']!r}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = plain(repr(error))
    raise UsageError(f"{plain(uri)}: not a manifest of datacheck ({problem}); run 'datacheck run' again")


def _splits(manifest: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(account["split"] for account in manifest["inputs"]))


def _parts_of_split(
    folder: str, manifest: Mapping[str, Any], split: str | None, only: str | None, options: ReadOptions
) -> Iterator[Part]:
    splits = _splits(manifest)
    if split is None:
        if len(splits) != 1:
            raise UsageError(
                f"{plain(folder)}: it has the splits {join_limited(splits)}; name one: split={splits[0]!r}"
            )
        split = splits[0]
    elif split not in splits:
        if only is not None:
            return
        hint = nearest_name(split, splits) or f"; splits: {join_limited(splits)}"
        raise UsageError(f"{plain(folder)}: no split {split!r}{hint}")
    for account in manifest["inputs"]:
        if account["split"] == split:
            yield from _parts_of_account(folder, account, only, options)


def _parts_of_account(
    folder: str, account: Mapping[str, Any], only: str | None, options: ReadOptions
) -> Iterator[Part]:
    """The parts of one input: one per file of rows, or one for all aligned arrays."""
    rows = [part for part in account["outputs"] if part["kind"] == "rows" and only in (None, part["path"])]
    ledgers = [part for part in account["outputs"] if part["kind"] == "ledger"]
    gone = [_removed(_inside(folder, ledger["path"])) for ledger in ledgers]
    removed = np.sort(np.concatenate(gone)) if gone else np.empty(0, np.int64)
    uri = account["uri"]
    if account.get("rows") == "file":
        options = replace(options, rows="file")
    if account["files"] and rows and all(is_one_array(part["path"]) for part in rows):
        for _, aligned in itertools.groupby(rows, lambda part: part.get("rows")):
            same = list(aligned)
            files = {_field_of(part["path"]): _inside(folder, part["path"]) for part in same}
            yield _part(inspect_aligned(files, options), same[0], uri, removed)
        return
    for part in rows:
        file = _inside(folder, part["path"])
        yield _part(source_for(file).inspect(file, options), part, uri, removed)


def _field_of(path: str) -> str:
    """The field whose array is in a file of the output, written by a run or a requeue."""
    return re.sub(r"\.requeued-\d+$", "", posixpath.splitext(posixpath.basename(path))[0])


def _part(info: InputInfo, record: Mapping[str, Any], uri: str, removed: IntArray) -> Part:
    start, count = int(record["row_start"]), int(record["num_read"])
    if record.get("rows") is not None:
        # Rows that were quarantined, fixed and added back, which the file lists.
        others = np.delete(np.arange(count, dtype=np.int64), np.asarray(record["rows"], np.int64) - start)
        return Part(info, int(record["num_rows"]), uri, start, IndexComplement(count, others))
    within = removed[(removed >= start) & (removed < start + count)] - start
    part = Part(info, int(record["num_rows"]), uri, start, IndexComplement(count, within))
    if count - len(within) != part.num_rows:
        raise UsageError(
            f"{plain(info.uri)}: its ledger does not match its rows ({count:,} read, {len(within):,} removed, "
            f"{part.num_rows:,} kept); run 'datacheck run' again"
        )
    return part


def _removed(uri: str) -> IntArray:
    try:
        with open_file(uri) as file:
            rows: IntArray = pq.read_table(file, columns=["row"]).column("row").to_numpy().astype(np.int64)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"{plain(uri)}: cannot be read as a ledger: {plain(str(error))}; run 'datacheck run' again"
        ) from None
    return rows


def _inside(folder: str, name: str) -> str:
    """The path of a file that a manifest names; raises ``UsageError`` for one outside the folder."""
    path = _join(folder, name)
    storage = storage_of(folder)
    if not storage.resolve(path).startswith(_join(storage.resolve(folder), "")):
        raise UsageError(f"{plain(_join(folder, MANIFEST_NAME))}: names {plain(name)!r}, which is outside its folder")
    return path
