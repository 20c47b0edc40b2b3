"""Which samples are in a batch, for a batch that looks exactly as its ``collate_fn`` made it.

Nothing is added to the batch, for whatever is added the model, or the code before it, would see. Instead this process
remembers the last batches: their tensors, as long as they live, and a few hundred of the values of each tensor. A copy in
pinned memory, on another device or in a narrower dtype still has these values, so it is known again by them.
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

__all__ = ["Mark", "Note", "SampleOrigin", "batch_origins", "deliver", "marks_of", "register_origins"]

#: Batches that are remembered. More than a loader has under way: workers x ``prefetch_factor``, and one to spare.
MAX_BATCHES = 512
#: Values of a tensor that are remembered, and tensors of a batch.
NUM_PROBES, MAX_LEAVES = 256, 16

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class SampleOrigin:
    """Where a sample of a batch comes from.

    ``index`` is that of the sample in the data set that :class:`SafeDataset` wraps; of an iterable one it is the place in
    the stream of its worker. ``uri`` and ``row`` are the file and the row where the data set knows them; for data that
    ``datacheck run`` cleaned they are those of the *original* file. ``replaces`` is the index that was asked for, where
    this sample stands in for a bad one.
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


#: The token of the data set, the index of the sample, and the index that it stands in for; or the origin itself.
Note: TypeAlias = tuple[str, int, int | None] | SampleOrigin


@dataclass(frozen=True, slots=True)
class Mark:
    """What one tensor of a batch is known again by: its shape, and its values at fixed places."""

    shape: tuple[int, ...]
    probes: Array


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch that was delivered, with a note for each of its samples."""

    marks: tuple[Mark, ...]
    leaves: tuple[ReferenceType[Any], ...]
    notes: tuple[Note | None, ...]


_batches: deque[_Batch] = deque(maxlen=MAX_BATCHES)
_lock = threading.Lock()
#: Gives the origin of an index, by the token of the data set. Weak, so that a data set can go.
_resolvers: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def register_origins(token: str, owner: Any) -> None:
    """Have ``owner.origin(index)`` give the origins of samples that are noted under ``token``."""
    _resolvers[token] = owner


def batch_origins(batch: object) -> tuple[SampleOrigin, ...] | None:
    """The origins of the samples of a batch that :class:`SafeCollate` made, one for each, in their order.

    The batch may have been pinned, moved to a device, cast to a narrower dtype, or unpacked: ``batch_origins((x, y))``.
    None for a batch that is not known, or where two batches with equal values cannot be told apart. It waits for the
    device to copy a few hundred values, so ask when something went wrong, not in every step.
    """
    leaves = list(_leaves(batch))
    with _lock:
        known = list(reversed(_batches))
    found = _find(known, lambda one: _num_identical(one, leaves))
    if found is None:
        probed = [_Probed(leaf) for leaf in leaves]
        found = _find(known, lambda one: sum(any(leaf.is_like(mark) for mark in one.marks) for leaf in probed))
    return None if found is None else _resolve(found)


def deliver(batch: Any, notes: Sequence[Note | None], marks: Sequence[Mark] | None = None) -> Any:
    """Remember which samples a batch holds, and give it back."""
    leaves = list(_leaves(batch))
    references = tuple(weakref.ref(leaf) for leaf in leaves)
    entry = _Batch(tuple(marks_of(batch) if marks is None else marks), references, tuple(notes))
    with _lock:
        _batches.append(entry)
    return batch


def marks_of(batch: object) -> list[Mark]:
    """The marks of a batch's tensors and arrays."""
    return [Mark(tuple(leaf.shape), _probe(leaf)) for leaf in _leaves(batch)]


def _find(known: Sequence[_Batch], score: Callable[[_Batch], int]) -> _Batch | None:
    """The batch with the best score above 0; None where there is none, or where two with other samples are as good."""
    best: _Batch | None = None
    best_score, is_tie = 0, False
    for one in known:
        found = score(one)
        if found > best_score:
            best, best_score, is_tie = one, found, False
        elif best is not None and found == best_score and one.notes != best.notes:
            is_tie = is_tie or _resolve(one) != _resolve(best)
    return None if is_tie else best


def _num_identical(one: _Batch, leaves: Sequence[Any]) -> int:
    living = [reference() for reference in one.leaves]
    return sum(any(leaf is known for known in living) for leaf in leaves)


def _resolve(found: _Batch) -> tuple[SampleOrigin, ...] | None:
    origins = []
    for note in found.notes:
        if note is None:
            return None
        origins.append(note if isinstance(note, SampleOrigin) else _origin(*note))
    return tuple(origins)


def _origin(token: str, index: int, replaces: int | None) -> SampleOrigin:
    owner = _resolvers.get(token)
    origin = None if owner is None else owner.origin(index)
    return replace(origin or SampleOrigin(index), replaces=replaces)


def _leaves(batch: object) -> Iterator[Any]:
    """The dense tensors and the arrays of a batch that hold values, the first ``MAX_LEAVES`` of them."""
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


class _Probed:
    """A tensor that is looked for."""

    def __init__(self, leaf: Any) -> None:
        self._leaf = leaf
        self._shape = tuple(leaf.shape)
        self._probes: Array | None = None

    def is_like(self, mark: Mark) -> bool:
        if mark.shape != self._shape:
            return False
        if self._probes is None:
            self._probes = _probe(self._leaf)
        expected = mark.probes
        if isinstance(self._leaf, torch.Tensor) and self._leaf.dtype.itemsize < 8 and not self._leaf.is_complex():
            # A batch that was cast has the values that the cast gives.
            expected = torch.from_numpy(expected).to(self._leaf.dtype).to(torch.float64).numpy()
        return bool(np.array_equal(expected, self._probes, equal_nan=True))


def _probe(leaf: Any) -> Array:
    """Values at places that depend on the number of values alone, as float64 (complex ones in two parts)."""
    if isinstance(leaf, np.ndarray):
        flat = np.asarray(leaf).reshape(-1)
        chosen = flat[_places(flat.size)]
        with np.errstate(all="ignore"):
            parts = [chosen.real, chosen.imag] if chosen.dtype.kind == "c" else [chosen]
            return np.stack(parts, axis=1).astype(np.float64).reshape(-1)
    values = leaf.detach().reshape(-1)
    values = values[torch.from_numpy(_places(values.numel())).to(values.device)].cpu()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj()).reshape(-1)
    probes: Array = values.to(torch.float64).numpy()
    return probes


def _places(num_values: int) -> IntArray:
    if num_values <= NUM_PROBES:
        return np.arange(num_values)
    # A multiplicative hash: places in all rows and columns, whatever the shape.
    return (np.arange(NUM_PROBES, dtype=np.int64) * 2654435761 + 97) % num_values
