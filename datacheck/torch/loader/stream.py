"""Iterate over a stream safely: check each sample, replace or skip bad ones, and resume from a saved state."""

from __future__ import annotations

import copy
import inspect
from collections import deque
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from datacheck.errors import UsageError
from datacheck.torch.loader.errors import warn_at_caller
from datacheck.torch.loader.index_tracking import is_tracking, track_sample
from datacheck.torch.loader.provenance import SampleOrigin
from datacheck.torch.loader.replacement import candidates
from datacheck.torch.loader.retrying_checker import CheckedSample
from datacheck.torch.loader.tracker import BadSampleTracker

#: Good samples that are kept to replace bad ones.
NUM_RECENT = 8
#: Checkpoints of the wrapped dataset that are kept, and samples to read again at most to refill the recent ones.
MAX_CHECKPOINTS, MAX_READ_AGAIN = 64, 4096

_END = object()

_CANNOT_CONTINUE = (
    "cannot continue after it raised, so the rest is lost: raise in transform instead, or give WebDataset's stages "
    "handler=datacheck.torch.continue_and_report"
)


@dataclass(frozen=True, slots=True)
class _Raised:
    """An error that the stream raised instead of yielding a sample."""

    error: Exception


class _Checkpoint(NamedTuple):
    """A state of the wrapped dataset, with the number of samples it had given and of good ones among them."""

    state: Any
    num_given: int
    num_good: int


