"""What both kinds of SafeDataset share: looking, recording, reporting, and the cap."""

from __future__ import annotations

import os
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.utils.data import get_worker_info

from datacheck.errors import OutputError, UsageError
from datacheck.findings import Example, Finding
from datacheck.schema.model import Schema
from datacheck.text import plain
from datacheck.torch import _compat
from datacheck.torch.loader.config import SafeConfig
from datacheck.torch.loader.errors import BadSampleError, TooManyBadSamplesError, warn_of
from datacheck.torch.loader.fingerprint import fingerprint_of
from datacheck.torch.loader.inspector import Inspector, Look, describe
from datacheck.torch.loader.origins import origin_of, origin_of_streamed
from datacheck.torch.loader.provenance import SampleOrigin, register_origins
from datacheck.torch.loader.quarantine import Quarantine
from datacheck.torch.loader.ranks import Ranks
from datacheck.torch.loader.recorder import Recorder, describe_excess, is_excess
from datacheck.torch.loader.records import BadSample, Verdict, unreadable
from datacheck.torch.loader.repair import Repairer
from datacheck.torch.loader.report import DatasetReport
from datacheck.torch.loader.retry import Retries
from datacheck.torch.loader.sample_check import UNIQUE, SampleJudge

__all__ = ["Core"]

#: Seconds between two writes of the quarantine file, while samples keep coming.
WRITE_INTERVAL = 5.0


#: Those of this process that have a list.
_with_quarantine: weakref.WeakSet[Core] = weakref.WeakSet()


