"""SafeDataset over an iterable data set."""

from __future__ import annotations

import copy
import inspect
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from torch.utils.data import IterableDataset, Subset

from datacheck.errors import UsageError
from datacheck.torch.loader.core import Core
from datacheck.torch.loader.dataset import SafeDataset
from datacheck.torch.loader.errors import warn_of
from datacheck.torch.loader.index_tracking import is_noting, note_served
from datacheck.torch.loader.inspector import Look
from datacheck.torch.loader.provenance import SampleOrigin
from datacheck.torch.loader.replacement import candidates
from datacheck.torch.loader.report import DatasetReport

__all__ = ["SafeIterableDataset", "continue_and_report"]

T = TypeVar("T")

#: Good samples of a stream that are kept, one of which is served again instead of a bad one.
NUM_KEPT = 8
#: States of the data set inside that are kept, and samples that are read again at most to have the good ones again.
MAX_ANCHORS, MAX_READ_AGAIN = 64, 4096

_END = object()

_DEAD = (
    "cannot go on after it raised, and the rest is lost: raise in transform instead, or give WebDataset's stages "
    "handler=datacheck.torch.continue_and_report"
)


class SafeIterableDataset(SafeDataset[T], IterableDataset[T]):
    """What ``SafeDataset`` makes of an iterable data set: the same, but samples have a place in the stream, and no index.

    With ``on_bad="replace"`` a good sample that came shortly before is served again, so that every rank has as many
    samples as it would have had; with ``"skip"`` the bad one is left out. A stream is looked at once: it gives a sample
    only once, unless ``transform`` made it bad, which is then called again.

    A generator cannot go on after it raised. Raise in ``transform``, or give WebDataset's stages
    ``handler=datacheck.torch.continue_and_report``.
    """

    def __iter__(self) -> Iterator[T]:
        return _SafeIterator(self.dataset, self._core)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> T:
        raise TypeError(f"{self.name} is iterable: its samples have no index")

    # A loader must not take it for a data set that can be asked for a batch.
    __getitems__ = None  # type: ignore[assignment]

    def check(self, **_: Any) -> DatasetReport:
        """A stream cannot be looked at ahead, for it need not give the same samples again."""
        raise UsageError(f"{self.name} is iterable: iterate it once, and see report()")

    def compact(self) -> Subset[T]:
        """A stream has no indices of which to leave some out."""
        raise UsageError(f"{self.name} is iterable and has no indices; use on_bad='skip'")


