"""What map-style and iterable SafeDatasets share: checking, recording and reporting bad samples, and their limit."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch.distributed as dist
from torch.utils.data import get_worker_info

from datacheck.errors import UsageError
from datacheck.findings import Example, Finding
from datacheck.schema.model import Schema
from datacheck.text import plain
from datacheck.torch import _private_names
from datacheck.torch.guard.distributed import is_distributed
from datacheck.torch.loader.config import SafeConfig
from datacheck.torch.loader.errors import (
    BadSampleError,
    TooManyBadSamplesError,
    place_of_caller,
    set_sender,
    warn_at_caller,
)
from datacheck.torch.loader.file_dataset import numbers_of
from datacheck.torch.loader.fingerprint import fingerprint_of
from datacheck.torch.loader.index_tracking import describe_lost_origins
from datacheck.torch.loader.origins import origin_of, origin_of_streamed
from datacheck.torch.loader.provenance import SampleOrigin, register_origins
from datacheck.torch.loader.quarantine import Quarantine, open_quarantine
from datacheck.torch.loader.quarantine_writer import WRITE_INTERVAL, QuarantineWriter, write_others
from datacheck.torch.loader.ranks import Ranks
from datacheck.torch.loader.recorder import Recorder, describe_excess, is_excess
from datacheck.torch.loader.records import BadSample, SampleVerdict, describe_error, unreadable
from datacheck.torch.loader.repair import Repairer
from datacheck.torch.loader.report import DatasetReport
from datacheck.torch.loader.retry import Retries
from datacheck.torch.loader.retrying_checker import CheckedSample, RetryingChecker
from datacheck.torch.loader.sample_check import NEEDS_SCAN, SampleCheck

#: What a process does not send with a tracker.
_OF_THIS_PROCESS = ("checker", "ranks", "_state_samples", "_writer")


class BadSampleTracker:
    """Checks samples, records bad ones, and enforces ``max_bad_fraction``, whether samples are indexed or streamed."""

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
        _private_names.warn_missing("loader")
        self.dataset, self.config, self.schema, self.repairer = dataset, config, schema, repairer
        self.is_stream = is_stream
        self.name = name or type(dataset).__name__
        self.token = uuid.uuid4().hex
        self.quarantine: Quarantine | None = None
        self._rank: int | None = None
        #: Whether unique keys were checked over the whole dataset.
        self.are_keys_known = False
        #: What :meth:`SafeDataset.check` found in the dataset as a whole.
        self.dataset_findings: tuple[Finding, ...] = ()
        if quarantine is None:
            self.recorder = Recorder(is_stream=is_stream)
            self._start()
            return
        if not isinstance(quarantine, str | os.PathLike):
            raise UsageError(f"quarantine must be the path of a JSON file, got {quarantine!r}")
        if is_stream:
            raise UsageError("quarantine requires a map-style dataset: samples of an iterable one have no index")
        known_as = fingerprint_of(dataset) if fingerprint is None else fingerprint
        self.quarantine = open_quarantine(quarantine, known_as, self.name, self.num_samples())
        write_others(self.quarantine.path)
        known = self.quarantine.load()
        self.recorder = Recorder(is_stream=False, beside=self.quarantine.beside)
        self.quarantine.mark_owner(self.recorder.event_log)
        self._start()
        self.recorder.add_known(known)
        assert self._writer is not None
        self._writer.num_written = len(known)

    def _start(self) -> None:
        config = self.config
        self.checker = RetryingChecker(
            SampleCheck(self.schema, numbers_of(self.dataset)),
            Retries(config.retries, config.backoff, config.retry_on),
            self.name,
            self.origin,
            lambda name: self.recorder.count(name),
        )
        if self.are_keys_known:
            self.checker.sample_check.ignore_keys()
        self.ranks = Ranks()
        self._has_warned = False
        self._state_samples: tuple[int, list[dict[str, Any]]] | None = None
        register_origins(self.token, self)
        self._writer = None if self.quarantine is None else QuarantineWriter(self.quarantine, self.recorder)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in _OF_THIS_PROCESS}
        return {**state, "_rank": self.rank(), "_sent_from": place_of_caller()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        set_sender(state.pop("_sent_from"))
        self.__dict__.update(state)
        self._start()

    def num_samples(self) -> int | None:
        """The length of the dataset, or None."""
        try:
            return len(self.dataset)
        except TypeError:
            return None

    def origin(self, index: int, sample: Any = None) -> SampleOrigin | None:
        """The origin of a sample, or None where the dataset does not tell."""
        if self.is_stream:
            return origin_of_streamed(sample, index)
        return origin_of(self.dataset, index)

    def rank(self) -> int | None:
        """The rank, or None where there is only one. A worker inherits it from the process that started it."""
        if is_distributed():
            return dist.get_rank() if dist.get_world_size() > 1 else None
        return self._rank

    def resolve(
        self, index: int, first: CheckedSample, load: Callable[[], Any], *, raw: Any = None, within_cap: bool = True
    ) -> CheckedSample | None:
        """Recheck or repair a sample that failed its first check, and record the outcome. None: it must not be served."""
        if not first.findings:
            return first
        if self.repairer is not None and first.error is None and index in self.recorder.repaired:
            repaired = self._repair(index, first)
            if repaired is not None:
                return repaired
        verdict, checked = self.checker.recheck(index, first, load, raw)
        if verdict is None:
            return checked
        if verdict is SampleVerdict.UNSTABLE:
            self.recorder.count("unstable")
            self.record(index, verdict, checked)
            return CheckedSample(checked.sample, None, (), checked.origin)
        if verdict is SampleVerdict.BAD and checked.error is None:
            repaired = self._repair(index, checked)
            if repaired is not None:
                return repaired
        self.record_lost(index, checked, within_cap=within_cap)
        return None

    def record_lost(self, index: int, checked: CheckedSample, *, within_cap: bool = True) -> None:
        """Record a sample that is not served, because it is bad or because a transient error persisted."""
        if checked.is_transient:
            self.recorder.count("passing")
        self.record(
            index,
            SampleVerdict.TRANSIENT if checked.is_transient else SampleVerdict.BAD,
            checked,
            within_cap=within_cap,
        )

    def _repair(self, index: int, checked: CheckedSample) -> CheckedSample | None:
        """The sample repaired, or None."""
        if self.repairer is None:
            return None
        sample = self.repairer.repair(checked.sample, checked.findings, self.checker.sample_check)
        if sample is None:
            return None
        self.recorder.count("repaired")
        self.record(index, SampleVerdict.REPAIRED, checked)
        return CheckedSample(sample, None, (), checked.origin)

    def record_repeated(self, index: int, keys: Sequence[str | None]) -> None:
        """Record a sample that repeats unique keys of earlier ones."""
        origin = self.origin(index)
        uri, row, row_group = self.checker.location(index, origin)
        examples = () if row is None else (Example(row, row_group),)
        findings = tuple(Finding("DC301", uri, key, 1, 1, examples) for key in keys)
        self.record(index, SampleVerdict.BAD, CheckedSample(None, None, findings, origin), within_cap=False)

    def record(self, index: int, verdict: SampleVerdict, checked: CheckedSample, *, within_cap: bool = True) -> None:
        """Record a bad sample for all processes. Warns of the first one, and raises if there are too many."""
        if self.recorder.is_known(verdict, index):
            return
        worker = get_worker_info()
        error = None if checked.error is None else describe_error(checked.error)
        epoch, number = self.recorder.event_log.epoch, None if worker is None else worker.id
        sample = BadSample(index, verdict, checked.findings, checked.origin, error, epoch, number)
        is_first = self.recorder.record(sample)
        if is_first and self.config.policy != "raise":
            warn_at_caller(f"{self._prefix}{sample.message}; {_CONSEQUENCES[self.config.policy]}")
        if verdict is SampleVerdict.BAD:
            if within_cap:
                self.check_cap()
            self.write_quarantine(at_most_every=WRITE_INTERVAL)

    def warn_unchecked(self) -> None:
        """Warn once of each path whose values cannot be checked."""
        unchecked = self.checker.sample_check.unchecked
        while unchecked:
            path, problem = unchecked.popitem()
            if self.recorder.record_unchecked(path, problem):
                finding = Finding("DC005", self.name, path or None, 1, 1, detail=problem)
                warn_at_caller(f"{finding.code} {finding.message}")

    @property
    def _prefix(self) -> str:
        return f"{plain(self.name)}: "

    def check_cap(self) -> None:
        """Raise ``TooManyBadSamplesError`` if too many samples are bad.

        Of several ranks, one that raised alone would leave the others waiting for it until its process ends. So it does that
        only where they are not known to compare their numbers later.
        """
        if self.config.policy == "raise":
            return
        recorder = self.recorder
        found = (recorder.num_new, len(recorder.bad))
        # The more samples were seen, the more may be bad. The sum over all processes costs time, so it comes second.
        if not is_excess(*found, 0, self.num_samples(), self.config.max_bad_fraction):
            return
        numbers = (*found, recorder.totals()["seen"])
        rank = self.rank()
        if rank is None:
            self.raise_excess(*numbers)
        elif not is_excess(*numbers, self.num_samples(), self.config.max_bad_fraction):
            return
        elif not recorder.event_log.is_compared:
            self.raise_excess(
                *numbers,
                advice=f"; rank {rank} stops alone, by its own samples: call synchronize() on all ranks, before the first "
                "epoch and at regular intervals, to stop all of them together",
            )
        elif not self._has_warned:
            self._has_warned = True
            warn_at_caller(
                f"{self._prefix}rank {rank} has more bad samples than max_bad_fraction allows; all ranks compare their "
                "numbers at the end of the epoch, and where synchronize() is called"
            )

    def raise_excess(self, num_new: int, num_bad: int, num_seen: int, *, advice: str = "") -> None:
        """Raise ``TooManyBadSamplesError`` if these numbers exceed ``max_bad_fraction``."""
        numbers = (num_new, num_bad, num_seen, self.num_samples(), self.config.max_bad_fraction)
        if is_excess(*numbers):
            raise TooManyBadSamplesError(self._prefix + describe_excess(*numbers, self.recorder.reasons) + advice)

    def bad_sample_error(self, index: int, error: Exception | None, why: str = "") -> BadSampleError:
        """The error to raise for a bad sample."""
        known = next((sample for sample in self.recorder.samples() if sample.index == index), None)
        self.recorder.count("raised")
        raised = BadSampleError(f"{self._prefix}{f'sample {index}' if known is None else known.message}{why}")
        raised.__cause__ = error
        return raised

    def synchronize(self) -> None:
        """Share what is known with all ranks, save it, and check the total against ``max_bad_fraction``."""
        self.recorder.begin()
        if self.rank() is not None:
            shared = self.ranks.share(self.recorder)
            self.write_quarantine()
            self.raise_excess(shared.num_new, shared.num_bad, shared.num_seen)
            return
        self.write_quarantine()
        self.check_cap()

    def write_quarantine(self, at_most_every: float = 0.0) -> None:
        """Add new bad samples to the quarantine file, if there is one. Does nothing in a worker."""
        if self._writer is not None:
            self._writer.write(at_most_every)

    def report(self) -> DatasetReport:
        """The report over all processes."""
        self.recorder.begin()
        self.write_quarantine()
        samples = [*self.recorder.samples(), *self._killed()]
        unchecked = self.recorder.unchecked
        if self.are_keys_known:
            unchecked = {path: problem for path, problem in unchecked.items() if problem not in NEEDS_SCAN}
        report = DatasetReport.of(
            self.name, self.num_samples(), samples, self.recorder.totals(), unchecked, note=describe_lost_origins()
        )
        return replace(report, findings=(*report.findings, *self.dataset_findings))

    def _killed(self) -> Iterator[BadSample]:
        """The samples that were being loaded when a process was killed."""
        for index, (number, epoch) in self.recorder.killed().items():
            others = "" if number == 1 else f", or another sample of its batch of {number:,},"
            detail = f"the process that was loading it{others} was killed"
            origin = None if self.is_stream else self.origin(index)
            location = self.checker.location(index, origin)
            yield BadSample(index, SampleVerdict.KILLED, (unreadable(detail, *location),), origin, None, epoch)

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the known bad samples, as plain values."""
        self.recorder.begin()
        event_log = self.recorder.event_log
        # StatefulDataLoader calls this after every batch.
        if self._state_samples is None or self._state_samples[0] != event_log.version:
            samples = [] if self.is_stream else self.recorder.samples()
            known = [sample.to_dict() for sample in samples if sample.verdict is SampleVerdict.BAD]
            self._state_samples = (event_log.version, known)
        return {"version": 1, "name": self.name, "epoch": event_log.epoch, "samples": self._state_samples[1]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; raises ``UsageError`` for anything else."""
        try:
            if state["version"] != 1:
                raise UsageError(f"expected version 1 of the state of a SafeDataset, got {state['version']!r}")
            samples = [BadSample.from_dict(sample) for sample in state["samples"]]
            epoch = int(state["epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"not the state of a SafeDataset: {plain(repr(error))}") from None
        if not self.is_stream:
            self.recorder.add_known(samples)
        self.recorder.event_log.epoch = epoch

    def check_agreement(self, indices: Sequence[int]) -> None:
        """Raise ``UsageError`` if ranks know different bad samples, since their lengths would differ."""
        if self.rank() is None:
            return
        counts = self.ranks.compare(indices)
        if counts is not None:
            raise UsageError(
                f"{self._prefix}the ranks know different bad samples ({', '.join(map(str, counts))}, by rank), so they "
                "would train on different lengths; call synchronize() on all ranks first"
            )


_CONSEQUENCES = {
    "replace": "another sample replaces it; report() lists all bad samples",
    "skip": "it is skipped; report() lists all bad samples",
}
