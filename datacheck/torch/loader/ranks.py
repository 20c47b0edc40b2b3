"""Share bad samples and counts among the ranks of a training run, so that they decide alike."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datacheck.torch.guard.distributed import RankGroup
from datacheck.torch.loader.recorder import Recorder
from datacheck.torch.loader.records import BadSample

__all__ = ["Ranks", "Shared"]


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