class _SafeIterator(Iterator[Any]):
    """One pass over a stream. ``state_dict`` and ``load_state_dict`` let it be taken up where it was."""

    def __init__(self, dataset: Any, core: Core) -> None:
        self._dataset, self._core = dataset, core
        self._iterator = iter(dataset)
        #: Samples that the stream gave, and those among them and before them that have a place of their own.
        self._num_given = self._position = 0
        self._kept: deque[Any] = deque(maxlen=NUM_KEPT)
        #: Bad samples that wait for the first good one, which is then served for them too.
        self._owed: list[int] = []
        self._copies: deque[tuple[Any, int]] = deque()
        self._num_good = 0
        #: States of the data set inside that were asked for, each with the numbers of samples given and good by then.
        self._anchors: deque[tuple[Any, int, int]] = deque(maxlen=MAX_ANCHORS)
        self._has_raised = False
        self._is_silent = False

    def __next__(self) -> Any:
        self._core.recorder.begin()
        try:
            return self._next()
        finally:
            self._core.recorder.end()

    def _next(self) -> Any:
        while True:
            if self._copies:
                sample, replaces = self._copies.popleft()
                return self._serve(copy.deepcopy(sample), self._position - 1, replaces)
            raw = self._advance()
            if raw is _END:
                self._end()
            served = self._look(self._position - 1, raw)
            if served is not _END:
                return served

    def _advance(self) -> Any:
        """The next sample of the stream, ``_END``, or the error that it raised instead."""
        core = self._core
        core.recorder.start_other(self._position)
        retries = core.inspector.retries
        for attempt in range(retries.number + 1):
            token = _active.set(self)
            try:
                raw = next(self._iterator)
            except StopIteration:
                return _END
            except Exception as error:
                if attempt < retries.number and retries.is_passing(error) and not _is_dead(self._iterator):
                    core.recorder.count("retried")
                    retries.wait(attempt)
                    continue
                raw = _Raised(error)
            finally:
                _active.reset(token)
            break
        self._num_given += 1
        self._take_place()
        return raw

    def _take_place(self) -> int:
        self._core.recorder.start(self._position)
        self._position += 1
        return self._position - 1

    def _end(self) -> None:
        if self._owed:
            raise self._core.refuse(self._owed[0], None, "; the stream has no good sample to stand in for it")
        if self._has_raised:
            message = (
                f"{self._core.name}: the stream ended right after it raised; if it is made of a generator, that {_DEAD}"
            )
            warn_of(message)
        raise StopIteration

    def _look(self, position: int, raw: Any) -> Any:
        """What is served for what the stream gave; ``_END`` for nothing."""
        core = self._core
        self._has_raised = isinstance(raw, _Raised)
        if isinstance(raw, _Raised):
            look = core.inspector.look_at_error(position, raw.error)
            core.lose(position, look)
            if _is_dead(self._iterator):
                raise core.refuse(position, raw.error, f"; the stream is a generator, which {_DEAD}")
            return self._instead(position, look)
        transform = core.config.transform

        def load() -> Any:
            return raw if transform is None else transform(raw)

        try:
            sample = load()
            is_clean = core.inspector.judge.is_clean(sample)
            look = Look(sample) if is_clean else core.inspector.look_at(position, sample, raw)
        except Exception as error:
            look = core.inspector.look_at_error(position, error, raw)
        settled = core.settle(position, look, load, raw=raw)
        core.tell_unchecked()
        if settled is None:
            return self._instead(position, look)
        self._kept.append(settled.sample)
        self._num_good += 1
        for owed in self._owed:
            core.recorder.count("replaced")
            self._copies.append((settled.sample, owed))
        self._owed.clear()
        return self._serve(settled.sample, position, None)

    def _instead(self, position: int, look: Look) -> Any:
        core = self._core
        policy = core.config.policy
        if policy == "raise":
            raise core.refuse(position, look.error)
        if policy == "skip":
            core.recorder.count("skipped")
            return _END
        if not self._kept:
            self._owed.append(position)
            return _END
        core.recorder.count("replaced")
        chosen = next(candidates(core.config.seed, core.recorder.journal.epoch, position, 1 << 30, 1))
        return self._serve(copy.deepcopy(self._kept[chosen % len(self._kept)]), position, position)

    def _serve(self, sample: Any, position: int, replaces: int | None) -> Any:
        if is_noting():
            origin = self._core.origin(position, sample) or SampleOrigin(position)
            note_served(sample, SampleOrigin(position, origin.uri, origin.row_group, origin.row, replaces))
        return sample

    def state_dict(self) -> dict[str, Any]:
        """How far the stream was read, and the state of the data set inside, where it has one.

        That state is one of a few samples ago: those are read again, for any of them may be served instead of a bad one.
        """
        state, given = self._inner_state()
        return {
            "version": 1,
            "given": self._num_given,
            "position": self._position,
            "copies": [replaces for _, replaces in self._copies],
            "owed": list(self._owed),
            "inner": state,
            "inner_given": given,
        }

    def _inner_state(self) -> tuple[Any, int]:
        """A state of the data set inside, and how many samples it had given then."""
        inner = self._inner()
        if inner is None:
            return None, 0
        state = copy.deepcopy(inner.state_dict())
        known = min(self._num_good, NUM_KEPT)
        before = [anchor for anchor in self._anchors if anchor[2] <= self._num_good - known]
        self._anchors.append((state, self._num_given, self._num_good))
        if before and self._num_given - before[-1][1] <= MAX_READ_AGAIN:
            return before[-1][:2]
        return state, self._num_given

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where :meth:`state_dict` was taken; what came before is passed over without a look."""
        if state.get("version") != 1:
            raise UsageError(f"the state of a stream is of version {state.get('version')!r}, and 1 is known")
        inner = self._inner()
        given = self._num_given
        if state["inner"] is not None and inner is not None:
            inner.load_state_dict(state["inner"])
            given = int(state["inner_given"])
            if inner is self._dataset:
                self._iterator = iter(self._dataset)
        self._pass_over(int(state["given"]) - given)
        self._num_given, self._position = int(state["given"]), int(state["position"])
        self._num_good = len(self._kept)
        self._anchors.clear()
        # Copies are always of the last good sample.
        self._owed = list(state["owed"]) if self._kept else [*state["copies"], *state["owed"]]
        self._copies.extend((self._kept[-1], replaces) for replaces in (state["copies"] if self._kept else ()))

    def _pass_over(self, number: int) -> None:
        """Go past samples that were served before, and keep the last good ones, as they were kept then."""
        last: deque[Any] = deque(maxlen=2 * NUM_KEPT)
        self._is_silent = True
        token = _active.set(self)
        try:
            for _ in range(number):
                try:
                    last.append(next(self._iterator))
                except StopIteration:
                    break
                except Exception:  # it was told when it was met first
                    if _is_dead(self._iterator):
                        break
        finally:
            _active.reset(token)
            self._is_silent = False
        load = self._core.config.transform or (lambda raw: raw)
        looks = (self._core.inspector.look(0, lambda raw=raw: load(raw)) for raw in last)  # type: ignore[misc]
        self._kept.extend(look.sample for look in looks if look.is_clean)

    def handle(self, error: Exception) -> bool:
        """Report what a stage inside the stream raised, and have the stream go on."""
        if self._is_silent:
            return True
        core = self._core
        position = self._take_place()
        look = core.inspector.look_at_error(position, error)
        core.lose(position, look)
        core.recorder.start_other(self._position)
        if core.config.policy == "raise":
            raise core.refuse(position, error)
        core.recorder.count("skipped")
        return True

    def _inner(self) -> Any:
        """Whatever inside keeps a state: the iterator, or the data set."""
        for one in (self._iterator, self._dataset):
            if callable(getattr(one, "state_dict", None)) and callable(getattr(one, "load_state_dict", None)):
                return one
        return None


class _Raised:
    """What a stream raised in the place of a sample."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _is_dead(iterator: Any) -> bool:
    return inspect.isgenerator(iterator) and iterator.gi_frame is None


#: The pass over a stream that is under way in this context.
_active: ContextVar[_SafeIterator | None] = ContextVar("datacheck_active", default=None)


def continue_and_report(error: Exception) -> bool:
    """A ``handler`` for the stages of a WebDataset pipeline inside a SafeDataset: go on, and have the sample reported.

    ::

        pipeline = wds.WebDataset(shards, handler=continue_and_report).decode("torchrgb", handler=continue_and_report)
        safe = SafeDataset(pipeline)
    """
    active = _active.get()
    if active is not None:
        return active.handle(error)
    warn_of(f"a stage outside any SafeDataset raised: {error!r}")
    return True
