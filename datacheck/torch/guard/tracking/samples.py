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
        # By the folder of a dataset's log. A dataset that is gone leaves its last counts here.
        self._counts: dict[str, tuple[int, int]] = {}
        self._num_read: dict[str, int] = {}
        self._known: set[tuple[str, int]] = set()

    def count(self) -> tuple[int, int]:
        """How often a bad sample was met, and how often it was replaced."""
        for folder, totals in _totals().items():
            bad, replaced = (now - start for now, start in zip(totals, self._before.get(folder, (0, 0)), strict=True))
            self._counts[folder] = bad, replaced
        return sum(bad for bad, _ in self._counts.values()), sum(replaced for _, replaced in self._counts.values())

    def read_new(self) -> Iterator[BadSample]:
        """The bad samples since the last call, each once. Datasets that met none since the guard was made name none."""
        self.count()
        for folder, log in event_logs_here().items():
            bad, _ = self._counts.get(folder, (0, 0))
            if bad == self._num_read.get(folder, 0):
                continue
            self._num_read[folder] = bad
            for record, is_new in log.read(again=True):
                index = record.get("index")
                if not is_new or not isinstance(index, int) or (folder, index) in self._known:
                    continue
                if len(self._known) >= MAX_SAMPLES:
                    return
                self._known.add((folder, index))
                yield BadSample.from_dict(record)


def _totals() -> dict[str, tuple[int, int]]:
    """How often each dataset met a bad sample, and how often it replaced one."""
    totals = {folder: log.totals() for folder, log in event_logs_here().items()}
    return {
        folder: (sum(one[name] for name in ("replaced", "skipped", "repaired", "raised")), one["replaced"])
        for folder, one in totals.items()
    }
