"""Which samples a thread was served since the last batch, so that :class:`SafeCollate` knows their indices.

A loader fetches the samples of a batch and collates them in one thread, one after the other. Nothing is noted before the
first :class:`SafeCollate` is made.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from datacheck.torch.loader.provenance import Note

__all__ = ["claim_served", "is_noting", "note_served", "start_noting"]

#: Samples that are remembered in a thread that never collates.
MAX_NOTES = 1 << 14


class _Served(threading.local):
    def __init__(self) -> None:
        self.notes: deque[tuple[int, Note]] = deque(maxlen=MAX_NOTES)


_served = _Served()
_is_noting = [False]


def start_noting() -> None:
    """Note what is served in this process from now on, and in its forks."""
    _is_noting[0] = True


def is_noting() -> bool:
    """Whether somebody wants to know what is served."""
    return _is_noting[0]


def note_served(sample: object, note: Note) -> None:
    """Note that a sample is given to whoever asked."""
    _served.notes.append((id(sample), note))


def claim_served(samples: Sequence[Any]) -> list[Note | None]:
    """The notes of the samples that a batch is made of, None for one that nobody noted; and forget all notes.

    The samples are alive, so each identity is theirs since it was noted last. One object that was served for several
    indices, and samples that were changed on the way by a data set around :class:`SafeDataset`, are told by their order.
    """
    notes = list(_served.notes)
    _served.notes.clear()
    last = notes[-len(samples) :] if samples else []
    if [identity for identity, _ in last] == list(map(id, samples)):
        return [note for _, note in last]
    by_identity = dict(notes)
    found = [by_identity.get(id(sample)) for sample in samples]
    if len(notes) == len(samples) and not any(found):
        return [note for _, note in notes]
    return found
