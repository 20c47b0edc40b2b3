"""The output of ``datacheck run``, read as what it is: rows of other files, less those that were taken out."""

from __future__ import annotations

import bisect
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.errors import UsageError, nearest_name
from datacheck.formats import format_of_name
from datacheck.leaves import IntArray
from datacheck.sources import expand_inputs, source_for
from datacheck.sources.aligned import inspect_aligned
from datacheck.sources.base import InputInfo, ReadOptions
from datacheck.text import join_limited, plain
from datacheck.torch.loader.index_complement import GoodIndices
from datacheck.torch.loader.provenance import SampleOrigin

__all__ = ["Part", "parts_of_files", "parts_of_output", "parts_of_table"]

MANIFEST_NAME = "manifest.json"
_MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class Part:
    """Files that are read together as one table, and which rows of which file they hold.

    Row ``k`` is row ``row_start + kept[k]`` of ``uri``; all rows are kept where ``kept`` is None.
    """

    info: InputInfo
    num_rows: int
    uri: str
    row_start: int = 0
    kept: GoodIndices | None = None

    def origin(self, row: int) -> SampleOrigin:
        """The original file and row of a row; the index is left to whoever knows it."""
        original = self.row_start + (row if self.kept is None else self.kept[row])
        return SampleOrigin(-1, self.uri, _row_group(self.uri, original), original)


@functools.lru_cache(maxsize=1024)
def _group_ends(uri: str) -> tuple[int, ...] | None:
    """The row after each row group of a Parquet file; None for other files and for one that is gone."""
    try:
        metadata = pq.read_metadata(uri)
    except (OSError, pa.ArrowException):
        return None
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return tuple(np.cumsum(counts).tolist())


def _row_group(uri: str, row: int) -> int | None:
    record = format_of_name(uri)
    ends = _group_ends(uri) if record is not None and record.name == "parquet" else None
    return None if ends is None else bisect.bisect_right(ends, row)


def parts_of_files(paths: Sequence[str | os.PathLike[str]], options: ReadOptions) -> list[Part]:
    """Files as they are; raises ``UsageError`` and ``SourceError``."""
    found = []
    for file in expand_inputs(paths, options):
        info = source_for(file.uri).inspect(file.uri, file.options)
        found.append(Part(info, _num_rows(info), file.uri))
    return found


def parts_of_table(files: Mapping[str, str], options: ReadOptions) -> list[Part]:
    """Arrays that belong together row by row, by field."""
    info = inspect_aligned(files, options)
    return [Part(info, _num_rows(info), info.uri)]


def _num_rows(info: InputInfo) -> int:
    if not info.aligned:
        raise UsageError(f"{plain(info.uri)}: its arrays are no rows of one table: {info.problem}")
    if info.num_rows is not None:
        return info.num_rows
    source = source_for(info.uri)
    return sum(batch.num_rows for unit in info.units for batch in source.read(unit) if batch.counts_rows)


def parts_of_output(path: Path, split: str | None, options: ReadOptions) -> list[Part] | None:
    """The parts of a published output, of a split of it, or of a file in it; None where ``path`` is no such thing."""
    for folder, inner in (
        (path, None),
        (path.parent, path.name),
        (path.parent.parent, f"{path.parent.name}/{path.name}"),
    ):
        if (folder / MANIFEST_NAME).is_file():
            manifest = _read(folder / MANIFEST_NAME)
            if inner is None:
                return list(_parts_of_split(folder, manifest, split, None, options))
            if inner in _splits(manifest):
                return list(_parts_of_split(folder, manifest, inner, None, options))
            named = list(_parts_of_split(folder, manifest, split or inner.partition("/")[0], inner, options))
            if named:
                return named
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        if record["version"] == _MANIFEST_VERSION and isinstance(record["inputs"], list):
            return dict(record)
        problem = f"version {record['version']!r} is not known, {_MANIFEST_VERSION} is"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = plain(repr(error))
    raise UsageError(f"{plain(str(path))}: is no manifest of datacheck ({problem}); run 'datacheck run' again")


def _splits(manifest: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(account["split"] for account in manifest["inputs"]))


def _parts_of_split(
    folder: Path, manifest: Mapping[str, Any], split: str | None, only: str | None, options: ReadOptions
) -> Iterator[Part]:
    splits = _splits(manifest)
    if split is None:
        if len(splits) != 1:
            raise UsageError(
                f"{plain(str(folder))}: it has the splits {join_limited(splits)}; name one: split={splits[0]!r}"
            )
        split = splits[0]
    elif split not in splits:
        if only is not None:
            return
        hint = nearest_name(split, splits) or f"; there are {join_limited(splits)}"
        raise UsageError(f"{plain(str(folder))}: there is no split {split!r}{hint}")
    for account in manifest["inputs"]:
        if account["split"] == split:
            yield from _parts_of_account(folder, account, only, options)


def _parts_of_account(
    folder: Path, account: Mapping[str, Any], only: str | None, options: ReadOptions
) -> Iterator[Part]:
    """The parts of one input: one for each file of rows, or one for all arrays that belong together."""
    rows = [part for part in account["outputs"] if part["kind"] == "rows" and only in (None, part["path"])]
    ledgers = [part for part in account["outputs"] if part["kind"] == "ledger"]
    gone = [_removed(_inside(folder, ledger["path"])) for ledger in ledgers]
    removed = np.sort(np.concatenate(gone)) if gone else np.empty(0, np.int64)
    uri = account["uri"]
    if account["files"] and rows and all(_is_one_array(part["path"]) for part in rows):
        files = {Path(part["path"]).stem: str(_inside(folder, part["path"])) for part in rows}
        yield _part(inspect_aligned(files, options), rows[0], uri, removed)
        return
    for part in rows:
        file = str(_inside(folder, part["path"]))
        yield _part(source_for(file).inspect(file, options), part, uri, removed)


def _is_one_array(path: str) -> bool:
    record = format_of_name(path)
    return record is not None and record.is_one_array


def _part(info: InputInfo, record: Mapping[str, Any], uri: str, removed: IntArray) -> Part:
    start, count = int(record["row_start"]), int(record["num_read"])
    within = removed[(removed >= start) & (removed < start + count)] - start
    part = Part(info, int(record["num_rows"]), uri, start, GoodIndices(count, within))
    if count - len(within) != part.num_rows:
        raise UsageError(
            f"{plain(info.uri)}: its ledger does not say which rows it holds ({count:,} read, {len(within):,} taken out, "
            f"{part.num_rows:,} kept); run 'datacheck run' again"
        )
    return part


def _removed(path: Path) -> IntArray:
    try:
        rows: IntArray = pq.read_table(path, columns=["row"]).column("row").to_numpy().astype(np.int64)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{plain(str(path))}: cannot be read as a ledger: {plain(str(error))}; run again") from None
    return rows


def _inside(folder: Path, name: str) -> Path:
    """A path that a manifest names; one that leads out of its folder is none of a run."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{plain(str(folder / MANIFEST_NAME))}: names {plain(name)!r}, which is outside its folder")
    return path
