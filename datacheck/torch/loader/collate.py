"""Make batches whose samples are known by index and origin."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import default_collate, get_worker_info

from datacheck.errors import UsageError
from datacheck.text import ordinal_list
from datacheck.torch.loader.batch_signature import BatchSignature, signature_of
from datacheck.torch.loader.errors import BadSampleError
from datacheck.torch.loader.index_tracking import claim_tracked, start_tracking
from datacheck.torch.loader.marked_tensors import mark_tensors
from datacheck.torch.loader.mismatch import describe_mismatch
from datacheck.torch.loader.provenance import SampleOrigin, SampleRef, remember_batch
from datacheck.torch.loader.skipped import SkippedSample

__all__ = ["SafeCollate"]


class SafeCollate:
    """Collates as ``collate_fn`` does, and remembers which samples are in each batch.

    ::

        loader = DataLoader(SafeDataset(dataset), batch_size=32, num_workers=2, collate_fn=SafeCollate())
        for batch in loader:                  # exactly what default_collate makes
            ...
        batch_origins(batch)                  # the index, file and row of each sample, also on the GPU

    It also leaves out samples that ``SafeDataset(..., on_bad="skip")`` skipped; the batch is then smaller. A function around
    it, such as the collator with which the Trainer of Transformers removes columns, may leave out fields of samples and of
    the batch; what it changes is not recognized.

    Args:
        collate_fn: makes a batch from a list of samples. Default: ``torch.utils.data.default_collate``.
    """

    def __init__(self, collate_fn: Callable[[Any], Any] | None = None) -> None:
        if collate_fn is not None and not callable(collate_fn):
            raise UsageError(f"collate_fn must be a function of a list of samples, got {type(collate_fn).__name__}")
        self.collate_fn: Callable[[Any], Any] = collate_fn or default_collate
        start_tracking()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        start_tracking()

    def __call__(self, samples: Any) -> Any:
        """The batch of these samples; raises ``BadSampleError`` if all of them were skipped."""
        if not isinstance(samples, list | tuple) or hasattr(samples, "_fields"):
            # Without automatic batching a loader passes single samples.
            return _register(self.collate_fn(samples), claim_tracked([samples]))
        refs = claim_tracked(samples)
        kept = [sample for sample in samples if not isinstance(sample, SkippedSample)]
        if len(kept) < len(samples):
            refs = [ref for ref, sample in zip(refs, samples, strict=True) if not isinstance(sample, SkippedSample)]
            if not kept:
                raise BadSampleError(_all_skipped(samples))
        try:
            batch = self.collate_fn(kept if len(kept) < len(samples) else samples)
        except Exception as error:
            error.add_note(f"while collating {_describe(refs, kept)}")
            raise
        return _register(batch, refs)


def _register(batch: Any, refs: Sequence[SampleRef | None]) -> Any:
    """Make the batch known in the process that will train on it."""
    if get_worker_info() is None:
        return remember_batch(batch, refs)
    signature = signature_of(batch)
    # Only a batch that the loader itself sends to the main process may be wrapped on the way.
    caller = sys._getframe(2).f_globals.get("__name__", "")
    if caller.startswith(("torch.utils.data", "torchdata.")):
        return _TransferredBatch(batch, tuple(refs), signature)
    mark_tensors(batch, tuple(refs), signature)
    return batch


class _TransferredBatch:
    """A batch on its way from a worker. Unpickling it returns the batch."""

    def __init__(self, batch: Any, refs: tuple[SampleRef | None, ...], signature: BatchSignature) -> None:
        self._contents = (batch, refs, signature)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return remember_batch, self._contents


def _all_skipped(samples: Sequence[SkippedSample]) -> str:
    indices = ordinal_list("sample", [sample.index for sample in samples[:8]], len(samples) > 8)
    return f"all samples of a batch were skipped ({indices}); use on_bad='replace', or call compact() before training"


def _describe(refs: Sequence[SampleRef | None], samples: Sequence[Any]) -> str:
    """The samples, by index where all are known, and how they differ."""
    indices = [_index(ref) for ref in refs if ref is not None]
    is_known = len(indices) == len(refs)
    found = ordinal_list("sample", indices[:32], len(indices) > 32) if is_known else f"{len(refs)} samples"
    names = indices if is_known else range(len(samples))
    mismatch = describe_mismatch(samples, names)
    if not mismatch:
        return found
    return f"{found}: {mismatch}{'' if is_known else ', by position in the batch, from 0'}"


def _index(ref: SampleRef) -> int:
    return ref.index if isinstance(ref, SampleOrigin) else ref[1]
