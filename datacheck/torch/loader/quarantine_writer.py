"""Write what a dataset finds into its quarantine file: during a run, once the dataset is gone, and when the process exits."""

from __future__ import annotations

import atexit
import functools
import os
import time
import weakref
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from torch.utils.data import get_worker_info

from datacheck.errors import OutputError, UsageError
from datacheck.torch.loader.errors import warn_at_caller
from datacheck.torch.loader.quarantine import Quarantine
from datacheck.torch.loader.recorder import Recorder
from datacheck.torch.loader.records import BadSample, SampleVerdict

#: Seconds between two writes of the quarantine file during an epoch.
WRITE_INTERVAL = 5.0

#: The writers of this process.
_writers: weakref.WeakSet[QuarantineWriter] = weakref.WeakSet()
#: What datasets found that were collected, until it is saved, and who created them.
_waiting: deque[tuple[Recorder, Quarantine, int]] = deque()


class QuarantineWriter:
    """Adds the bad samples of one dataset to its quarantine file, and saves the last of them after the dataset is gone.

    Attributes:
        num_written: how many samples the file has.
    """

    def __init__(self, quarantine: Quarantine, recorder: Recorder) -> None:
        self.quarantine, self.recorder = quarantine, recorder
        self.owner = os.getpid()
        self.num_written = 0
        self._written_at = 0.0
        self._has_failed = False
        _writers.add(self)
        weakref.finalize(self, _save_later, recorder, quarantine, self.owner).atexit = False
        # After the finalizer, so that this runs before those that delete the event logs.
        _save_at_exit()

    def write(self, at_most_every: float = 0.0) -> None:
        """Add new bad samples, unless the last write was less than ``at_most_every`` seconds ago. Does nothing in a worker."""
        if get_worker_info() is not None:
            return
        self.recorder.begin()
        if len(self.recorder.bad) == self.num_written or time.monotonic() - self._written_at < at_most_every:
            return
        self._written_at = time.monotonic()
        if _try_add(self.quarantine, self.recorder.samples(), warns=not self._has_failed):
            self.num_written = len(self.recorder.bad)
        _save_waiting()
        self._has_failed = self.num_written != len(self.recorder.bad)


def write_others(path: Path) -> None:
    """Write what other datasets of this process have found for a file and not written yet."""
    for writer in list(_writers):
        if writer.quarantine.path == path:
            writer.write()
    _save_waiting()


def _save_later(recorder: Recorder, quarantine: Quarantine, owner: int) -> None:
    """Keep the bad samples of a dataset that is gone until another one is made, or the process exits.

    A dataset can be collected at any instant: while this very thread holds the lock of the file, or deep in the user's
    recursion. So its finalizer takes no lock and writes nothing. If the process is killed before they are
    saved, the next run finds them in the event log.
    """
    _waiting.append((recorder, quarantine, owner))


def _save_waiting() -> None:
    """Save what collected datasets found. What cannot be saved now is kept for later."""
    for _ in range(len(_waiting)):
        try:
            one = _waiting.popleft()
        except IndexError:  # another thread was faster
            return
        try:
            _save(*one)
        except (RecursionError, MemoryError):
            _waiting.append(one)


def _save(recorder: Recorder, quarantine: Quarantine, owner: int) -> None:
    """Save the bad samples of a dataset, in the process that created it."""
    if os.getpid() != owner or get_worker_info() is not None:
        return
    found = [sample for sample in recorder.samples() if sample.verdict is SampleVerdict.BAD]
    if found and not _try_add(quarantine, found, warns=True):
        recorder.event_log.keep()


@functools.cache
def _save_at_exit() -> None:
    """Save, when this process exits, what its datasets found."""
    atexit.register(_save_all)


def _save_all() -> None:
    _save_waiting()
    for writer in list(_writers):
        _save(writer.recorder, writer.quarantine, writer.owner)


def _try_add(quarantine: Quarantine, samples: Iterable[BadSample], *, warns: bool) -> bool:
    """Add samples to the quarantine file. False if that fails, which must not stop a training run."""
    try:
        quarantine.add(samples)
    except (OutputError, UsageError) as error:
        if warns:
            warn_at_caller(f"{error}; until this is fixed, the bad samples are known to this run only")
        return False
    return True
