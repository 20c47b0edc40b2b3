"""Batches of any structure: their leaves, how many samples they hold, and the same batch with some samples only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeGuard

import numpy as np
import torch

from datacheck.torch._compat import storage_id
from datacheck.torch.structure import map_structure, walk
from datacheck.torch.values import dense_parts

Array = torch.Tensor | np.ndarray[Any, Any]


def array_leaves(batch: object) -> Iterator[tuple[str | None, Array]]:
    """The paths and values of the tensors and arrays of a batch."""
    for path, value in walk(batch):
        if isinstance(value, torch.Tensor | np.ndarray):
            yield path, value


def number_lists(batch: object, path: str | None = None) -> Iterator[tuple[str | None, np.ndarray[Any, Any]]]:
    """The paths and values of the lists of plain numbers of a batch, where one of them is non-finite."""
    if isinstance(batch, Mapping):
        inner = [(str(key), value) for key, value in batch.items()]
    elif isinstance(batch, list | tuple):
        numbers = _as_numbers(batch)
        if numbers is not None:
            if not np.isfinite(numbers).all():
                yield path, numbers
            return
        inner = [(str(index), value) for index, value in enumerate(batch)]
    else:
        return
    for name, value in inner:
        yield from number_lists(value, name if path is None else f"{path}.{name}")


def _as_numbers(values: Sequence[Any]) -> np.ndarray[Any, Any] | None:
    """A list of numbers, or of lists of them that are equally long, as an array; None for anything else."""
    first: Any = values
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if not isinstance(first, int | float):
        return None
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError):
        return None


def given_storages(batch: object) -> frozenset[int]:
    """The storages of the tensors of a batch."""
    tensors = (leaf for _, leaf in array_leaves(batch) if isinstance(leaf, torch.Tensor))
    return frozenset(storage_id(part) for tensor in tensors for part in dense_parts(tensor))


def num_samples(batch: object) -> int | None:
    """The number of samples in a batch; None where it cannot be determined.

    A list of samples (mappings, tuples or dataclasses) has as many as it is long. Otherwise it is the first dimension that
    the tensors agree on.
    """
    if _is_list_of_samples(batch):
        return len(batch)
    sizes = Counter(leaf.shape[0] for _, leaf in array_leaves(batch) if len(leaf.shape) > 0)
    if not sizes:
        return None
    (size, votes), *others = sizes.most_common()
    return None if others and others[0][1] == votes else int(size)


def samples_in(batch: object) -> list[Any] | tuple[Any, ...] | None:
    """The samples of a batch that is a list of them; None for any other."""
    return batch if _is_list_of_samples(batch) else None


def sample_of(batch: object, path: str | None) -> int | None:
    """The sample that a path leads into, where the batch is a list of samples."""
    if path is None or not _is_list_of_samples(batch):
        return None
    first = path.split(".")[0]
    return int(first) if first.isdecimal() else None


def take(batch: Any, positions: Sequence[int], size: int) -> Any:
    """The batch with only the samples at these positions; values that are not per sample stay as they are."""
    if _is_list_of_samples(batch):
        return type(batch)(batch[position] for position in positions)
    return _take(batch, list(positions), size)


def _take(value: Any, positions: list[int], size: int) -> Any:
    def take_leaf(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            if leaf.dim() == 0 or leaf.shape[0] != size:
                return leaf
            taken = leaf.detach().index_select(0, torch.tensor(positions, device=leaf.device))
            return taken.requires_grad_(leaf.requires_grad) if leaf.is_floating_point() else taken
        if isinstance(leaf, np.ndarray):
            return leaf if leaf.ndim == 0 or leaf.shape[0] != size else leaf[positions]
        return type(leaf)([leaf[position] for position in positions]) if has_one_item_a_sample(leaf) else leaf

    def has_one_item_a_sample(value: Any) -> bool:
        if not isinstance(value, list | tuple) or hasattr(value, "_fields") or len(value) != size:
            return False
        return not any(isinstance(inner, torch.Tensor | np.ndarray) for inner in value)

    return map_structure(value, take_leaf, has_one_item_a_sample)


def _is_list_of_samples(batch: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    if not isinstance(batch, list | tuple) or hasattr(batch, "_fields") or not batch:
        return False
    if all(isinstance(sample, Mapping) or is_dataclass(sample) for sample in batch):
        return True
    if isinstance(batch, list) and all(isinstance(sample, tuple) for sample in batch):
        return len({len(sample) for sample in batch}) == 1
    tensors = isinstance(batch, list) and all(isinstance(sample, torch.Tensor) for sample in batch)
    # A list of tensors with different first dimensions is ragged: one tensor per sample.
    return tensors and len({sample.shape[:1] for sample in batch}) > 1