class SafeIterator(Iterator[Any]):
    """One pass over a stream, which ``state_dict`` and ``load_state_dict`` can resume."""

    def __init__(self, dataset: Any, tracker: BadSampleTracker) -> None:
        self._dataset, self._tracker = dataset, tracker
        self._iterator = iter(dataset)
        #: Samples that the stream gave, and the next position: a stage inside may drop samples, which count as well.
        self._num_given = self._position = 0
        self._recent: deque[Any] = deque(maxlen=NUM_RECENT)
        #: Positions of bad samples that came before the first good one, which replaces all of them.
        self._awaiting: list[int] = []
        #: Samples to serve again, each with the position it replaces.
        self._pending: deque[tuple[Any, int]] = deque()
        self._num_good = 0
        self._checkpoints: deque[_Checkpoint] = deque(maxlen=MAX_CHECKPOINTS)
        self._has_raised = False
        self._is_replaying = False

    def __next__(self) -> Any:
        self._tracker.recorder.begin()
        try:
            return self._next()
        finally:
            self._tracker.recorder.end()

    def _next(self) -> Any:
        while True:
            if self._pending:
                sample, replaces = self._pending.popleft()
                return self._serve(copy.deepcopy(sample), self._position - 1, replaces)
            raw = self._advance()
            if raw is _END:
                self._end()
            served = self._handle_failure(raw) if isinstance(raw, _Raised) else self._check(raw)
            if served is not _END:
                return served

    def _advance(self) -> Any:
        """The next sample of the stream, ``_END``, or the error it raised instead; retries transient errors."""
        tracker = self._tracker
        tracker.recorder.start_other(self._position)
        retries = tracker.checker.retries
        attempt = 0
        while True:
            token = _active.set(self)  # for continue_and_report
            try:
                raw = next(self._iterator)
            except StopIteration:
                return _END
            except Exception as error:
                if attempt < retries.number and retries.is_transient(error) and not _is_finished(self._iterator):
                    tracker.recorder.count("retried")
                    retries.wait(attempt)
                    attempt += 1
                    continue
                raw = _Raised(error)
            finally:
                _active.reset(token)
            self._num_given += 1
            self._next_position()
            return raw

    def _next_position(self) -> int:
        self._tracker.recorder.start(self._position)
        self._position += 1
        return self._position - 1

    def _end(self) -> NoReturn:
        if self._awaiting:
            raise self._tracker.bad_sample_error(
                self._awaiting[0], None, "; the stream has no good sample to replace it with"
            )
        if self._has_raised:
            warn_at_caller(
                f"{self._tracker.name}: the stream ended right after it raised; if it uses a generator, that "
                f"{_CANNOT_CONTINUE}"
            )
        raise StopIteration

    def _handle_failure(self, raised: _Raised) -> Any:
        """What to serve where the stream raised; ``_END`` for nothing."""
        position, tracker = self._position - 1, self._tracker
        self._has_raised = True
        checked = tracker.checker.check_error(position, raised.error)
        tracker.record_lost(position, checked)
        if _is_finished(self._iterator):
            raise tracker.bad_sample_error(
                position, raised.error, f"; the stream is a generator, which {_CANNOT_CONTINUE}"
            )
        return self._serve_bad(position, checked)

    def _check(self, raw: Any) -> Any:
        """What to serve for a sample of the stream; ``_END`` for nothing."""
        position, tracker = self._position - 1, self._tracker
        self._has_raised = False
        transform = tracker.config.transform

        def load() -> Any:
            return raw if transform is None else transform(raw)

        try:
            sample = load()
            is_clean = tracker.checker.sample_check.is_clean(sample)
            checked = CheckedSample(sample) if is_clean else tracker.checker.check_sample(position, sample, raw)
        except Exception as error:
            checked = tracker.checker.check_error(position, error, raw)
        served = tracker.resolve(position, checked, load, raw=raw)
        tracker.warn_unchecked()
        if served is None:
            return self._serve_bad(position, checked)
        self._recent.append(served.sample)
        self._num_good += 1
        for awaiting in self._awaiting:
            tracker.recorder.count("replaced")
            self._pending.append((served.sample, awaiting))
        self._awaiting.clear()
        return self._serve(served.sample, position, None)

    def _serve_bad(self, position: int, checked: CheckedSample) -> Any:
        """Apply the policy to a bad sample."""
        tracker = self._tracker
        policy = tracker.config.policy
        if policy == "raise":
            raise tracker.bad_sample_error(position, checked.error)
        if policy == "skip":
            tracker.recorder.count("skipped")
            return _END
        if not self._recent:
            self._awaiting.append(position)
            return _END
        tracker.recorder.count("replaced")
        chosen = next(candidates(tracker.config.seed, tracker.recorder.event_log.epoch, position, 1 << 30, 1))
        return self._serve(copy.deepcopy(self._recent[chosen % len(self._recent)]), position, position)

    def _serve(self, sample: Any, position: int, replaces: int | None) -> Any:
        if is_tracking():
            origin = self._tracker.origin(position, sample) or SampleOrigin(position)
            track_sample(sample, SampleOrigin(position, origin.uri, origin.row_group, origin.row, replaces))
        return sample

    def state_dict(self) -> dict[str, Any]:
        """How far the stream was read, and the state of the wrapped dataset if it has one.

        That state is a few samples old: they are read again on loading, since any of them may replace a bad one.
        """
        state, given = self._checkpoint()
        return {
            "version": 1,
            "given": self._num_given,
            "position": self._position,
            "copies": [replaces for _, replaces in self._pending],
            "owed": list(self._awaiting),
            "inner": state,
            "inner_given": given,
        }

    def _checkpoint(self) -> tuple[Any, int]:
        """A state of the wrapped dataset from before the recent samples, and how many samples it had given then."""
        stateful = self._find_stateful()
        if stateful is None:
            return None, 0
        state = copy.deepcopy(stateful.state_dict())
        num_before = self._num_good - min(self._num_good, NUM_RECENT)
        before = [checkpoint for checkpoint in self._checkpoints if checkpoint.num_good <= num_before]
        self._checkpoints.append(_Checkpoint(state, self._num_given, self._num_good))
        if before and self._num_given - before[-1].num_given <= MAX_READ_AGAIN:
            return before[-1].state, before[-1].num_given
        return state, self._num_given

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken. Samples before that are read again, but not checked or served."""
        if state.get("version") != 1:
            raise UsageError(f"expected version 1 of the state of a stream, got {state.get('version')!r}")
        given = self._restore_dataset(state)
        self._refill_recent(self._read_again(int(state["given"]) - given))
        self._restore_position(state)

    def _restore_dataset(self, state: dict[str, Any]) -> int:
        """Load the state of the wrapped dataset, if there is one; returns how many samples were given by then."""
        stateful = self._find_stateful()
        if state["inner"] is None or stateful is None:
            return self._num_given
        stateful.load_state_dict(state["inner"])
        if stateful is self._dataset:
            self._iterator = iter(self._dataset)
        return int(state["inner_given"])

    def _read_again(self, number: int) -> Sequence[Any]:
        """Read past samples that were served before; returns the last of them."""
        last: deque[Any] = deque(maxlen=2 * NUM_RECENT)
        self._is_replaying = True
        token = _active.set(self)
        try:
            for _ in range(number):
                try:
                    last.append(next(self._iterator))
                except StopIteration:
                    break
                except Exception:  # reported when it was first raised
                    if _is_finished(self._iterator):
                        break
        finally:
            _active.reset(token)
            self._is_replaying = False
        return last

    def _refill_recent(self, raws: Sequence[Any]) -> None:
        """Keep the good ones of the samples that were read again, as when they were first served."""
        load = self._tracker.config.transform or (lambda raw: raw)
        checked = (self._tracker.checker.check(0, lambda raw=raw: load(raw)) for raw in raws)  # type: ignore[misc]
        self._recent.extend(one.sample for one in checked if one.is_clean)

    def _restore_position(self, state: dict[str, Any]) -> None:
        self._num_given, self._position = int(state["given"]), int(state["position"])
        self._num_good = len(self._recent)
        self._checkpoints.clear()
        if self._recent:  # pending samples are always copies of the last good one
            self._awaiting = list(state["owed"])
            self._pending.extend((self._recent[-1], replaces) for replaces in state["copies"])
        else:
            self._awaiting = [*state["copies"], *state["owed"]]

    def handle(self, error: Exception) -> bool:
        """Report what a stage inside the stream raised; True to let the stream continue."""
        if self._is_replaying:
            return True
        tracker = self._tracker
        position = self._next_position()
        tracker.record_lost(position, tracker.checker.check_error(position, error))
        tracker.recorder.start_other(self._position)
        if tracker.config.policy == "raise":
            raise tracker.bad_sample_error(position, error)
        tracker.recorder.count("skipped")
        return True

    def _find_stateful(self) -> Any:
        """The iterator or the dataset, whichever can save its state; None if neither can."""
        for one in (self._iterator, self._dataset):
            if callable(getattr(one, "state_dict", None)) and callable(getattr(one, "load_state_dict", None)):
                return one
        return None


def _is_finished(iterator: Any) -> bool:
    """Whether an iterator is a generator that has ended, by an error or by itself."""
    return inspect.isgenerator(iterator) and iterator.gi_frame is None


#: The iterator that is reading its stream in this context.
_active: ContextVar[SafeIterator | None] = ContextVar("datacheck_active", default=None)


def continue_and_report(error: Exception) -> bool:
    """A ``handler`` for WebDataset stages inside a SafeDataset: report the sample and continue.

    ::

        pipeline = wds.WebDataset(shards, handler=continue_and_report).decode("torchrgb", handler=continue_and_report)
        safe = SafeDataset(pipeline)
    """
    active = _active.get()
    if active is not None:
        return active.handle(error)
    warn_at_caller(f"a stage outside any SafeDataset raised: {error!r}")
    return True
