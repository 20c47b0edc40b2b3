"""Know which samples are in a batch that looks exactly as its ``collate_fn`` made it.

Nothing is added to the batch, since the model would see it. Instead this process remembers the last batches: weak references
to their tensors, and a digest of everything in them. A tensor of a batch is known by itself. A copy in pinned memory, on
another device or in a narrower dtype is recognized by the digests of all tensors, never of some.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from datacheck.torch.loader.batch_signature import (
    BatchSignature,
    LeafSignature,
    SearchedLeaf,
    digest_of_others,
    is_found_in,
    leaves_of,
    signature_of,
)

if TYPE_CHECKING:
    from weakref import ReferenceType


#: Batches that are remembered: more than a loader prefetches, which is workers x ``prefetch_factor``.
MAX_BATCHES = 512


@dataclass(frozen=True, slots=True)
class SampleOrigin:
    """Where a sample of a batch comes from.

    Attributes:
        index: of the sample in the dataset that :class:`SafeDataset` wraps; of an iterable dataset, the position in the
            stream of its worker.
        uri, row_group, row: the file, row group and row, where the dataset knows them; for data that ``datacheck run``
            cleaned, of the *original* file.
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


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _KnownBatch:
    """A batch that was served: its signature, a reference to each tensor, and what its samples are."""

    signature: BatchSignature
    leaves: list[ReferenceType[Any] | None]
    refs: tuple[SampleRef | None, ...]


_batches: deque[_KnownBatch] = deque(maxlen=MAX_BATCHES)
_lock = threading.Lock()
#: How many batches were remembered in this process.
_num_batches = 0
#: Batches that a function around a collate function may have changed, by key; their tensors arrive one by one.
_arriving: weakref.WeakValueDictionary[str, _KnownBatch] = weakref.WeakValueDictionary()
#: Finds the origin of an index, by the token of the dataset. Weak, so that datasets can be deleted.
_resolvers: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def register_origins(token: str, owner: Any) -> None:
    """Use ``owner.origin(index)`` for samples that are tracked under ``token``."""
    _resolvers[token] = owner


def batch_origins(batch: object) -> tuple[SampleOrigin, ...] | None:
    """The origins of the samples in a batch that :class:`SafeCollate` made, in order.

    The batch may have been pinned, moved to a device, cast to a narrower dtype, or unpacked: ``batch_origins((x, y))``.
    None for an unknown batch, and unless the tensors are those that were collated or *all* values are equal to them: equal
    labels prove nothing. None as well where two batches cannot be told apart. Copies the batch to the host, so call it when
    something went wrong, not in every step.
    """
    tensors, others = leaves_of(batch)
    with _lock:
        known = list(reversed(_batches))
    searched = [SearchedLeaf(leaf) for leaf in tensors]
    found = _find_by_identity(known, tensors, searched) or _find_by_value(known, searched, digest_of_others(others))
    return None if found is None else _resolve(found)


def num_batches() -> int:
    """How many batches :class:`SafeCollate` made for this process."""
    return _num_batches


def remember_batch(batch: Any, refs: Sequence[SampleRef | None], signature: BatchSignature | None = None) -> Any:
    """Remember which samples a batch holds; returns the batch."""
    leaves = [weakref.ref(leaf) for leaf in leaves_of(batch)[0]]
    _append(_KnownBatch(signature or signature_of(batch), [*leaves], tuple(refs)))
    return batch


def remember_leaf(
    tensor: Any, key: str, place: int, refs: tuple[SampleRef | None, ...], signature: BatchSignature
) -> None:
    """Remember that a tensor is the one at ``place`` in the batch ``key``, of which it may be all that is left."""
    known = _arriving.get(key)
    if known is None:
        known = _KnownBatch(signature, [None] * len(signature.leaves), refs)
        _arriving[key] = known
        _append(known)
    known.leaves[place] = weakref.ref(tensor)


def _append(known: _KnownBatch) -> None:
    global _num_batches
    with _lock:
        _num_batches += 1
        _batches.append(known)


def _find_by_identity(
    known: Sequence[_KnownBatch], tensors: Sequence[Any], searched: Sequence[SearchedLeaf]
) -> _KnownBatch | None:
    """The batch that some of the tensors belong to, if the others do not contradict."""
    found = []
    for one in known:
        mine = {id(leaf): place for place, leaf in _living(one)}
        places = [mine.get(id(leaf)) for leaf in tensors]
        held = {place for place in places if place is not None}
        if held:
            rest = [leaf for leaf, place in zip(searched, places, strict=True) if place is None]
            if _agree(rest, [mark for place, mark in enumerate(one.signature.leaves) if place not in held]):
                found.append((len(held), one))
    most = max((number for number, _ in found), default=0)
    return _only([one for number, one in found if number == most])


def _living(one: _KnownBatch) -> Iterator[tuple[int, Any]]:
    for place, reference in enumerate(one.leaves):
        leaf = None if reference is None else reference()
        if leaf is not None:
            yield place, leaf


def _agree(rest: Sequence[SearchedLeaf], signatures: Sequence[LeafSignature | None]) -> bool:
    """Whether either of two lists of tensors is a part of the other: a batch with tensors left out, or added."""
    if len(rest) <= len(signatures):
        return is_found_in(rest, signatures)
    return sum(is_found_in([leaf], signatures) for leaf in rest) >= len(signatures)


def _find_by_value(
    known: Sequence[_KnownBatch], searched: Sequence[SearchedLeaf], others: int | None
) -> _KnownBatch | None:
    """The batch in which everything is equal."""
    shapes = sorted(leaf.shape for leaf in searched)
    return _only(
        [
            one
            for one in known
            if one.signature.is_complete
            and one.signature.others == others
            and sorted(mark.shape for mark in one.signature.leaves if mark is not None) == shapes
            and is_found_in(searched, one.signature.leaves)
        ]
    )


def _only(found: Sequence[_KnownBatch]) -> _KnownBatch | None:
    """The batch that was found; None for none, and for several with different samples."""
    if not found or any(one.refs != found[0].refs and _resolve(one) != _resolve(found[0]) for one in found[1:]):
        return None
    return found[0]


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
