"""Know the tensors of a batch again that a function around a collate function returned in a worker.

Such a function may have changed the batch, so nothing can be wrapped around it. Each tensor takes a mark along on its way to
the main process instead.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.multiprocessing.reductions import reduce_tensor

from datacheck.torch.loader.batch_signature import BatchSignature, leaves_of
from datacheck.torch.loader.provenance import SampleRef, remember_leaf

__all__ = ["mark_tensors"]

#: The attribute of a marked tensor.
_MARK = "_datacheck_batch"

_Mark = tuple[str, tuple[SampleRef | None, ...], BatchSignature]


def mark_tensors(batch: Any, refs: tuple[SampleRef | None, ...], signature: BatchSignature) -> None:
    """Mark the tensors of a batch in a worker, from which they are sent to the main process."""
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
