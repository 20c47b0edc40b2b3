"""Track which samples a thread was served since its last batch, so that :class:`SafeCollate` knows their indices.

A loader fetches the samples of a batch and collates them in one thread, one after the other. Tracking starts with the first
:class:`SafeCollate`. A sample is known by the objects in it: a function between may leave columns out, but a sample with
values of another origin is unknown.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datacheck.torch.guard.distributed import own_rank
from datacheck.torch.loader.provenance import SampleRef, num_batches

#: Samples that are kept in a thread that never collates. Their tensors and arrays are not kept alive.
MAX_TRACKED = 1 << 13
MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class _Tracked:
    """A sample that was served: its values, weakly where that is possible, by id."""

    ref: SampleRef
    values: dict[int, Any]

    def holds(self, values: Sequence[Any]) -> bool:
        """Whether a sample with these values is this one, perhaps with some left out."""
        return bool(values) and all(self._value(id(value)) is value for value in values)

    def _value(self, identity: int) -> Any:
        value = self.values.get(identity)
        return value() if type(value) is weakref.ReferenceType else value


class _TrackedSamples(threading.local):
    def __init__(self) -> None:
        self.refs: deque[_Tracked] = deque(maxlen=MAX_TRACKED)


_tracked = _TrackedSamples()
_is_tracking = [False]


def start_tracking() -> None:
    """Track samples in this process from now on, and in its forks."""
    _is_tracking[0] = True


def is_tracking() -> bool:
    """Whether samples are tracked."""
    return _is_tracking[0]


def track_sample(sample: object, ref: SampleRef) -> None:
    """Remember which sample an object is that is about to be served."""
    _tracked.refs.append(_Tracked(ref, {id(value): _weak(value) for value in _objects_in(sample)}))


def claim_tracked(samples: Sequence[Any]) -> list[SampleRef | None]:
    """What the samples of a batch are, None for one that is not known. Forgets everything tracked so far.

    Where one object was served for several indices, their order decides.
    """
    tracked = list(_tracked.refs)
    _tracked.refs.clear()
    values = [_objects_in(sample) for sample in samples]
    last = tracked[-len(samples) :] if samples else []
    if len(last) == len(samples) and all(one.holds(mine) for one, mine in zip(last, values, strict=True)):
        return [one.ref for one in last]
    by_value: dict[int, list[_Tracked]] = {}
    for one in tracked:
        for identity in one.values:
            by_value.setdefault(identity, []).append(one)
    return [_find(mine, by_value) for mine in values]


def _find(values: Sequence[Any], by_value: Mapping[int, Sequence[_Tracked]]) -> SampleRef | None:
    """The one tracked sample that has all of these values."""
    candidates = min((by_value.get(id(value), ()) for value in values), key=len)
    found = {one.ref for one in candidates if one.holds(values)}
    return found.pop() if len(found) == 1 else None


def _objects_in(sample: object) -> list[Any]:
    """The objects in a sample that tell it from others; the sample itself if it has only integers."""
    return list(_walk(sample, 0)) or [sample]


def _walk(value: object, depth: int) -> Iterator[Any]:
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        parts: Iterable[Any] = value.values()
    elif depth < MAX_DEPTH and isinstance(value, tuple | list) and not _is_flat(value):
        parts = value
    else:
        if not isinstance(value, int | None):  # they are the same objects everywhere
            yield value
        return
    for part in parts:
        yield from _walk(part, depth + 1)


def _is_flat(value: Sequence[Any]) -> bool:
    """Whether a list is one of numbers or texts, such as tokens."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | float | str)


def _weak(value: Any) -> Any:
    try:
        return weakref.ref(value)
    except TypeError:
        return value


def describe_lost_origins() -> str:
    """What a report says on a rank that may be sent batches by another one, which alone knows their samples; else empty."""
    if num_batches() or not is_tracking() or not own_rank():
        return ""
    return (
        f"rank {own_rank()} collated no batch itself. If rank 0 sends it batches (Accelerate's dispatch_batches=True), "
        "only rank 0 knows their samples and origins; with dispatch_batches=False each rank does"
    )
