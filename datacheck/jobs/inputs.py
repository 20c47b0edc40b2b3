"""The inputs of a pipeline: finds, inspects and fingerprints them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from datacheck.errors import SourceError, UsageError
from datacheck.findings import Finding
from datacheck.formats import get_format
from datacheck.jobs.execution import Execution
from datacheck.jobs.key_exchange import find_repeated_keys, has_key_files, with_keys_in_files
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.reading_for_schema import read_options
from datacheck.jobs.sample_files import require_rows
from datacheck.jobs.scan import inspect_file
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.groups import group_units, read_keys_of_group
from datacheck.jobs.units.scan import lost_error, lost_scan
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.publishing.output_paths import safe_part_name
from datacheck.schema.keys import key_columns, key_field, unique_keys
from datacheck.schema.model import Schema
from datacheck.sources.aligned import inspect_aligned
from datacheck.sources.annotations import with_labels
from datacheck.sources.base import InputInfo, WorkUnit, fingerprint_of
from datacheck.sources.discover import InputFile, discover, expand_inputs, is_folder
from datacheck.sources.indexes import check_folders
from datacheck.sources.label_files import find_labels
from datacheck.storage import storage_of
from datacheck.storage.documents import is_uri
from datacheck.storage.os_calls import local_uri, relative_uri
from datacheck.text import plain


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a split: a file, or aligned array files by field (``files``).

    ``info`` comes from its header; if it cannot be read, ``error`` says why and ``info`` is None. ``identity`` is its path from
    the pipeline's folder, which does not depend on where the command runs. ``sample_name`` is set for a file that is
    one sample: its path below the input's folder, which is its name in the output. ``labels`` are the label files that go
    with it, each with its name in the output.
    """

    split: str
    uri: str
    files: dict[str, str] | None = None
    info: InputInfo | None = None
    error: SourceError | None = None
    identity: str = ""
    sample_name: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def paths(self) -> list[str]:
        return [self.uri] if self.files is None else list(self.files.values())

    def format(self, wanted: str | None) -> str:
        """The format of its output."""
        return wanted or (get_format(self.info.format).output_name if self.info else "parquet")


def find_inputs(pipeline: Pipeline, execution: Execution) -> list[Input]:
    """Every input of every split, in order, inspected. Raises ``UsageError`` for a path that matches nothing."""
    options = replace(read_options(pipeline.reading, pipeline.schema), by_columns=False, keep_going=False)
    found: list[Input] = []
    for split, paths in pipeline.inputs.items():
        if isinstance(paths, Mapping):
            files = {field: _one_file(path) for field, path in paths.items()}
            try:
                info = inspect_aligned(files, options)
                found.append(Input(split, info.uri, files, info))
            except SourceError as error:
                found.append(Input(split, next(iter(files.values())), files, error=error))
            continue
        discovered = discover(paths, replace(options, rows=pipeline.rows.get(split, options.rows)))
        listed = with_labels(discovered).files
        require_rows(listed, pipeline.schema)
        inspect = partial(inspect_file, travels=execution.travels)
        infos = execution.map(inspect, listed, lambda file: lost_error(file.uri), stage=Stage("inspect"))
        inputs = [input_of(split, file, info) for file, info in zip(listed, infos, strict=True)]
        found += _with_labels(_with_sample_names(inputs, paths))
    seen: dict[str, str] = {}
    for item in found:
        for path in item.paths:
            split = seen.setdefault(storage_of(path).resolve(path), item.split)
            if split != item.split:
                raise UsageError(
                    f"{plain(path)} is in two splits, {split!r} and {item.split!r}; a row belongs to only one"
                )
    return [replace(item, identity=path_from_pipeline(item.uri, pipeline)) for item in found]


def _with_sample_names(inputs: Sequence[Input], written: Sequence[str]) -> list[Input]:
    """The inputs; those that are one sample each are named by their path below what all of their split share."""
    if not any(map(_is_sample, inputs)):
        return list(inputs)
    folders = {f"{_absolute(path)}/" for path in written if is_folder(storage_of(path), path)}
    files = [_absolute(item.uri) for item in inputs]
    folders |= {f"{path.rpartition('/')[0]}/" for path in files if not path.startswith(tuple(folders))}
    shared = len(os.path.commonpath(folders).split("/")) if len(folders) > 1 else next(iter(folders)).count("/")
    return [
        replace(item, sample_name="/".join(path.split("/")[shared:])) if _is_sample(item) else item
        for item, path in zip(inputs, files, strict=True)
    ]


def _with_labels(inputs: Sequence[Input]) -> list[Input]:
    """The inputs, samples of media with their label files, which are then no inputs of their own."""
    labelled = [
        replace(item, labels=find_labels(item.uri, item.sample_name))
        if item.sample_name and item.info is not None and get_format(item.info.format).is_sample
        else item
        for item in inputs
    ]
    labels = {posixpath.normpath(uri) for item in labelled for uri, _ in item.labels}
    return [item for item in labelled if posixpath.normpath(item.uri) not in labels]


def _is_sample(item: Input) -> bool:
    return item.info is not None and item.info.units[0].options.rows == "file"


