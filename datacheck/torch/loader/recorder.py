"""What one process knows of the bad samples that all processes found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datacheck.codes import CODES, Family
from datacheck.text import quantity
from datacheck.torch.loader.event_log import COUNTERS, LOADING, NUM_LOADING, Journal
from datacheck.torch.loader.records import BadSample, Verdict

__all__ = ["Recorder", "describe_excess", "is_excess"]

#: Samples that must have been seen before a share of them says anything.
LEAST_SEEN = 1000
#: Samples of a stream that are named; beyond that they are only counted, for a stream has no end.
MAX_NAMED = 100_000

#: Verdicts on samples that are not served.
_LOST = (Verdict.BAD, Verdict.PASSING)

_PLACES = {name: place for place, name in enumerate(COUNTERS)}


class Recorder:
    """Keeps the indices that are known to be bad, counts, and appends to the journal what is new.

    ``is_stream`` says that an index is a place in the stream of a worker, and names no sample for good.

    Attributes:
        bad: the indices that are known to be bad, in this process; see :meth:`catch_up`.
        repaired: the indices of samples that were repaired before.
    """

    def __init__(self, *, is_stream: bool, beside: Path | None = None) -> None:
        self.journal = Journal(beside)
        self.is_stream = is_stream
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"journal": self.journal, "is_stream": self.is_stream}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.journal, self.is_stream = state["journal"], state["is_stream"]
        self._forget()

    def _forget(self) -> None:
        self._pid = 0
        self._version = -1
        self.bad: set[int] = set()
        self.repaired: set[int] = set()
        self._unchecked: dict[str, str] = {}
        self._noted: set[Any] = set()
        self._num_new = 0
        self._has_lost = False
        self._reasons: Counter[str] = Counter()

    def begin(self) -> set[int]:
        """The indices that are known to be bad, as of now; call it before each sample. It costs a fraction of a microsecond."""
        if self._pid != os.getpid():
            self._attach()
        if self._control[1] != self._version:
            self.catch_up()
        return self.bad

    def _attach(self) -> None:
        """A fork has the sets of its parent, but reads the journal from its beginning."""
        self._forget()
        self._counts, self._control = self.journal.attach()
        self._pid = os.getpid()
        if self.journal.killed is not None:
            self.note_killed()

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter of this process; see :data:`~datacheck.torch.loader.event_log.COUNTERS`."""
        self._counts[_PLACES[name]] += number

    def start(self, index: int, number: int = 1) -> None:
        """Count samples as seen, and note that they are being loaded, in case that this kills the process."""
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

    def note_killed(self) -> None:
        """Make known what processes loaded when they were killed."""
        for index, number in self.journal.find_killed():
            with self.journal.locked():
                self.journal.append({"killed": index, "number": number, "epoch": self.journal.epoch})

    def killed(self) -> dict[int, tuple[int, int]]:
        """The samples that were being loaded when a process was killed: of how many one is it, and in which epoch."""
        self.begin()
        self.note_killed()
        records = [record for record, _ in self.journal.read_all() if "killed" in record]
        return {record["killed"]: (record["number"], record["epoch"]) for record in records}

    def catch_up(self) -> None:
        """Read what other processes have found since."""
        with self.journal.thread_lock:
            version = self._control[1]
            if version == self._version:
                return
            for record, is_new in self.journal.read_new():
                self._take_up(record, is_new)
            self._version = version

    def _append(self, record: dict[str, Any]) -> None:
        """Write what nobody knows yet; this process has read everything else, and need not read this."""
        self.journal.append(record)
        self._take_up(record, is_new=True)
        self._version = self._control[1]

    def _take_up(self, record: dict[str, Any], is_new: bool) -> None:
        if "verdict" in record:
            self._note(record, is_new)
        elif "unchecked" in record:
            self._unchecked.setdefault(record["unchecked"], record["problem"])

    def _note(self, record: dict[str, Any], is_new: bool) -> None:
        key = self._key(record)
        if key in self._noted:
            return
        self._noted.add(key)
        if is_new and record["verdict"] in _LOST:
            self._has_lost = True
        if record["verdict"] == Verdict.REPAIRED:
            self.repaired.add(record["index"])
        if record["verdict"] == Verdict.BAD:
            if not self.is_stream:
                self.bad.add(record["index"])
            if is_new:
                self._num_new += 1
                self._reasons.update({_reason(finding) for finding in record["findings"]})

    def _key(self, record: dict[str, Any]) -> Any:
        if not self.is_stream:
            return (record["verdict"], record["index"])
        origin = record["origin"]
        if origin is not None and origin["uri"] is not None:
            return (record["verdict"], origin["uri"], origin["row"])
        return (record["verdict"], record["worker"], record["index"])

    def is_known(self, verdict: Verdict, index: int) -> bool:
        """Whether this was said of a sample before, and need not be again."""
        return not self.is_stream and (verdict, index) in self._noted

    def record(self, sample: BadSample) -> bool:
        """Make a sample known to all processes; whether it is the first of this run that is not served.

        A sample that is known already is not written again.
        """
        self.begin()
        record = sample.to_dict()
        with self.journal.locked():
            self.catch_up()
            if self._key(record) in self._noted or (self.is_stream and len(self._noted) >= MAX_NAMED):
                return False
            is_first = sample.verdict in _LOST and not self._has_lost
            self._append(record)
        return is_first

    def record_unchecked(self, path: str, problem: str) -> bool:
        """Make known that the values at a path cannot be looked into; whether nobody knew."""
        self.begin()
        with self.journal.locked():
            self.catch_up()
            if path in self._unchecked:
                return False
            self._append({"unchecked": path, "problem": problem})
        return True

    @property
    def unchecked(self) -> dict[str, str]:
        """For each path whose values cannot be looked into, why."""
        return self._unchecked

    def add_known(self, samples: Iterable[BadSample]) -> None:
        """Make known what earlier runs found."""
        self.begin()
        records = [sample.to_dict() for sample in samples]
        fresh = [record for record in records if self._key(record) not in self._noted]
        if fresh:
            self.journal.write_known(fresh)
            self.catch_up()

    def samples(self, *, new_only: bool = False) -> Iterator[BadSample]:
        """Every sample that is known, each once for each verdict, in the order of the files that hold them."""
        self.begin()
        keys = set()
        for record, is_new in self.journal.read_all():
            key = self._key(record) if "verdict" in record else None
            if key is not None and key not in keys and (is_new or not new_only):
                keys.add(key)
                yield BadSample.from_dict(record)

    def totals(self) -> dict[str, int]:
        """The counters of all processes, added."""
        self.begin()
        return self.journal.totals()

    @property
    def num_new(self) -> int:
        """How many samples were found bad in this run."""
        return self._num_new

    @property
    def reasons(self) -> Counter[str]:
        """Why samples were found bad in this run: samples by code and field."""
        return self._reasons


