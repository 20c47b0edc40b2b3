"""The values of a batch from before a step, which code of the step may change in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datacheck.torch._compat import is_transformed, storage_id, version_of
from datacheck.torch.structure import map_structure, tensors_in
from datacheck.torch.values import count_nonfinite

#: Bytes of one batch that are copied.
MAX_COPIED_BYTES = 64 << 20
#: Batches that are copied although none has been changed.
NUM_FIRST = 2


@dataclass(frozen=True, slots=True, eq=False)
class BatchTensor:
    """A tensor of a batch, its version when the batch was kept and, where one was made, a copy of its values."""

    tensor: Tensor
    version: int
    copy: Tensor | None = None

    @property
    def is_changed(self) -> bool:
        return version_of(self.tensor) != self.version

    @property
    def is_made_bad(self) -> bool:
        """Whether it has non-finite values and has been changed since it was kept, where it is not known to have had some
        before.
        """
        was_bad = self.copy is not None and bool(count_nonfinite(self.copy)[0])
        return self.is_changed and not was_bad and bool(count_nonfinite(self.tensor)[0])


class KeptBatch:
    """A batch, and its tensors as they were when it was kept."""

    __slots__ = ("_copies", "_tensors", "_versions", "batch")

    def __init__(
        self, batch: Any, tensors: list[Tensor], versions: list[int], copies: Sequence[Tensor | None] = ()
    ) -> None:
        self.batch = batch
        self._tensors = tensors
        self._versions = versions
        self._copies = copies

    @property
    def is_changed(self) -> bool:
        return list(map(version_of, self._tensors)) != self._versions

    @property
    def tensors(self) -> list[BatchTensor]:
        """Its tensors; none of those that only live in a functional transform."""
        copies = self._copies or [None] * len(self._tensors)
        parts = zip(self._tensors, self._versions, copies, strict=True)
        return [BatchTensor(*part) for part in parts if not is_transformed(part[0])]

    @property
    def changed(self) -> list[BatchTensor]:
        """The tensors that have been changed in place since."""
        return [one for one in self.tensors if one.is_changed]

    def restored(self) -> Any:
        """The batch as it was, as far as copies were made."""
        return map_structure(self.batch, restorer_of([self]))


class BatchKeeper:
    """Keeps batches: the versions of their tensors, and their values if training is seen to change them in place.

    The first batches are copied too, since it is not known yet what training does with them.
    """

    def __init__(self) -> None:
        self._num_to_copy = NUM_FIRST
        self._has_changes = False

    def keep(self, batch: Any) -> KeptBatch:
        """Keep a batch as it is now."""
        tensors = tensors_in(batch)
        try:
            versions = list(map(version_of, tensors))
        except RuntimeError:
            # Tensors of inference mode have no version.
            tensors = [tensor for tensor in tensors if not tensor.is_inference()]
            versions = list(map(version_of, tensors))
        if not (self._has_changes or self._num_to_copy):
            return KeptBatch(batch, tensors, versions)
        self._num_to_copy = max(self._num_to_copy - 1, 0)
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > MAX_COPIED_BYTES:
            return KeptBatch(batch, tensors, versions)
        return KeptBatch(batch, tensors, versions, [_copy_of(tensor) for tensor in tensors])

    def review(self, batches: Iterable[KeptBatch | None]) -> None:
        """See whether batches were changed after they were kept."""
        for kept in batches:
            if kept is not None and kept.is_changed:
                self._has_changes = True


def _copy_of(tensor: Tensor) -> Tensor | None:
    """A copy with the same strides; None of what is not dense."""
    if type(tensor) is not Tensor or tensor.layout is not torch.strided or tensor.requires_grad:
        return None
    return None if is_transformed(tensor) else tensor.clone(memory_format=torch.preserve_format)


def restorer_of(batches: Iterable[KeptBatch]) -> Callable[[Any], Any]:
    """A function that gives a tensor, or a view of it, the values from before it was changed in place; each a new copy."""
    changed = {storage_id(one.tensor): one for kept in batches for one in kept.changed if one.copy is not None}
    copies: dict[int, Tensor] = {}

    def restore(value: Any) -> Any:
        if type(value) is not Tensor or value.layout is not torch.strided or value.grad_fn is not None:
            return value
        key = storage_id(value)
        one = changed.get(key)
        if one is None or one.copy is None or value.dtype is not one.tensor.dtype or not value.numel():
            return value
        copy = copies.setdefault(key, one.copy.clone(memory_format=torch.preserve_format))
        offset = value.storage_offset() - one.tensor.storage_offset()
        last = offset + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
        if (
            copy.stride() != one.tensor.stride()
            or offset < 0
            or last * copy.element_size() >= copy.untyped_storage().nbytes()
        ):
            return value
        return copy.as_strided(value.shape, value.stride(), offset)

    return restore
