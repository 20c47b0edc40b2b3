"""Looking at a whole data set ahead of training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from torch.utils.data import DataLoader, Dataset

from datacheck.schema.keys import unique_keys
from datacheck.torch.loader.keys import KeyHashes, RepeatedKeys, hashes_of_sample

if TYPE_CHECKING:
    from datacheck.torch.loader.dataset import SafeDataset

__all__ = ["Progress", "scan_all"]

#: Told how many samples are done, how many there are, and how many of those done are bad.
Progress: TypeAlias = Callable[[int, int, int], None]


#: The index of a sample, and the hashes of its keys; None for a bad one.
_Verdict: TypeAlias = tuple[int, KeyHashes | None]


class _Scan(Dataset[_Verdict]):
    """A data set of verdicts, so that only they travel from the workers."""

    def __init__(self, safe: SafeDataset[Any], *, has_keys: bool) -> None:
        self._safe, self._has_keys = safe, has_keys
        self._length = len(safe)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> _Verdict:
        core = self._safe._core
        core.inspector.judge.forget_keys()
        look = self._safe.look_over(index)
        if look is None:
            return index, None
        lists = core.inspector.judge.lists
        return index, hashes_of_sample(look.sample, core.schema, lists) if self._has_keys else {}


def scan_all(
    safe: SafeDataset[Any],
    num_workers: int,
    progress: bool | Progress,
    batch_size: int,
    multiprocessing_context: str | None,
) -> None:
    """Examine every sample of a data set, and then what must be unique among those that are good."""
    core = safe._core
    has_keys = bool(unique_keys(core.schema))
    loader = DataLoader(
        _Scan(safe, has_keys=has_keys),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_together,
        multiprocessing_context=multiprocessing_context if num_workers else None,
    )
    total = len(safe)
    done = bad = 0
    with _told(progress) as tell, RepeatedKeys() as keys:
        for size, good in loader:
            done, bad = done + size, bad + size - len(good)
            if has_keys:
                keys.add(good)
            tell(done, total, bad)
        for index, repeated in keys.repeated():
            core.record_repeated(index, repeated)
            bad += 1
        if has_keys:
            tell(done, total, bad)
    core.are_keys_known = True
    core.inspector.judge.forget_keys()


def _together(verdicts: Sequence[_Verdict]) -> tuple[int, list[tuple[int, KeyHashes]]]:
    return len(verdicts), [(index, hashes) for index, hashes in verdicts if hashes is not None]


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