def is_excess(num_new: int, num_bad: int, num_seen: int, num_samples: int | None, fraction: float) -> bool:
    """Whether more than ``fraction`` of a data set is bad.

    All that is known is held against the whole set; what was found in this run also against what was seen of it, once
    that is enough to say something.
    """
    looked_at = max(num_seen, LEAST_SEEN)
    if num_samples is None:
        return num_new > fraction * looked_at
    return num_bad > fraction * num_samples or num_new > fraction * min(num_samples, looked_at)


def describe_excess(
    num_new: int, num_bad: int, num_seen: int, num_samples: int | None, fraction: float, reasons: Counter[str]
) -> str:
    """The error of a data set that is too bad, in words."""
    if num_samples is not None and num_bad > fraction * num_samples:
        found = f"{quantity(num_bad, 'sample')} of {num_samples:,} {'is' if num_bad == 1 else 'are'} bad"
    else:
        found = f"{quantity(num_new, 'sample')} of the {num_seen:,} seen so far {'is' if num_new == 1 else 'are'} bad"
    top = "; ".join(f"{quantity(number, 'sample')}: {reason}" for reason, number in reasons.most_common(3))
    return (
        f"{found}, more than max_bad_fraction={fraction:g} allows{f' ({top})' if top else ''}; mend the data ('datacheck "
        "scan' and 'datacheck run'), or raise max_bad_fraction if so many bad samples are expected"
    )


def _reason(finding: dict[str, Any]) -> str:
    where = f" in '{finding['field']}'" if finding["field"] is not None else ""
    detail = f" ({finding['detail']})" if CODES[finding["code"]].family is Family.UNREADABLE else ""
    return f"{finding['code']} {finding['name']}{where}{detail}"
