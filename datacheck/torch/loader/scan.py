"""Check a whole dataset ahead of training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from torch.utils.data import DataLoader, Dataset

from datacheck.schema.keys import unique_keys
from datacheck.torch.loader.keys import KeyHashes, RepeatedKeys, hashes_of_sample
from datacheck.torch.loader.retrying_checker import CheckedSample
from datacheck.torch.loader.tracker import BadSampleTracker

__all__ = ["Progress", "scan_all"]

#: Called with the number of samples done, the number of all samples, and the number of bad ones so far.
Progress: TypeAlias = Callable[[int, int, int], None]

#: The index of a sample and the hashes of its unique keys; None for a bad sample.
_ScannedSample: TypeAlias = tuple[int, KeyHashes | None]


class _Scan(Dataset[_ScannedSample]):
    """Checks samples in the workers, so that only the results are sent to the main process."""

    def __init__(
        self,
        tracker: BadSampleTracker,
        examine: Callable[[int], CheckedSample | None],
        num_samples: int,
        *,
        has_keys: bool,
    ) -> None:
        self._tracker, self._examine = tracker, examine
        self._num_samples, self._has_keys = num_samples, has_keys

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, index: int) -> _ScannedSample:
        sample_check = self._tracker.checker.sample_check
        sample_check.ignore_keys()
        checked = self._examine(index)
        if checked is None:
            return index, None
        if not self._has_keys:
            return index, {}
        return index, hashes_of_sample(checked.sample, self._tracker.schema, sample_check.lists)


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
    """Call ``examine`` for every index, then check the unique keys of the good samples."""
    has_keys = bool(unique_keys(tracker.schema))
    loader = DataLoader(
        _Scan(tracker, examine, num_samples, has_keys=has_keys),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_collate,
        multiprocessing_context=multiprocessing_context if num_workers else None,
    )
    done = bad = 0
    with _progress_callback(progress) as report_progress, RepeatedKeys() as keys:
        for size, good in loader:
            done, bad = done + size, bad + size - len(good)
            if has_keys:
                keys.add(good)
            report_progress(done, num_samples, bad)
        for index, repeated in keys.repeated():
            tracker.record_repeated(index, repeated)
            bad += 1
        if has_keys:
            report_progress(done, num_samples, bad)
    tracker.are_keys_known = True
    tracker.checker.sample_check.ignore_keys()


def _collate(scanned: Sequence[_ScannedSample]) -> tuple[int, list[tuple[int, KeyHashes]]]:
    return len(scanned), [(index, hashes) for index, hashes in scanned if hashes is not None]


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
