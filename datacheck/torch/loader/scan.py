"""Check a whole dataset ahead of training."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from torch.utils.data import DataLoader, Dataset

from datacheck.batch import Batch
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.sentinels import null_missing
from datacheck.dataset_rules.base import DatasetRule, Part
from datacheck.dataset_rules.dataset_state import DatasetState, build_dataset_rules, context_of
from datacheck.findings import Finding
from datacheck.hashing.keys import hash_unique_keys
from datacheck.hashing.store import HashStore
from datacheck.schema.keys import key_field, unique_keys
from datacheck.schema.model import Schema
from datacheck.torch.loader.lists import ListPaths
from datacheck.torch.loader.retrying_checker import CheckedSample
from datacheck.torch.loader.tracker import BadSampleTracker
from datacheck.torch.loader.walker import walk_sample

#: Called with the number of samples done, the number of all samples, and the number of bad ones so far.
Progress: TypeAlias = Callable[[int, int, int], None]

#: For each key of a sample, its fields and the hash of its value.
_KeyHashes: TypeAlias = dict[tuple[str, ...], np.ndarray[Any, np.dtype[np.uint64]]]

#: The index of a sample, the hashes of its unique keys (None for a bad sample), and what rules about the dataset need of it.
_ScannedSample: TypeAlias = tuple[int, _KeyHashes | None, Batch | None]


_FILES_UNKNOWN = (
    "num_files: the dataset does not tell which files its samples come from; give it a method origin(index), "
    "or run 'datacheck scan' on the files"
)


class _Scan(Dataset[_ScannedSample]):
    """Checks samples in the workers, so that only the results are sent to the main process."""

    def __init__(
        self,
        tracker: BadSampleTracker,
        examine: Callable[[int], CheckedSample | None],
        num_samples: int,
        *,
        has_keys: bool,
        has_rules: bool,
    ) -> None:
        self._tracker, self._examine = tracker, examine
        self._num_samples, self._has_keys, self._has_rules = num_samples, has_keys, has_rules

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, index: int) -> _ScannedSample:
        sample_check = self._tracker.checker.sample_check
        sample_check.ignore_keys()
        checked = self._examine(index)
        if checked is None:
            return index, None, None
        schema, lists = self._tracker.schema, sample_check.lists
        hashes = _hashes_of_sample(checked.sample, schema, lists) if self._has_keys else {}
        return index, hashes, _batch_of_sample(checked.sample, schema, lists, index) if self._has_rules else None


def scan_all(
    tracker: BadSampleTracker,
    examine: Callable[[int], CheckedSample | None],
    num_samples: int,
    *,
    num_workers: int,
    progress: bool | Progress,
    batch_size: int,
    multiprocessing_context: str | None,
) -> None:
    """Call ``examine`` for every index, then check the unique keys of the good samples, and the dataset as a whole."""
    has_keys = bool(unique_keys(tracker.schema))
    num_files = _count_files(tracker, num_samples)
    rules = build_dataset_rules(
        tracker.schema if num_files is not None else tracker.schema.model_copy(update={"num_files": None})
    )
    part = Part(tracker.name)
    dataset = DatasetState.start(rules, part)
    loader = DataLoader(
        _Scan(tracker, examine, num_samples, has_keys=has_keys, has_rules=bool(rules)),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=partial(_collate, schema=tracker.schema, rules=rules, part=part),
        multiprocessing_context=multiprocessing_context if num_workers else None,
    )
    done = bad = 0
    with _progress_callback(progress) as report_progress, _RepeatedKeys() as keys:
        for size, good, state in loader:
            dataset.merge(state)
            done, bad = done + size, bad + size - len(good)
            if has_keys:
                keys.add(good)
            report_progress(done, num_samples, bad)
        for index, repeated in keys.repeated():
            tracker.record_repeated(index, repeated)
            bad += 1
        if has_keys:
            report_progress(done, num_samples, bad)
    context = replace(context_of(tracker.schema, [tracker.name]), num_files=num_files)
    found = [outcome.finding for outcome in dataset.outcomes(context)]
    if num_files is None:
        found.append(Finding("DC005", tracker.name, None, 1, 1, detail=_FILES_UNKNOWN))
    tracker.dataset_findings = tuple(found)
    dataset.close()
    tracker.are_keys_known = True
    tracker.checker.sample_check.ignore_keys()


def _collate(
    scanned: Sequence[_ScannedSample], schema: Schema, rules: Sequence[DatasetRule], part: Part
) -> tuple[int, list[tuple[int, _KeyHashes]], DatasetState]:
    state = DatasetState.start(rules, part)
    for _, _, batch in scanned:
        if batch is not None:
            state.update(null_missing(batch, schema))
    return len(scanned), [(index, hashes) for index, hashes, _ in scanned if hashes is not None], state


def _hashes_of_sample(sample: Any, schema: Schema, lists: ListPaths) -> _KeyHashes:
    """Hash the unique keys that a sample has."""
    batch = _batch_of_sample(sample, schema, lists)
    return {found.key: found.hashes for found in hash_unique_keys(batch, schema) if len(found.hashes)}


def _batch_of_sample(sample: Any, schema: Schema, lists: ListPaths, index: int = 0) -> Batch:
    """A sample as one row, in the dtypes of the schema."""
    columns = [one.column for one in walk_sample(sample, lists=lists) if one.column is not None]
    return coerce_batch(Batch(tuple(columns), 1, index), schema)


def _count_files(tracker: BadSampleTracker, num_samples: int) -> int | None:
    """The number of files that the samples come from, where the schema has a rule about it; None if that is not known."""
    if tracker.schema.num_files is None:
        return 1
    origins = map(tracker.origin, range(num_samples))
    uris = {None if origin is None else origin.uri for origin in origins}
    return None if None in uris else len(uris)


class _RepeatedKeys:
    """Finds samples that repeat an earlier key. A context manager: leaving it deletes what was spilled to disk."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, ...], HashStore] = {}
        self._indices: dict[tuple[str, ...], array[int]] = {}

    def __enter__(self) -> _RepeatedKeys:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores.values():
            store.__exit__()

    def add(self, found: Sequence[tuple[int, _KeyHashes]]) -> None:
        """Add the next samples by their indices, in dataset order."""
        for key in dict.fromkeys(key for _, hashes in found for key in hashes):
            have = [(index, hashes[key]) for index, hashes in found if key in hashes]
            self._stores.setdefault(key, HashStore()).add(np.concatenate([one for _, one in have]))
            self._indices.setdefault(key, array("q")).extend(index for index, _ in have)

    def repeated(self) -> Iterator[tuple[int, list[str | None]]]:
        """The index of each sample that repeats a key, and which keys, as findings name them."""
        found: dict[int, list[str | None]] = {}
        for key, store in self._stores.items():
            for ordinal in store.repeated().tolist():
                found.setdefault(self._indices[key][ordinal], []).append(key_field(key))
        yield from sorted(found.items())


@contextmanager
def _progress_callback(progress: bool | Progress) -> Iterator[Progress]:
    if callable(progress):
        yield progress
    elif progress:
        yield _print_line
        sys.stderr.write("\n")
    else:
        yield lambda *_: None


def _print_line(done: int, total: int, bad: int) -> None:
    sys.stderr.write(f"\rdatacheck: {done:,} of {total:,} samples, {bad:,} bad")
    sys.stderr.flush()
