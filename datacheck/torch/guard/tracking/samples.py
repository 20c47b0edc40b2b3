"""The bad samples that the SafeDatasets of this process have met since a guard was made."""

from __future__ import annotations

from collections.abc import Iterator

from datacheck.torch.loader.event_log import event_logs_here
from datacheck.torch.loader.records import BadSample

#: Bad samples that are named. The report of the dataset names all.
MAX_SAMPLES = 1000


class ServedSamples:
    """Counts bad samples over all workers, from when this was created."""

    def __init__(self) -> None:
        self._before = _totals()
        self._counts = (0, 0)
        self._num_read = 0
        self._known: set[tuple[str, int]] = set()

    def count(self) -> tuple[int, int]:
        """How often a bad sample was met, and how often it was replaced."""
        now = _totals()
        # A dataset that is gone takes its counts along.
        bad, replaced = (max(old, new - start) for old, new, start in zip(self._counts, now, self._before, strict=True))
        self._counts = bad, replaced
        return self._counts

    def read_new(self) -> Iterator[BadSample]:
        """The bad samples since the last call, each once."""
        bad, _ = self.count()
        if bad == self._num_read:
            return
        self._num_read = bad
        for folder, log in event_logs_here().items():
            for record, is_new in log.read(again=True):
                index = record.get("index")
                if not is_new or not isinstance(index, int) or (folder, index) in self._known:
                    continue
                if len(self._known) >= MAX_SAMPLES:
                    return
                self._known.add((folder, index))
                yield BadSample.from_dict(record)


def _totals() -> tuple[int, int]:
    totals = [log.totals() for log in event_logs_here().values()]
    replaced = sum(one["replaced"] for one in totals)
    return replaced + sum(one["skipped"] + one["repaired"] + one["raised"] for one in totals), replaced