def _absolute(path: str) -> str:
    local = storage_of(path).local_path(path)
    return path.rstrip("/") if local is None else local_uri(os.path.normpath(Path.cwd() / local))


def find_in_folders(pipeline: Pipeline) -> list[Finding]:
    """The findings on the folders of the inputs: parts that are missing, files that were not checked."""
    paths = [path for some in pipeline.inputs.values() if not isinstance(some, Mapping) for path in some]
    found: dict[Finding, None] = {}
    for some in [paths] if all(storage_of(path).exists(path) for path in paths) else [[path] for path in paths]:
        # A file that disappeared during the run has a finding of its own.
        with suppress(UsageError):
            inputs = discover(some)
            found |= dict.fromkeys(check_folders(inputs))
    return list(found)


def path_from_pipeline(path: str, pipeline: Pipeline) -> str:
    """A file's path from the pipeline's folder, which identifies it."""
    local = storage_of(path).local_path(path)
    if local is None:
        return path
    # Beside a pipeline in another storage, a local file has no relative path.
    return local_uri(Path(local).absolute()) if is_uri(pipeline.folder) else relative_uri(local, pipeline.folder)


def _one_file(path: str) -> str:
    files = expand_inputs(path)
    if len(files) != 1:
        raise UsageError(f"expected one array file, got {len(files)} files for {path}")
    return files[0].uri


def input_of(split: str, file: InputFile, info: InputInfo | SourceError) -> Input:
    """A file as an input of a split; it has an error if its arrays do not form a table."""
    if isinstance(info, SourceError):
        return Input(split, file.uri, error=info)
    if not info.aligned:
        problem = f"its arrays do not form a table: {info.problem}"
        error = SourceError(
            "DC304",
            file.uri,
            problem,
            "save each array with rows to its own file; only a scan can read them together",
        )
        return Input(split, file.uri, error=error)
    return Input(split, file.uri, info=info)


def fingerprints(item: Input) -> list[dict[str, Any]]:
    """What identifies each file of a readable input: URI, bytes, modification time in ns, and an object's etag."""
    if item.info is None:
        return []
    unit = item.info.units[0]
    states = [(uri, state) for _, uri, state in unit.arrays] or [(unit.uri, unit.fingerprint)]
    states += [(uri, fingerprint_of(uri)) for uri, _ in item.labels]
    return [
        {
            "uri": uri,
            "size": state.size,
            "mtime_ns": state.mtime_ns,
            **({"version": state.version} if state.version else {}),
        }
        for uri, state in states
    ]


def tasks_of(
    item: Input, format_: str, duplicates: Mapping[str, Sequence[tuple[str | None, IntArray]]]
) -> list[UnitTask]:
    """The tasks of an input, one a unit; none for an unreadable input."""
    if item.info is None:
        return []
    repeated = tuple(duplicates.get(item.uri, ()))
    return [
        UnitTask(
            f"{item.split}.{safe_part_name(item.identity, unit.index)}",
            item.split,
            unit,
            item.info.num_rows,
            format_,
            bool(item.sample_name),
            tuple((key, _within(unit, rows)) for key, rows in repeated),
            labels=tuple(uri for uri, _ in item.labels),
        )
        for unit in item.info.units
    ]


def _within(unit: WorkUnit, rows: IntArray) -> IntArray:
    """The rows of a file that are in a unit of it."""
    if unit.num_rows is None:
        return rows
    return rows[(rows >= unit.row_start) & (rows < unit.row_start + unit.num_rows)]


def find_duplicates(
    inputs: Sequence[Input], schema: Schema, execution: Execution
) -> dict[str, list[tuple[str | None, IntArray]]]:
    """For each input, the rows that repeat an earlier row's key, over all inputs in order.

    Nothing is read if the schema has no unique keys. An input that cannot be read adds nothing here: cleaning it says why.
    """
    if not unique_keys(schema):
        return {}
    columns = key_columns(schema)
    readable = [item for item in inputs if item.info is not None]
    units = [
        [replace(unit, options=replace(unit.options, columns=columns)) for unit in item.info.units]
        for item in readable
        if item.info is not None
    ]
    execution.progress.start(
        "look for duplicates", sum(map(len, units)), sum(item.info.num_bytes for item in readable if item.info)
    )
    groups = group_units(units)
    hashed = execution.map(
        with_keys_in_files(partial(read_keys_of_group, schema=schema), execution),
        [group for of_file in groups for group in of_file],
        lambda group: lost_scan(group[0]),
        stage=Stage("look for duplicates", is_valid=has_key_files),
    )
    found: dict[str, list[tuple[str | None, IntArray]]] = {}
    with find_repeated_keys(execution) as duplicates, closing(hashed) as results:
        for item, of_file in zip(readable, groups, strict=True):
            assert item.info is not None
            scanned = [next(results) for _ in of_file]
            num_rows = sum(result.num_rows for result in scanned)
            execution.progress.advance(len(item.info.units), num_rows, item.info.num_bytes)
            # An unreadable file has no rows in the output, so nothing can repeat them.
            if not any(result.error for result in scanned):
                for result in scanned:
                    duplicates.add(item.uri, result)
        for rows in duplicates.rows():
            found.setdefault(rows.uri, []).append((key_field(rows.key), rows.rows))
    return found
