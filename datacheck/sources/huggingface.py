"""Hugging Face datasets: in memory, through their index mapping; and what their folders promise about numbers of rows."""

from __future__ import annotations

import fnmatch
import json
import posixpath
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import no_rows
from datacheck.batch import Batch, Fault
from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.sources.base import ReadOptions
from datacheck.sources.dataset_folders import read_bounded
from datacheck.sources.detect import source_for
from datacheck.text import join_limited, plain

_BATCH_ROWS = 1000
_MAX_CARD_BYTES = 4 << 20
#: Where the files of a split lie if the card does not say it.
_DEFAULT_PATTERNS = ("data/{0}-*", "{0}-*", "{0}/*", "data/{0}/*", "{0}.*")


def is_dataset(data: object) -> bool:
    """Whether data is a ``datasets.Dataset`` or ``IterableDataset``."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(data, datasets.Dataset | datasets.IterableDataset)


def is_dataset_dict(data: object) -> bool:
    """Whether data is a ``datasets.DatasetDict`` or ``IterableDatasetDict``: a dataset for each split."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(data, datasets.DatasetDict | datasets.IterableDatasetDict)


def batches_of_dataset(data: Any) -> Iterator[Batch]:
    """The rows of a dataset as it is used: selected, shuffled and filtered rows only, in their order.

    They are read as Arrow: conversion to NumPy would make NaN of nulls, and to Python would decode images.
    """
    labels = _class_labels(data)
    row = 0
    for part in data.with_format("arrow").iter(batch_size=_BATCH_ROWS):
        for batch in part.combine_chunks().to_batches():
            made = Batch.from_arrow(batch, row)
            faults = tuple(_label_faults(made, labels)) if labels else ()
            yield Batch(made.columns, made.num_rows, row, faults=faults) if faults else made
            row += batch.num_rows
    if row == 0 and (features := getattr(data, "features", None)):
        yield Batch.from_arrow(no_rows(features.arrow_schema))


def _class_labels(data: Any) -> dict[str, Sequence[str]]:
    """The names of the classes of each field of labels."""
    features = getattr(data, "features", None) or {}
    return {name: kind.names for name, kind in features.items() if type(kind).__name__ == "ClassLabel" and kind.names}


def _label_faults(batch: Batch, labels: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    """Labels beyond the classes of their field. -1 means by convention that there is no label."""
    for column in batch.columns:
        names = labels.get(column.name or "")
        if names is None or not isinstance(column.data, pa.Array) or not pa.types.is_integer(column.data.type):
            continue
        values = column.data.fill_null(0).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero((values < -1) | (values >= len(names)))
        if len(rows):
            examples = tuple((int(row), str(values[row])) for row in rows[:5])
            detail = f"labels of its {len(names):,} classes ({join_limited(names, 3)})"
            yield Fault("DC205", column.name, len(values) - column.data.null_count, rows, examples, detail)


# Folders


def check_numbers_of_rows(folder: str, names: Sequence[str], files: Sequence[str]) -> Iterator[Finding]:
    """Findings on splits with another number of rows than the card or ``dataset_info.json`` of their folder promises.

    ``names`` are those in the folder, ``files`` the inputs below it.
    """
    promises: list[tuple[str, str, int, list[str]]] = []
    try:
        if "README.md" in names:
            promises += _promises_of_card(folder, files)
        if "dataset_info.json" in names and "state.json" in names:
            promises += _promises_of_info(folder, files)
    except (SourceError, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        # A card is text for people first: what cannot be read of it promises nothing.
        return
    for index, split, promised, parts in promises:
        counts = [_num_rows(part) for part in parts]
        if parts and None not in counts and (found := sum(count or 0 for count in counts)) != promised:
            where = posixpath.join(folder, index)
            detail = f"the split {plain(repr(split), 60)} has {found:,} rows, and {index} promises {promised:,}"
            code = "DC911" if found < promised else "DC912"
            yield Finding(code, where, None, abs(promised - found), max(promised, found), rule=split, detail=detail)


def _num_rows(uri: str) -> int | None:
    try:
        return source_for(uri).inspect(uri, ReadOptions()).num_rows
    except SourceError:
        return None


def _promises_of_card(folder: str, files: Sequence[str]) -> Iterator[tuple[str, str, int, list[str]]]:
    import yaml

    text = read_bounded(posixpath.join(folder, "README.md"), _MAX_CARD_BYTES).decode()
    if not text.startswith("---\n"):
        return
    try:
        card = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return
    infos = card.get("dataset_info") or []
    configs = {one.get("config_name", "default"): one.get("data_files") for one in card.get("configs") or []}
    for info in infos if isinstance(infos, list) else [infos]:
        data_files = configs.get(info.get("config_name", "default"))
        for split in info.get("splits") or []:
            name, number = str(split["name"]), int(split["num_examples"])
            yield "README.md", name, number, _matching(folder, files, _patterns(data_files, name))


def _patterns(data_files: Any, split: str) -> list[str]:
    if data_files is None:
        return [pattern.format(split) for pattern in _DEFAULT_PATTERNS]
    listed = data_files if isinstance(data_files, list) else [data_files]
    found: list[str] = []
    for one in listed:
        if isinstance(one, dict) and str(one.get("split")) == split:
            found += [one["path"]] if isinstance(one["path"], str) else one["path"]
        elif isinstance(one, str) and split == "train":
            found.append(one)
    return found


def _matching(folder: str, files: Sequence[str], patterns: Sequence[str]) -> list[str]:
    start = f"{folder.rstrip('/')}/" if folder else ""
    below = {uri: uri[len(start) :] for uri in files if uri.startswith(start)}
    for pattern in patterns:
        if found := [uri for uri, name in below.items() if fnmatch.fnmatchcase(name, pattern)]:
            return found
    return []


def _promises_of_info(folder: str, files: Sequence[str]) -> Iterator[tuple[str, str, int, list[str]]]:
    state = json.loads(read_bounded(posixpath.join(folder, "state.json"), _MAX_CARD_BYTES))
    info = json.loads(read_bounded(posixpath.join(folder, "dataset_info.json"), _MAX_CARD_BYTES))
    split, splits = state.get("_split"), info.get("splits") or {}
    # What was selected or filtered before it was saved still has the numbers of the whole.
    if split not in splits or state.get("_indices_data_files"):
        return
    names = {posixpath.join(folder, one["filename"]) for one in state["_data_files"]}
    parts = [uri for uri in files if uri in names]
    if len(parts) == len(names):
        yield "dataset_info.json", split, int(splits[split]["num_examples"]), parts