class Core:
    """The part of a SafeDataset that knows nothing of how samples are asked for."""

    def __init__(
        self,
        dataset: Any,
        config: SafeConfig,
        schema: Schema,
        repairer: Repairer | None,
        *,
        is_stream: bool,
        quarantine: str | os.PathLike[str] | None,
        fingerprint: str | None,
        name: str | None,
    ) -> None:
        _compat.warn_missing("loader")
        self.dataset, self.config, self.schema, self.repairer = dataset, config, schema, repairer
        self.is_stream = is_stream
        self.name = name or type(dataset).__name__
        self.token = uuid.uuid4().hex
        self.quarantine: Quarantine | None = None
        self._is_distributed = False
        #: Whether keys were judged over the whole data set.
        self.are_keys_known = False
        if quarantine is None:
            self.recorder = Recorder(is_stream=is_stream)
            self._start()
            return
        if is_stream:
            raise UsageError("quarantine: an iterable data set has no indices by which a sample is known again")
        known_as = fingerprint_of(dataset) if fingerprint is None else fingerprint
        self.quarantine = Quarantine(Path(quarantine), known_as, self.name, self.num_samples())
        for other in list(_with_quarantine):  # one of this process has not written yet what it found
            if other.quarantine is not None and other.quarantine.path == self.quarantine.path:
                other.write_quarantine()
        known = self.quarantine.start()
        self.recorder = Recorder(is_stream=False, beside=self.quarantine.path)
        self.quarantine.sign(self.recorder.journal)
        self._start()
        self.recorder.add_known(known)
        self._num_written = len(known)

    def _start(self) -> None:
        config = self.config
        self.inspector = Inspector(
            SampleJudge(self.schema),
            Retries(config.retries, config.backoff, config.retry_on),
            self.name,
            self.origin,
            lambda: self.recorder.count("retried"),
        )
        if self.are_keys_known:
            self.inspector.judge.forget_keys()
        self.ranks = Ranks()
        self._written_at = 0.0
        self._num_written = 0
        self._has_warned = self._has_failed = False
        self._state_samples: tuple[int, list[dict[str, Any]]] | None = None
        register_origins(self.token, self)
        if self.quarantine is not None:
            _with_quarantine.add(self)
            weakref.finalize(self, _write_down, self.recorder, self.quarantine, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in (
            "inspector",
            "ranks",
            "_written_at",
            "_num_written",
            "_has_warned",
            "_has_failed",
            "_state_samples",
        ):
            state.pop(name, None)
        return {**state, "_is_distributed": self.is_distributed()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def num_samples(self) -> int | None:
        """The length of the data set; None where it has none."""
        try:
            return len(self.dataset)
        except TypeError:
            return None

    def origin(self, index: int, sample: Any = None) -> SampleOrigin | None:
        """The origin of a sample, where the data set gives one."""
        if self.is_stream:
            return origin_of_streamed(sample, index)
        return origin_of(self.dataset, index)

    def is_distributed(self) -> bool:
        """Whether several ranks train together; a worker knows it from the process that started it."""
        if dist.is_available() and dist.is_initialized():
            return dist.get_world_size() > 1
        return self._is_distributed

    def settle(
        self, index: int, first: Look, load: Callable[[], Any], *, raw: Any = None, within_cap: bool = True
    ) -> Look | None:
        """The look at a sample that may be served after all; None for one that may not. What is found is recorded."""
        if not first.findings:
            return first
        if self.repairer is not None and first.error is None and index in self.recorder.repaired:
            repaired = self._repair(index, first)
            if repaired is not None:
                return repaired
        verdict, look = self.inspector.settle(index, first, load, raw)
        if verdict is None:
            return look
        if verdict is Verdict.UNSTABLE:
            self.recorder.count("unstable")
            self.record(index, verdict, look)
            return Look(look.sample, None, (), look.origin)
        if verdict is Verdict.BAD and look.error is None:
            repaired = self._repair(index, look)
            if repaired is not None:
                return repaired
        self.lose(index, look, within_cap=within_cap)
        return None

    def lose(self, index: int, look: Look, *, within_cap: bool = True) -> None:
        """Record a sample that is not served: for good, or because of an error that passes."""
        if look.is_passing:
            self.recorder.count("passing")
        self.record(index, Verdict.PASSING if look.is_passing else Verdict.BAD, look, within_cap=within_cap)

    def _repair(self, index: int, look: Look) -> Look | None:
        """The look with its sample repaired; None where it is not."""
        if self.repairer is None:
            return None
        sample = self.repairer.repair(look.sample, look.findings, self.inspector.judge)
        if sample is None:
            return None
        self.recorder.count("repaired")
        self.record(index, Verdict.REPAIRED, look)
        return Look(sample, None, (), look.origin)

    def record_repeated(self, index: int, keys: Sequence[str | None]) -> None:
        """Make a sample known as bad that repeats the keys of earlier ones."""
        origin = self.origin(index)
        uri, row, row_group = self.inspector.place(index, origin)
        places = () if row is None else (Example(row, row_group),)
        findings = tuple(Finding("DC301", uri, key, 1, 1, places) for key in keys)
        self.record(index, Verdict.BAD, Look(None, None, findings, origin), within_cap=False)

    def record(self, index: int, verdict: Verdict, look: Look, *, within_cap: bool = True) -> None:
        """Make a bad sample known to all processes; warn at the first, raise where there are too many."""
        if self.recorder.is_known(verdict, index):
            return
        worker = get_worker_info()
        sample = describe(index, verdict, look, self.recorder.journal.epoch, None if worker is None else worker.id)
        is_first = self.recorder.record(sample)
        if is_first and self.config.policy != "raise":
            warn_of(f"{self._place()}{sample.message}; {_WHAT[self.config.policy]}")
        if verdict is Verdict.BAD:
            if within_cap:
                self.check_cap()
            self.write_quarantine(at_most_every=WRITE_INTERVAL)

    def tell_unchecked(self) -> None:
        """Say once of each path that its values could not be looked into."""
        unchecked = self.inspector.judge.unchecked
        while unchecked:
            path, problem = unchecked.popitem()
            if self.recorder.record_unchecked(path, problem):
                finding = Finding("DC005", self.name, path or None, 1, 1, detail=problem)
                warn_of(f"{finding.code} {finding.message}")

    def _place(self) -> str:
        return f"{plain(self.name)}: "

    def check_cap(self) -> None:
        """Raise ``TooManyBadSamplesError`` where too much is bad; of ranks, only :meth:`synchronize` may."""
        if self.config.policy == "raise":
            return
        recorder = self.recorder
        found = (recorder.num_new, len(recorder.bad))
        # The more was seen, the more may be bad; what all processes have seen is asked only where it decides.
        if not is_excess(*found, 0, self.num_samples(), self.config.max_bad_fraction):
            return
        numbers = (*found, recorder.totals()["seen"])
        if not self.is_distributed():
            self.raise_excess(*numbers)
        elif not self._has_warned and is_excess(*numbers, self.num_samples(), self.config.max_bad_fraction):
            self._has_warned = True
            warn_of(
                f"{self._place()}this rank has more bad samples than max_bad_fraction allows; call synchronize() or "
                "set_epoch() on all ranks, where they stop together"
            )

    def raise_excess(self, num_new: int, num_bad: int, num_seen: int) -> None:
        """Raise where these numbers are beyond the cap."""
        numbers = (num_new, num_bad, num_seen, self.num_samples(), self.config.max_bad_fraction)
        if is_excess(*numbers):
            raise TooManyBadSamplesError(self._place() + describe_excess(*numbers, self.recorder.reasons))

    def refuse(self, index: int, error: Exception | None, why: str = "") -> BadSampleError:
        """The error for a sample that is not served."""
        known = next((sample for sample in self.recorder.samples() if sample.index == index), None)
        self.recorder.count("raised")
        refused = BadSampleError(f"{self._place()}{f'sample {index}' if known is None else known.message}{why}")
        refused.__cause__ = error
        return refused

    def synchronize(self) -> None:
        """Share with all ranks what is known, write it down, and hold the sum against the cap."""
        self.recorder.begin()
        if self.is_distributed():
            shared = self.ranks.share(self.recorder)
            self.write_quarantine()
            self.raise_excess(shared.num_new, shared.num_bad, shared.num_seen)
            return
        self.write_quarantine()
        self.check_cap()

    def write_quarantine(self, at_most_every: float = 0.0) -> None:
        """Add what is new to the quarantine file, in the main process."""
        if self.quarantine is None or get_worker_info() is not None:
            return
        self.recorder.begin()
        if len(self.recorder.bad) == self._num_written or time.monotonic() - self._written_at < at_most_every:
            return
        self._written_at = time.monotonic()
        if _is_written(self.quarantine, self.recorder.samples(), is_told=not self._has_failed):
            self._num_written = len(self.recorder.bad)
        self._has_failed = self._num_written != len(self.recorder.bad)

    def report(self) -> DatasetReport:
        """What is known, of all processes."""
        self.recorder.begin()
        self.write_quarantine()
        samples = [*self.recorder.samples(), *self._killed()]
        unchecked = self.recorder.unchecked
        if self.are_keys_known:
            unchecked = {path: problem for path, problem in unchecked.items() if problem != UNIQUE}
        return DatasetReport.of(self.name, self.num_samples(), samples, self.recorder.totals(), unchecked)

    def _killed(self) -> Iterator[BadSample]:
        """The samples that were being loaded when a process was killed."""
        for index, (number, epoch) in self.recorder.killed().items():
            one = "" if number == 1 else f", or another one of its batch of {number:,},"
            detail = f"the process that loaded it{one} was killed"
            origin = None if self.is_stream else self.origin(index)
            place = self.inspector.place(index, origin)
            yield BadSample(index, Verdict.KILLED, (unreadable(detail, *place),), origin, None, epoch)

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the samples that are known to be bad for good, as plain values."""
        self.recorder.begin()
        journal = self.recorder.journal
        # A stateful loader asks after every batch.
        if self._state_samples is None or self._state_samples[0] != journal.version:
            samples = [] if self.is_stream else self.recorder.samples()
            known = [sample.to_dict() for sample in samples if sample.verdict is Verdict.BAD]
            self._state_samples = (journal.version, known)
        return {"version": 1, "name": self.name, "epoch": journal.epoch, "samples": self._state_samples[1]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave; raises ``UsageError`` for anything else."""
        try:
            if state["version"] != 1:
                raise UsageError(f"the state is of version {state['version']!r}, and 1 is known")
            samples = [BadSample.from_dict(sample) for sample in state["samples"]]
            epoch = int(state["epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the state is not one that a SafeDataset gave ({plain(repr(error))})") from None
        if not self.is_stream:
            self.recorder.add_known(samples)
        self.recorder.journal.epoch = epoch

    def check_agreement(self, indices: Sequence[int]) -> None:
        """Raise where ranks know different samples to be bad, so that their lengths would differ."""
        if not self.is_distributed():
            return
        counts = self.ranks.compare(indices)
        if counts is not None:
            raise UsageError(
                f"{self._place()}the ranks know of different bad samples ({', '.join(map(str, counts))} of them, rank by "
                "rank), so they would train on different lengths; call synchronize() on all of them first"
            )


_WHAT = {
    "replace": "another sample is served in its place; report() names all of them",
    "skip": "it is skipped; report() names all of them",
}


def _write_down(recorder: Recorder, quarantine: Quarantine, owner: int) -> None:
    """At the end of the data set or of its process: write down what is known, in the main process."""
    if os.getpid() != owner or get_worker_info() is not None:
        return
    found = [sample for sample in recorder.samples() if sample.verdict is Verdict.BAD]
    if found and not _is_written(quarantine, found, is_told=True):
        recorder.journal.keep()


def _is_written(quarantine: Quarantine, samples: Iterable[BadSample], *, is_told: bool) -> bool:
    """Whether samples could be added to the list. A training does not end because of a list that cannot be written."""
    try:
        quarantine.add(samples)
    except (OutputError, UsageError) as error:
        if is_told:
            warn_of(f"{error}; until that is mended, bad samples are known to this run only")
        return False
    return True
