"""Know which samples are in a batch that looks exactly as its ``collate_fn`` made it.

Nothing is added to the batch, since the model would see it. Instead this process remembers the last batches: weak references
to their tensors, and a few hundred values of each tensor. A copy in pinned memory, on another device or in a narrower dtype
still has these values and is recognized by them.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from datacheck.leaves import IntArray
from datacheck.torch.structure import walk

if TYPE_CHECKING:
    from weakref import ReferenceType

__all__ = [
    "SampleOrigin",
    "SampleRef",
    "TensorSignature",
    "batch_origins",
    "register_origins",
    "remember_batch",
    "signatures_of",
]

#: Batches that are remembered: more than a loader prefetches, which is workers x ``prefetch_factor``.
MAX_BATCHES = 512
#: Values per tensor, and tensors per batch, that are remembered.
NUM_PROBES, MAX_LEAVES = 256, 16

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class SampleOrigin:
    """Where a sample of a batch comes from.

    Attributes:
        index: of the sample in the dataset that :class:`SafeDataset` wraps; of an iterable dataset, the position in the
            stream of its worker.
        uri, row_group, row: the file, row group and row, where the dataset knows them; for data that ``datacheck run``
            cleaned, those of the *original* file.
        replaces: the requested index, where this sample replaces a bad one.
    """

    index: int
    uri: str | None = None
    row_group: int | None = None
    row: int | None = None
    replaces: int | None = None

    def __str__(self) -> str:
        from datacheck.text import plain

        parts = [f"sample {self.index}"]
        if self.uri is not None:
            group = "" if self.row_group is None else f", row group {self.row_group}"
            parts.append(f"{plain(self.uri)}{group}{'' if self.row is None else f', row {self.row}'}")
        return f"{parts[0]} ({parts[1]})" if len(parts) > 1 else parts[0]


#: The token of the dataset, the index of the sample, and the index it replaces; or the origin itself.
SampleRef: TypeAlias = tuple[str, int, int | None] | SampleOrigin


@dataclass(frozen=True, slots=True)
class TensorSignature:
    """What a tensor of a batch is recognized by: its shape, and its values at fixed positions."""

    shape: tuple[int, ...]
    probes: Array


@dataclass(frozen=True, slots=True)
class _KnownBatch:
    """A batch that was served, with a reference for each of its samples."""

    signatures: tuple[TensorSignature, ...]
    leaves: tuple[ReferenceType[Any], ...]
    refs: tuple[SampleRef | None, ...]


_batches: deque[_KnownBatch] = deque(maxlen=MAX_BATCHES)
_lock = threading.Lock()
#: Finds the origin of an index, by the token of the dataset. Weak, so that datasets can be deleted.
_resolvers: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def register_origins(token: str, owner: Any) -> None:
    """Use ``owner.origin(index)`` for samples that are tracked under ``token``."""
    _resolvers[token] = owner


def batch_origins(batch: object) -> tuple[SampleOrigin, ...] | None:
    """The origins of the samples in a batch that :class:`SafeCollate` made, in order.

    The batch may have been pinned, moved to a device, cast to a narrower dtype, or unpacked: ``batch_origins((x, y))``.
    None for an unknown batch, or where two batches with equal values cannot be told apart. Synchronizes with the device to
    copy a few hundred values, so call it when something went wrong, not in every step.
    """
    leaves = list(_leaves(batch))
    with _lock:
        known = list(reversed(_batches))
    found = _find(known, lambda one: _num_identical(one, leaves))
    if found is None:
        probed = [_SearchedTensor(leaf) for leaf in leaves]
        found = _find(known, lambda one: sum(any(leaf.matches(mark) for mark in one.signatures) for leaf in probed))
    return None if found is None else _resolve(found)


def remember_batch(
    batch: Any, refs: Sequence[SampleRef | None], signatures: Sequence[TensorSignature] | None = None
) -> Any:
    """Remember which samples a batch holds; returns the batch."""
    leaves = list(_leaves(batch))
    references = tuple(weakref.ref(leaf) for leaf in leaves)
    entry = _KnownBatch(tuple(signatures_of(batch) if signatures is None else signatures), references, tuple(refs))
    with _lock:
        _batches.append(entry)
    return batch


def signatures_of(batch: object) -> list[TensorSignature]:
    """The signatures of the tensors and arrays in a batch."""
    return [TensorSignature(tuple(leaf.shape), _probe(leaf)) for leaf in _leaves(batch)]


def _find(known: Sequence[_KnownBatch], score: Callable[[_KnownBatch], int]) -> _KnownBatch | None:
    """The batch with the best score above 0; None if there is none, or a tie between batches with different samples."""
    best: _KnownBatch | None = None
    best_score, is_tie = 0, False
    for one in known:
        found = score(one)
        if found > best_score:
            best, best_score, is_tie = one, found, False
        elif best is not None and found == best_score and one.refs != best.refs:
            is_tie = is_tie or _resolve(one) != _resolve(best)
    return None if is_tie else best


def _num_identical(one: _KnownBatch, leaves: Sequence[Any]) -> int:
    living = [reference() for reference in one.leaves]
    return sum(any(leaf is known for known in living) for leaf in leaves)


def _resolve(found: _KnownBatch) -> tuple[SampleOrigin, ...] | None:
    origins = []
    for ref in found.refs:
        if ref is None:
            return None
        origins.append(ref if isinstance(ref, SampleOrigin) else _origin(*ref))
    return tuple(origins)


def _origin(token: str, index: int, replaces: int | None) -> SampleOrigin:
    owner = _resolvers.get(token)
    origin = None if owner is None else owner.origin(index)
    return replace(origin or SampleOrigin(index), replaces=replaces)


def _leaves(batch: object) -> Iterator[Any]:
    """The first ``MAX_LEAVES`` dense tensors and arrays of a batch that hold values."""
    count = 0
    for _, value in walk(batch, objects=True):
        if isinstance(value, torch.Tensor):
            usable = value.layout is torch.strided and not value.is_nested and not value.is_meta and value.numel() > 0
        else:
            usable = isinstance(value, np.ndarray) and value.dtype.kind in "?biufc" and value.size > 0
        if usable:
            yield value
            count += 1
            if count == MAX_LEAVES:
                return


class _SearchedTensor:
    """A tensor to recognize."""

    def __init__(self, leaf: Any) -> None:
        self._leaf = leaf
        self._shape = tuple(leaf.shape)
        self._probes: Array | None = None

    def matches(self, mark: TensorSignature) -> bool:
        if mark.shape != self._shape:
            return False
        if self._probes is None:
            self._probes = _probe(self._leaf)
        expected = mark.probes
        if isinstance(self._leaf, torch.Tensor) and self._leaf.dtype.itemsize < 8 and not self._leaf.is_complex():
            # The batch may have been cast.
            expected = torch.from_numpy(expected).to(self._leaf.dtype).to(torch.float64).numpy()
        return bool(np.array_equal(expected, self._probes, equal_nan=True))


def _probe(leaf: Any) -> Array:
    """Values at positions that depend only on their number, as float64 (complex ones in two parts)."""
    if isinstance(leaf, np.ndarray):
        flat = np.asarray(leaf).reshape(-1)
        chosen = flat[_positions(flat.size)]
        with np.errstate(all="ignore"):
            parts = [chosen.real, chosen.imag] if chosen.dtype.kind == "c" else [chosen]
            return np.stack(parts, axis=1).astype(np.float64).reshape(-1)
    values = leaf.detach().reshape(-1)
    values = values[torch.from_numpy(_positions(values.numel())).to(values.device)].cpu()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj()).reshape(-1)
    probes: Array = values.to(torch.float64).numpy()
    return probes


def _positions(num_values: int) -> IntArray:
    if num_values <= NUM_PROBES:
        return np.arange(num_values)
    # A multiplicative hash: positions in all rows and columns, whatever the shape.
    return (np.arange(NUM_PROBES, dtype=np.int64) * 2654435761 + 97) % num_values
