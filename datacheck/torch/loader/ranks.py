"""Share bad samples and counts among the ranks of a training run, so that they decide alike, and find where epochs end."""

from __future__ import annotations

import socket
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.distributed as dist
from torch.utils.data import DistributedSampler, get_worker_info

from datacheck.torch.guard.distributed import RankGroup, is_distributed
from datacheck.torch.loader.event_log import EventLog
from datacheck.torch.loader.recorder import Recorder
from datacheck.torch.loader.records import BadSample

#: Frames between a sampler and the iterator of its loader: batch samplers, and what wraps them.
_MAX_FRAMES = 20


@dataclass(frozen=True, slots=True)
class Shared:
    """Counts over all ranks, the same on each of them: bad samples found in this run, all bad samples, samples seen."""

    num_new: int
    num_bad: int
    num_seen: int


class Ranks:
    """The exchange with other ranks. Every rank must call the same methods in the same order."""

    def __init__(self) -> None:
        self._sent: set[tuple[str, int]] = set()
        self._new: set[int] = set()

    def share(self, recorder: Recorder) -> Shared:
        """Share each rank's new samples with all, and add the counts."""
        fresh = [
            sample
            for sample in recorder.samples(new_only=True)
            if (sample.verdict.value, sample.index) not in self._sent
        ]
        gathered = RankGroup(None).gather(
            {
                # Ranks of one machine may share an event log, whose counts must be added once.
                "event_log": f"{socket.gethostname()}:{recorder.event_log.folder}",
                "seen": recorder.totals()["seen"],
                "bad": sorted(recorder.bad),
                "samples": [_without_traceback(sample).to_dict() for sample in fresh],
            }
        )
        self._sent.update((sample.verdict.value, sample.index) for sample in fresh)
        others = [BadSample.from_dict(record) for rank in gathered for record in rank["samples"]]
        recorder.add_known(others)
        self._new.update(sample.index for sample in others if sample.verdict == "bad")
        seen = {rank["event_log"]: rank["seen"] for rank in gathered}
        bad = set().union(*(rank["bad"] for rank in gathered))
        return Shared(len(self._new), len(bad), sum(seen.values()))

    def compare(self, indices: Sequence[int]) -> list[int] | None:
        """How many indices each rank has; None if all have the same ones."""
        gathered: list[Any] = RankGroup(None).gather(list(indices))
        return None if all(rank == gathered[0] for rank in gathered) else [len(rank) for rank in gathered]


def _without_traceback(sample: BadSample) -> BadSample:
    """The sample without its traceback, which stays on its own rank."""
    return sample if sample.error is None else replace(sample, error=replace(sample.error, traceback=""))


def is_epoch_of_all_ranks() -> bool:
    """Whether the caller's caller is a ``DistributedSampler`` of all ranks that starts an epoch, which each of them does."""
    if not is_distributed() or get_worker_info() is not None:
        return False
    frame = sys._getframe(2)
    sampler: Any = frame.f_locals.get("self")
    is_start = frame.f_code.co_name == "__iter__" and isinstance(sampler, DistributedSampler)
    return is_start and bool(1 < sampler.num_replicas == dist.get_world_size())


def compare_at_the_end(event_log: EventLog, synchronize: Callable[[], None]) -> None:
    """Let the loader that is starting an epoch call ``synchronize`` when it has given its last batch.

    Each rank gets as many batches from a ``DistributedSampler``, so all of them arrive there. A loader has no hook for its
    end, so the method of its iterator that raises ``StopIteration`` is replaced.
    """
    frame = sys._getframe(2)
    for _ in range(_MAX_FRAMES):
        batches = frame.f_locals.get("self")
        if hasattr(batches, "_next_data") and hasattr(batches, "_next_index"):
            event_log.is_compared = True
            _replace_end(batches, synchronize)
            return
        if frame.f_back is None:
            return
        frame = frame.f_back


def _replace_end(batches: Any, synchronize: Callable[[], None]) -> None:
    # Weak, since an iterator that refers to itself would keep its workers until the next garbage collection.
    iterator = weakref.ref(batches)
    is_over = False

    def next_data() -> Any:
        nonlocal is_over
        living: Any = iterator()
        try:
            return type(living)._next_data(living)
        except StopIteration as error:
            end = error
        if not is_over:  # a second call would wait for ranks that do not answer
            is_over = True
            synchronize()
        raise end

    batches._next_data = next_data
