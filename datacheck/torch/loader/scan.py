"""Check a whole dataset ahead of training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

from torch.utils.data import DataLoader, Dataset

from datacheck.batch import Batch
from datacheck.checks.sentinels import null_missing
from datacheck.dataset_rules.base import DatasetRule, Part
from datacheck.dataset_rules.dataset_state import DatasetState, build_dataset_rules, context_of
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Schema
from datacheck.torch.loader.keys import KeyHashes, RepeatedKeys, batch_of_sample, hashes_of_sample
from datacheck.torch.loader.retrying_checker import CheckedSample
from datacheck.torch.loader.tracker import BadSampleTracker

__all__ = ["Progress", "scan_all"]

#: Called with the number of samples done, the number of all samples, and the number of bad ones so far.
Progress: TypeAlias = Callable[[int, int, int], None]

#: The index of a sample, the hashes of its unique keys (None for a bad sample), and what rules about the dataset need of it.
_ScannedSample: TypeAlias = tuple[int, KeyHashes | None, Batch | None]


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
        hashes = hashes_of_sample(checked.sample, schema, lists) if self._has_keys else {}
        return index, hashes, batch_of_sample(checked.sample, schema, lists, index) if self._has_rules else None


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
    rules = build_dataset_rules(tracker.schema)
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
    with _progress_callback(progress) as report_progress, RepeatedKeys() as keys:
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
    context = context_of(tracker.schema, [tracker.name])
    tracker.dataset_findings = tuple(outcome.finding for outcome in dataset.outcomes(context))
    dataset.close()
    tracker.are_keys_known = True
    tracker.checker.sample_check.ignore_keys()


def _collate(
    scanned: Sequence[_ScannedSample], schema: Schema, rules: Sequence[DatasetRule], part: Part
) -> tuple[int, list[tuple[int, KeyHashes]], DatasetState]:
    state = DatasetState.start(rules, part)
    for _, _, batch in scanned:
        if batch is not None:
            state.update(null_missing(batch, schema))
    return len(scanned), [(index, hashes) for index, hashes, _ in scanned if hashes is not None], state


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
