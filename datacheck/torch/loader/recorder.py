"""Keep in one process the bad samples that all processes found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datacheck.codes import CODES, Family
from datacheck.text import quantity
from datacheck.torch.loader.event_log import COUNTERS, LOADING, NUM_LOADING, EventLog
from datacheck.torch.loader.records import BadSample, SampleVerdict

#: Samples to see before their bad fraction means anything.
LEAST_SEEN = 1000
#: Samples of a stream to record; since streams can be endless, later ones are only counted.
MAX_NAMED = 100_000

#: Verdicts on samples that are not served.
_LOST = (SampleVerdict.BAD, SampleVerdict.TRANSIENT)

_PLACES = {name: place for place, name in enumerate(COUNTERS)}


class Recorder:
    """Keeps the indices of known bad samples, counts, and appends new ones to the event log.

    With ``is_stream``, an index is a position in the stream of a worker and does not identify a sample.

    Attributes:
        bad: the indices of bad samples that this process knows; see :meth:`catch_up`.
        repaired: the indices of samples that were repaired.
        unchecked: the reason for each path whose values cannot be checked.
        num_new: how many samples were found bad in this run.
        reasons: the number of these samples by code and field.
    """

    def __init__(self, *, is_stream: bool, beside: Path | None = None) -> None:
        self.event_log = EventLog(beside)
        self.is_stream = is_stream
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        return {"event_log": self.event_log, "is_stream": self.is_stream}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.event_log, self.is_stream = state["event_log"], state["is_stream"]
        self._reset()

    def _reset(self) -> None:
        self._pid = 0
        self._version = -1
        self.bad: set[int] = set()
        self.repaired: set[int] = set()
        self.unchecked: dict[str, str] = {}
        self._known_keys: set[Any] = set()
        self.num_new = 0
        self._has_lost = False
        self.reasons: Counter[str] = Counter()

    def begin(self) -> set[int]:
        """The indices of known bad samples, up to date. Called before each sample; takes a fraction of a microsecond."""
        if self._pid != os.getpid():
            self._attach()
        if self._control[1] != self._version:
            self.catch_up()
        return self.bad

    def _attach(self) -> None:
        """Start over in a fork, which reads the event log from its beginning."""
        self._reset()
        self._counts, self._control = self.event_log.attach()
        self._pid = os.getpid()
        if self.event_log.killed is not None:
            self.record_killed()

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter of this process; see :data:`~datacheck.torch.loader.event_log.COUNTERS`."""
        self._counts[_PLACES[name]] += number

    def start(self, index: int, number: int = 1) -> None:
        """Count samples as seen, and note that they are being loaded, in case this kills the process."""
        counts = self._counts
        counts[0] += number
        counts[NUM_LOADING] = number
        counts[LOADING] = index + 1

    def start_other(self, index: int) -> None:
        """Note that another sample is being loaded instead."""
        self._counts[LOADING] = index + 1

    def end(self) -> None:
        """Note that nothing is being loaded."""
        self._counts[LOADING] = 0

    def record_killed(self) -> None:
        """Record what killed processes were loading."""
        for index, number in self.event_log.find_killed():
            with self.event_log.locked():
                self.event_log.append({"killed": index, "number": number, "epoch": self.event_log.epoch})

    def killed(self) -> dict[int, tuple[int, int]]:
        """The samples that killed processes were loading: index, number of samples in the call, and epoch."""
        self.begin()
        self.record_killed()
        records = [record for record, _ in self.event_log.read(again=True) if "killed" in record]
        return {record["killed"]: (record["number"], record["epoch"]) for record in records}

    def catch_up(self) -> None:
        """Read what other processes have found since the last call."""
        with self.event_log.thread_lock:
            version = self._control[1]
            if version == self._version:
                return
            for record, is_new in self.event_log.read():
                self._apply(record, is_new)
            self._version = version

    def _append(self, record: dict[str, Any]) -> None:
        """Append a new record; requires that this process has read all others."""
        self.event_log.append(record)
        self._apply(record, is_new=True)
        self._version = self._control[1]

    def _apply(self, record: dict[str, Any], is_new: bool) -> None:
        if "verdict" in record:
            self._apply_sample(record, is_new)
        elif "unchecked" in record:
            self.unchecked.setdefault(record["unchecked"], record["problem"])

    def _apply_sample(self, record: dict[str, Any], is_new: bool) -> None:
        key = self._key(record)
        if key in self._known_keys:
            return
        self._known_keys.add(key)
        if is_new and record["verdict"] in _LOST:
            self._has_lost = True
        if record["verdict"] == SampleVerdict.REPAIRED:
            self.repaired.add(record["index"])
        if record["verdict"] == SampleVerdict.BAD:
            if not self.is_stream:
                self.bad.add(record["index"])
            if is_new:
                self.num_new += 1
                self.reasons.update({_reason(finding) for finding in record["findings"]})

    def _key(self, record: dict[str, Any]) -> Any:
        if not self.is_stream:
            return (record["verdict"], record["index"])
        origin = record["origin"]
        if origin is not None and origin["uri"] is not None:
            return (record["verdict"], origin["uri"], origin["row"])
        return (record["verdict"], record["worker"], record["index"])

    def is_known(self, verdict: SampleVerdict, index: int) -> bool:
        """Whether this verdict on a sample is already recorded."""
        return not self.is_stream and (verdict, index) in self._known_keys

    def record(self, sample: BadSample) -> bool:
        """Share a sample with all processes, unless it is known. Returns whether it is the first one not served in this run."""
        self.begin()
        record = sample.to_dict()
        with self.event_log.locked():
            self.catch_up()
            if self._key(record) in self._known_keys or (self.is_stream and len(self._known_keys) >= MAX_NAMED):
                return False
            is_first = sample.verdict in _LOST and not self._has_lost
            self._append(record)
        return is_first

    def record_unchecked(self, path: str, problem: str) -> bool:
        """Record that the values at a path cannot be checked; returns whether this is new."""
        self.begin()
        with self.event_log.locked():
            self.catch_up()
            if path in self.unchecked:
                return False
            self._append({"unchecked": path, "problem": problem})
        return True

    def add_known(self, samples: Iterable[BadSample]) -> None:
        """Share samples that earlier runs, or other ranks, found."""
        self.begin()
        records = [sample.to_dict() for sample in samples]
        fresh = [record for record in records if self._key(record) not in self._known_keys]
        if fresh:
            self.event_log.write_known(fresh)
            self.catch_up()

    def samples(self, *, new_only: bool = False) -> Iterator[BadSample]:
        """The recorded samples, once per verdict, in the order of the log files."""
        self.begin()
        keys = set()
        for record, is_new in self.event_log.read(again=True):
            key = self._key(record) if "verdict" in record else None
            if key is not None and key not in keys and (is_new or not new_only):
                keys.add(key)
                yield BadSample.from_dict(record)

    def totals(self) -> dict[str, int]:
        """The counters, summed over all processes."""
        self.begin()
        return self.event_log.totals()


