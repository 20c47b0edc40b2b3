"""Tensors as memory: which element lives at which address.

Addresses make provenance simple: a view, a transpose or an expanded tensor reads the bytes that an operation wrote.
So what a reader saw and what a writer wrote have the same address, whatever the shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datacheck.torch._compat import storage_id
from datacheck.torch.values import index_of

if TYPE_CHECKING:
    import torch


def broadcast_position(shape: tuple[int, ...], target: tuple[int, ...], position: int) -> int | None:
    """The flat position in ``shape`` of what is broadcast to a flat position in ``target``; None where it is not."""
    if shape == target:
        return position
    lead = len(target) - len(shape)
    if lead < 0 or any(size not in (1, whole) for size, whole in zip(shape, target[lead:], strict=True)):
        return None
    found, stride = 0, 1
    for size, whole in zip(reversed(shape), reversed(target), strict=False):
        position, digit = divmod(position, whole)
        if size != 1:
            found += digit * stride
            stride *= size
    return found


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where in memory the elements of a tensor lie."""

    key: int
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Geometry:
        size = tensor.dtype.itemsize
        return cls(
            storage_id(tensor),
            tensor.data_ptr(),
            tuple(tensor.shape),
            tuple(stride * size for stride in tensor.stride()),
            size,
        )

    @property
    def num_values(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def stop(self) -> int:
        """The address after the last element."""
        return self.address(self.num_values - 1) + self.itemsize if self.num_values else self.start

    def overlaps(self, other: Geometry) -> bool:
        """Whether some element of the two may be the same memory."""
        return self.key == other.key and self.start < other.stop and other.start < self.stop

    def address(self, position: int) -> int:
        """The address of the element at a flat position."""
        index = index_of(position, self.shape)
        return self.start + sum(digit * stride for digit, stride in zip(index, self.strides, strict=True))

    def position(self, address: int) -> int | None:
        """The flat position of the element that holds an address; None where none does."""
        offset = address - self.start
        if offset < 0 or 0 in self.shape:
            return None
        index = [0] * len(self.shape)
        for dim in sorted(range(len(self.shape)), key=lambda dim: self.strides[dim], reverse=True):
            stride = self.strides[dim]
            if stride > 0 and self.shape[dim] > 1:
                index[dim] = min(offset // stride, self.shape[dim] - 1)
                offset -= index[dim] * stride
        if offset >= self.itemsize:
            return None
        return int(np.ravel_multi_index(index, self.shape)) if index else 0
