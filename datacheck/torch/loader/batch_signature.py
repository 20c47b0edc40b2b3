"""Recognize a batch by all that is in it: a digest of the values of each tensor and array, and of everything else.

A batch is another one as soon as one value differs. A copy in a narrower dtype has other bytes. So the values are
digested again in each dtype that a batch may be cast to, up to ``NUM_SAMPLED`` of a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from datacheck.leaves import IntArray
from datacheck.torch.structure import walk
from datacheck.torch.values import dtype_name

Array = np.ndarray[Any, Any]

#: Values of a tensor that are compared after a cast, and tensors of a batch up to which a cast is recognized.
NUM_SAMPLED, MAX_CAST_LEAVES = 1 << 14, 64
#: Different values that each row of a larger tensor must have among them: zeros at the edge of an image prove nothing.
LEAST_DISTINCT = 8

_CASTS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
#: A multilinear hash, the same in every process: equal digests of different values have a chance of about 2**-32.
_WEIGHTS = np.random.default_rng(97).integers(0, 1 << 64, 4096, dtype=np.uint64)
_BLOCK = 32 * len(_WEIGHTS)
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class LeafSignature:
    """The shape and dtype of a tensor or array, and digests of its values: as they are, and in each dtype of ``_CASTS``."""

    shape: tuple[int, ...]
    dtype: str
    digest: int
    casts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchSignature:
    """The signatures of the tensors and arrays of a batch, None for one that cannot be read, and a digest of all else.

    ``others`` is None if the batch holds objects that cannot be compared.
    """

    leaves: tuple[LeafSignature | None, ...]
    others: int | None

    @property
    def is_complete(self) -> bool:
        """Whether everything in the batch is covered, so that equal signatures prove equal samples."""
        return bool(self.leaves) and None not in self.leaves and self.others is not None


def leaves_of(batch: object) -> tuple[list[Any], list[Any]]:
    """The tensors and arrays of a batch, and everything else in it."""
    tensors: list[Any] = []
    others: list[Any] = []
    for _, value in walk(batch, objects=True):
        (tensors if isinstance(value, torch.Tensor | np.ndarray) else others).append(value)
    return tensors, others


def signature_of(batch: object) -> BatchSignature:
    """The signature of a batch. Reads all of its values."""
    tensors, others = leaves_of(batch)
    has_casts = len(tensors) <= MAX_CAST_LEAVES
    return BatchSignature(tuple(_sign(leaf, has_casts) for leaf in tensors), digest_of_others(others))


def digest_of_others(values: Sequence[Any]) -> int | None:
    """A digest of numbers, texts and the like in any order; None if other objects are among them."""
    if not all(isinstance(value, _COMPARABLE) for value in values):
        return None
    return _digest(np.frombuffer(repr(sorted(map(repr, values))).encode(errors="surrogatepass"), np.uint8))


_COMPARABLE = (type(None), str, bytes, int, float, complex, np.generic, torch.Size, torch.dtype, torch.device)


def _sign(leaf: Any, has_casts: bool) -> LeafSignature | None:
    searched = SearchedLeaf(leaf)
    if searched.digest is None:
        return None
    return LeafSignature(searched.shape, searched.dtype, searched.digest, searched.casts() if has_casts else ())


class SearchedLeaf:
    """A tensor or array to sign, or to compare with signatures."""

    def __init__(self, leaf: Any) -> None:
        self.shape = tuple(leaf.shape)
        self.dtype = dtype_name(leaf.dtype)
        self._leaf = leaf

    @cached_property
    def digest(self) -> int | None:
        """The digest of the values; None for tensors that cannot be read, such as sparse ones."""
        octets = _octets(self._leaf)
        return None if octets is None else _digest(octets)

    def casts(self) -> tuple[int, ...]:
        """The digests of the values in each dtype that the batch may be cast to."""
        values = self._values
        return () if values is None else tuple(_digest_as(values, dtype) for dtype in _CASTS)

    def matches(self, signature: LeafSignature | None) -> bool:
        """Whether this is the signed tensor, or a copy of it on another device or in another dtype."""
        if signature is None or signature.shape != self.shape:
            return False
        if signature.dtype == self.dtype:
            return signature.digest == self.digest
        values = self._values if signature.casts else None
        if values is None:
            return False
        dtype = values.dtype if values.is_floating_point() else torch.float64
        if dtype not in _CASTS or _digest_as(values, dtype) != signature.casts[_CASTS.index(dtype)]:
            return False
        return self._is_distinct(values)

    def _is_distinct(self, values: torch.Tensor) -> bool:
        """Whether the compared values are all, or tell each row from others."""
        num_values = int(np.prod(self.shape))
        if num_values == len(values):
            return True
        rows = _positions(num_values) // (num_values // self.shape[0])
        order = np.argsort(rows, kind="stable")
        starts = np.searchsorted(rows[order], np.arange(1, self.shape[0]))
        parts = np.split(values.to(torch.float64).numpy()[order], starts)
        return all(len(np.unique(part)) >= LEAST_DISTINCT for part in parts)

    @cached_property
    def _values(self) -> torch.Tensor | None:
        return _sample(self._leaf)


def is_found_in(leaves: Iterable[SearchedLeaf], signatures: Sequence[LeafSignature | None]) -> bool:
    """Whether each leaf matches a signature of its own."""
    left = list(signatures)
    for leaf in leaves:
        place = next((place for place, signature in enumerate(left) if leaf.matches(signature)), None)
        if place is None:
            return False
        del left[place]
    return True


def _octets(leaf: Any) -> Array | None:
    """The bytes of the values; None if they cannot be read."""
    if isinstance(leaf, np.ndarray):
        return None if leaf.dtype.hasobject else np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    if leaf.layout is not torch.strided or leaf.is_nested or leaf.is_meta or leaf.is_quantized:
        return None
    try:
        values = leaf.detach().as_subclass(torch.Tensor).resolve_conj().resolve_neg().cpu().reshape(-1)
        octets: Array = values.contiguous().view(torch.uint8).numpy()
    except (TypeError, RuntimeError, NotImplementedError):
        return None
    return octets


def _sample(leaf: Any) -> torch.Tensor | None:
    """A copy of the values, of some of them if there are many; None for values that no cast is expected of."""
    if isinstance(leaf, np.ndarray):
        if leaf.dtype.kind not in "?biuf" or not leaf.dtype.isnative or leaf.dtype == np.longdouble:
            return None
        flat = leaf.reshape(-1)
        return torch.from_numpy(flat[_positions(flat.size)])
    if leaf.is_complex() or (leaf.dtype.itemsize == 1 and leaf.is_floating_point()):
        return None
    values: torch.Tensor = leaf.detach().as_subclass(torch.Tensor).reshape(-1)
    return values[torch.from_numpy(_positions(values.numel())).to(values.device)].cpu()


def _positions(num_values: int) -> IntArray:
    if num_values <= NUM_SAMPLED:
        return np.arange(num_values)
    # A multiplicative hash: positions in all rows and columns, whatever the shape.
    return (np.arange(NUM_SAMPLED, dtype=np.int64) * 2654435761 + 97) % num_values


def _digest_as(values: torch.Tensor, dtype: torch.dtype) -> int:
    cast = values.to(dtype, copy=True)
    cast[cast.isnan()] = torch.nan  # devices cast a NaN to different bits
    return _digest(cast.view(torch.uint8).numpy())


def _digest(octets: Array) -> int:
    num_words = len(octets) // 8
    tail = int.from_bytes(octets[8 * num_words :].tobytes(), "little")
    words = np.concatenate([_fold(octets[: 8 * num_words].view(np.uint64)), np.array([tail, len(octets)], np.uint64)])
    while len(words) > 1:
        words = _fold(words)
    return int(words[0])


def _fold(words: Array) -> Array:
    """One weighted sum per row of ``len(_WEIGHTS)`` words."""
    width = len(_WEIGHTS)
    sums = [np.empty(0, np.uint64)]
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        # A product keeps only the lowest bit of a change in the highest one, such as a sign; so it is in two places.
        mixed = block ^ (block >> _HALF)
        num_whole = len(mixed) // width * width
        if num_whole:
            sums.append(mixed[:num_whole].reshape(-1, width) @ _WEIGHTS)
        if num_whole < len(mixed):
            sums.append(np.atleast_1d(mixed[num_whole:] @ _WEIGHTS[: len(mixed) - num_whole]))
    return np.concatenate(sums)