def is_excess(num_new: int, num_bad: int, num_seen: int, num_samples: int | None, fraction: float) -> bool:
    """Whether more than ``fraction`` of a dataset is bad.

    All known bad samples are compared to the whole dataset. Bad samples of this run are also compared to the samples seen, once
    these are enough to be meaningful.
    """
    looked_at = max(num_seen, LEAST_SEEN)
    if num_samples is None:
        return num_new > fraction * looked_at
    return num_bad > fraction * num_samples or num_new > fraction * min(num_samples, looked_at)


def describe_excess(
    num_new: int, num_bad: int, num_seen: int, num_samples: int | None, fraction: float, reasons: Counter[str]
) -> str:
    """The message of :class:`TooManyBadSamplesError`."""
    if num_samples is not None and num_bad > fraction * num_samples:
        found = f"{quantity(num_bad, 'sample')} of {num_samples:,} {'is' if num_bad == 1 else 'are'} bad"
    else:
        found = f"{quantity(num_new, 'sample')} of the {num_seen:,} seen so far {'is' if num_new == 1 else 'are'} bad"
    top = "; ".join(f"{quantity(number, 'sample')}: {reason}" for reason, number in reasons.most_common(3))
    return (
        f"{found}, more than max_bad_fraction={fraction:g} allows{f' ({top})' if top else ''}; fix the data ('datacheck "
        "scan' and 'datacheck run'), or raise max_bad_fraction if so many bad samples are expected"
    )


def _reason(finding: dict[str, Any]) -> str:
    where = f" in '{finding['field']}'" if finding["field"] is not None else ""
    detail = f" ({finding['detail']})" if CODES[finding["code"]].family is Family.UNREADABLE else ""
    return f"{finding['code']} {finding['name']}{where}{detail}"
