"""Looking at a whole data set ahead of training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from datacheck.torch.loader.dataset import SafeDataset

__all__ = ["Progress", "scan_all"]

#: Told how many samples are done, how many there are, and how many of those done are bad.
Progress: TypeAlias = Callable[[int, int, int], None]


class _Scan(Dataset[bool]):
    """A data set of verdicts, so that only they travel from the workers."""

    def __init__(self, safe: SafeDataset[Any]) -> None:
        self._safe = safe
        self._length = len(safe)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> bool:
        return self._safe.examine(index)


def scan_all(
    safe: SafeDataset[Any],
    num_workers: int,
    progress: bool | Progress,
    batch_size: int,
    multiprocessing_context: str | None,
) -> None:
    """Examine every sample of a data set."""
    loader = DataLoader(
        _Scan(safe),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_count_bad,
        multiprocessing_context=multiprocessing_context if num_workers else None,
    )
    total = len(safe)
    done = bad = 0
    with _told(progress) as tell:
        for size, found in loader:
            done, bad = done + size, bad + found
            tell(done, total, bad)


def _count_bad(verdicts: Sequence[bool]) -> tuple[int, int]:
    return len(verdicts), len(verdicts) - sum(verdicts)


@contextmanager
def _told(progress: bool | Progress) -> Iterator[Progress]:
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
