"""Batches that carry the indices and origins of their samples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import default_collate, get_worker_info

from datacheck.errors import UsageError
from datacheck.text import ordinal_list
from datacheck.torch.loader.errors import BadSampleError
from datacheck.torch.loader.index_tracking import claim_served, start_noting
from datacheck.torch.loader.provenance import Mark, Note, SampleOrigin, deliver, marks_of
from datacheck.torch.loader.skipped import SkippedSample

__all__ = ["SafeCollate"]


class SafeCollate:
    """Collates as ``collate_fn`` does, and remembers which samples are in the batch.

    ::

        loader = DataLoader(SafeDataset(dataset), batch_size=32, num_workers=2, collate_fn=SafeCollate())
        for batch in loader:                  # what default_collate makes, to the last bit
            ...
        batch_origins(batch)                  # the index, file and row of each sample, wherever the batch went since

    It also leaves out what ``SafeDataset(..., on_bad="skip")`` skipped; the batch is then smaller. Give it to the loader
    itself: a function around it may change the batch, and then nobody knows it.

    Args:
        collate_fn: makes a batch of a list of samples; ``torch.utils.data.default_collate`` unless set.
    """

    def __init__(self, collate_fn: Callable[[Any], Any] | None = None) -> None:
        if collate_fn is not None and not callable(collate_fn):
            raise UsageError(f"collate_fn must be a function that makes a batch, not {type(collate_fn).__name__}")
        self.collate_fn: Callable[[Any], Any] = collate_fn or default_collate
        start_noting()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        start_noting()

    def __call__(self, samples: Any) -> Any:
        """The batch of these samples; raises ``BadSampleError`` where all of them were skipped."""
        if not isinstance(samples, list | tuple) or hasattr(samples, "_fields"):
            # Without automatic batching a loader collates single samples.
            return _hand_over(self.collate_fn(samples), claim_served([samples]))
        notes = claim_served(samples)
        kept = [sample for sample in samples if not isinstance(sample, SkippedSample)]
        if len(kept) < len(samples):
            notes = [note for note, sample in zip(notes, samples, strict=True) if not isinstance(sample, SkippedSample)]
            if not kept:
                raise BadSampleError(_all_skipped(samples))
        try:
            batch = self.collate_fn(kept if len(kept) < len(samples) else samples)
        except Exception as error:
            error.add_note(f"while collating {_describe(notes)}")
            raise
        return _hand_over(batch, notes)


def _hand_over(batch: Any, notes: Sequence[Note | None]) -> Any:
    """The batch, known in the process that will train on it."""
    if get_worker_info() is None:
        return deliver(batch, notes)
    # Only what the loader itself sends to the main process may be wrapped on the way there.
    caller = sys._getframe(2).f_globals.get("__name__", "")
    is_sent = caller.startswith(("torch.utils.data", "torchdata."))
    return _Parcel(batch, tuple(notes), tuple(marks_of(batch))) if is_sent else batch


class _Parcel:
    """A batch on its way from a worker: unpickled, it is the batch itself."""

    def __init__(self, batch: Any, notes: tuple[Note | None, ...], marks: tuple[Mark, ...]) -> None:
        self._contents = (batch, notes, marks)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return deliver, self._contents


def _all_skipped(samples: Sequence[SkippedSample]) -> str:
    indices = ordinal_list("sample", [sample.index for sample in samples[:8]], len(samples) > 8)
    return f"all samples of a batch were skipped ({indices}); use on_bad='replace', or compact() before training"


def _describe(notes: Sequence[Note | None]) -> str:
    indices = [note.index if isinstance(note, SampleOrigin) else note[1] for note in notes if note is not None]
    if len(indices) < len(notes):
        return f"{len(notes)} samples"
    return ordinal_list("sample", indices[:32], len(indices) > 32)
