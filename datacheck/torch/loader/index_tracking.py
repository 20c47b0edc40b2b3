"""Track which samples a thread was served since its last batch, so that :class:`SafeCollate` knows their indices.

A loader fetches the samples of a batch and collates them in one thread, one after the other. Tracking starts with the first
:class:`SafeCollate`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from datacheck.torch.loader.provenance import SampleRef

__all__ = ["claim_tracked", "is_tracking", "start_tracking", "track_sample"]

#: Samples that are kept in a thread that never collates.
MAX_TRACKED = 1 << 14


class _TrackedSamples(threading.local):
    def __init__(self) -> None:
        self.refs: deque[tuple[int, SampleRef]] = deque(maxlen=MAX_TRACKED)


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
    _tracked.refs.append((id(sample), ref))


def claim_tracked(samples: Sequence[Any]) -> list[SampleRef | None]:
    """What the samples of a batch are, None for one that was not tracked. Forgets everything tracked so far.

    The samples are alive, so each id belongs to the object that was tracked last with it. Where one object was served for
    several indices, or a dataset around :class:`SafeDataset` changed the samples, their order decides.
    """
    tracked = list(_tracked.refs)
    _tracked.refs.clear()
    last = tracked[-len(samples) :] if samples else []
    if [identity for identity, _ in last] == list(map(id, samples)):
        return [ref for _, ref in last]
    by_identity = dict(tracked)
    found = [by_identity.get(id(sample)) for sample in samples]
    if len(tracked) == len(samples) and not any(found):
        return [ref for _, ref in tracked]
    return found
