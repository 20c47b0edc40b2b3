"""Make batches whose samples are known by index and origin."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeAlias

import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import default_collate, get_worker_info

from datacheck.errors import UsageError
from datacheck.text import ordinal_list, plain
from datacheck.torch.loader.batch_signature import BatchSignature, leaves_of, signature_of
from datacheck.torch.loader.errors import BadSampleError
from datacheck.torch.loader.index_tracking import claim_tracked, start_tracking
from datacheck.torch.loader.provenance import SampleOrigin, SampleRef, remember_batch, remember_leaf
from datacheck.torch.loader.skipped import SkippedSample

#: Levels of nesting to compare, and differences to list.
MAX_DEPTH, MAX_LISTED = 6, 4

#: The attribute of a marked tensor.
_MARK = "_datacheck_batch"

_Mark: TypeAlias = tuple[str, tuple[SampleRef | None, ...], BatchSignature]


class SafeCollate:
    """Collates as ``collate_fn`` does, and remembers which samples are in each batch.

    ::

        loader = DataLoader(SafeDataset(dataset), batch_size=32, num_workers=2, collate_fn=SafeCollate())
        for batch in loader:                  # exactly what default_collate makes
            ...
        batch_origins(batch)                  # the index, file and row of each sample, also on the GPU

    It also leaves out samples that ``SafeDataset(..., on_bad="skip")`` skipped; the batch is then smaller. A function
    around it, such as the collator with which the Trainer of Transformers removes columns, may leave out fields of
    samples and of the batch. What it changes is not recognized.

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
    _mark_tensors(batch, tuple(refs), signature)
    return batch


class _TransferredBatch:
    """A batch on its way from a worker. Unpickling it returns the batch."""

    def __init__(self, batch: Any, refs: tuple[SampleRef | None, ...], signature: BatchSignature) -> None:
        self._contents = (batch, refs, signature)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return remember_batch, self._contents


def _mark_tensors(batch: Any, refs: tuple[SampleRef | None, ...], signature: BatchSignature) -> None:
    """Mark the tensors of a batch in a worker, from which they are sent to the main process.

    A function around a collate function may have changed the batch, so nothing can be wrapped around it; each tensor takes
    a mark along on its way instead.
    """
    ForkingPickler.register(torch.Tensor, _reduce)
    mark: _Mark = (uuid.uuid4().hex, refs, signature)
    for place, leaf in enumerate(leaves_of(batch)[0]):
        if type(leaf) is torch.Tensor:
            setattr(leaf, _MARK, (mark, place))


def _reduce(tensor: torch.Tensor) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    rebuild, arguments = reduce_tensor(tensor)  # type: ignore[no-untyped-call]
    marked = getattr(tensor, _MARK, None)
    return (rebuild, arguments) if marked is None else (_rebuild, (rebuild, arguments, *marked))


def _rebuild(rebuild: Callable[..., Any], arguments: tuple[Any, ...], mark: _Mark, place: int) -> torch.Tensor:
    tensor: torch.Tensor = rebuild(*arguments)
    key, refs, signature = mark
    remember_leaf(tensor, key, place, refs, signature)
    return tensor


def _all_skipped(samples: Sequence[SkippedSample]) -> str:
    indices = ordinal_list("sample", [sample.index for sample in samples[:8]], len(samples) > 8)
    return f"all samples of a batch were skipped ({indices}); use on_bad='replace', or call compact() before training"


def _describe(refs: Sequence[SampleRef | None], samples: Sequence[Any]) -> str:
    """The samples, by index where all are known, and how they differ."""
    indices = [_index(ref) for ref in refs if ref is not None]
    is_known = len(indices) == len(refs)
    found = ordinal_list("sample", indices[:32], len(indices) > 32) if is_known else f"{len(refs)} samples"
    names = indices if is_known else range(len(samples))
    mismatch = _describe_mismatch(samples, names)
    if not mismatch:
        return found
    return f"{found}: {mismatch}{'' if is_known else ', by position in the batch, from 0'}"


def _index(ref: SampleRef) -> int:
    return ref.index if isinstance(ref, SampleOrigin) else ref[1]


def _describe_mismatch(samples: Sequence[Any], names: Sequence[int]) -> str:
    """The fields that are not alike in all samples, each with the samples of each shape; empty if they are alike.

    ``names`` are the numbers by which to call the samples.
    """
    seen: dict[str, dict[str, list[int]]] = {}
    for name, sample in zip(names, samples, strict=True):
        for path, form in _forms(sample, "", 0):
            seen.setdefault(path, {}).setdefault(form, []).append(name)
    parts: list[tuple[str, str]] = []
    for path, forms in seen.items():
        present = [name for group in forms.values() for name in group]
        if len(present) < len(names):
            forms["absent"] = [name for name in names if name not in present]
        # Where a container differs, so do its parts.
        is_inside = any(path.startswith(f"{other}.") for other, _ in parts)
        if len(forms) > 1 and not is_inside:
            parts.append((path, _describe_forms(path, forms)))
    more = f"; and {len(parts) - MAX_LISTED:,} more" if len(parts) > MAX_LISTED else ""
    return "; ".join(text for _, text in parts[:MAX_LISTED]) + more


def _describe_forms(path: str, forms: Mapping[str, Sequence[int]]) -> str:
    groups = sorted(forms.items(), key=lambda group: -len(group[1]))
    listed = [f"{form} in {ordinal_list('sample', group[:8], len(group) > 8)}" for form, group in groups[:MAX_LISTED]]
    more = f", and {len(groups) - MAX_LISTED:,} more shapes" if len(groups) > MAX_LISTED else ""
    return f"{f'{plain(path)!r} is ' if path else ''}{', '.join(listed)}{more}"


def _forms(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """What collate functions require to be alike, by path: shapes, lengths, types and keys."""
    shape = getattr(value, "shape", None)
    if value is None:
        yield path, "None"
    elif isinstance(shape, tuple):
        yield path, f"of shape {tuple(shape)}"
    elif isinstance(value, str | bytes):
        yield path, type(value).__name__
    elif isinstance(value, Mapping) or (isinstance(value, list | tuple) and depth < MAX_DEPTH):
        is_numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
        yield path, type(value).__name__ if isinstance(value, Mapping) else f"of length {len(value):,}"
        if not is_numbers and depth < MAX_DEPTH:
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, part in parts:
                yield from _forms(part, f"{path}.{key}" if path else str(key), depth + 1)
    else:
        yield path, "a number" if isinstance(value, int | float) else type(value).__name__
