"""Tensors as memory: which values are not finite, and which element lives at which address.

Addresses make provenance simple: a view, a transpose or an expanded tensor reads the bytes that an operation wrote, so
the element that a reader saw and the element that a writer wrote are the same address, whatever the shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datacheck import numerics
from datacheck.torch import _compat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "Geometry",
    "bad_positions",
    "broadcast_position",
    "count_bad",
    "element",
    "flatten_memory",
    "is_comparable",
    "is_finite",
    "parts",
    "storage_key",
    "values_of",
]

_DTYPE_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
    torch.complex64: "complex64",
    torch.complex128: "complex128",
    torch.float8_e4m3fn: "float8_e4m3fn",
    torch.float8_e4m3fnuz: "float8_e4m3fnuz",
    torch.float8_e5m2: "float8_e5m2",
    torch.float8_e5m2fnuz: "float8_e5m2fnuz",
}
#: Values up to which looking at each is quicker than a screen.
SMALL = 4096

_NUMPY_DTYPES = frozenset({torch.float32, torch.float64, torch.complex64, torch.complex128})
_BITS = {1: torch.uint8, 2: torch.int16}


def is_comparable(tensor: torch.Tensor) -> bool:
    """Whether the dtype can hold NaN or infinities and the values are at hand."""
    return (
        (tensor.dtype.is_floating_point or tensor.dtype.is_complex)
        and tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_quantized
        and not tensor.is_nested
        # Functional transforms stand zeros in for gradients that are not there; they have no memory.
        and not _compat.is_zero_tensor(tensor)
    )


def parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The dense tensors whose memory holds the values: the tensor itself, or the values of a sparse or nested one."""
    layout = tensor.layout
    if layout is torch.sparse_coo:
        yield _compat.sparse_parts(tensor)[1]
    elif layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        yield tensor.values()
    elif layout is torch.strided and not tensor.is_nested:
        yield tensor


def storage_key(tensor: torch.Tensor) -> int:
    """What tells storages apart while they live."""
    return _compat.storage_id(tensor)


def flatten_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor in one dimension, in memory order and without a copy where memory allows.

    Dimensions that are expanded are seen once.
    """
    if tensor.is_contiguous():
        return tensor.view(-1)
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    order = sorted(range(tensor.dim()), key=lambda dim: (tensor.stride(dim), tensor.shape[dim]), reverse=True)
    permuted = tensor.permute(order)
    return permuted.view(-1) if permuted.is_contiguous() else permuted.reshape(-1)


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every value is finite, exactly. Tensors that cannot hold anything else are."""
    if not is_comparable(tensor) or tensor.numel() == 0:
        return True
    if tensor.numel() <= SMALL and tensor.dtype in _NUMPY_DTYPES and tensor.device.type == "cpu":
        return bool(np.isfinite(tensor.detach().resolve_conj().resolve_neg().numpy()).all())
    flat = flatten_memory(tensor.detach().resolve_conj().resolve_neg())
    if flat.device.type == "cpu":
        name = _DTYPE_NAMES.get(flat.dtype)
        if name is not None:
            return numerics.is_finite(_as_numpy(flat, name), name)
    if flat.dtype.itemsize == 1:
        flat = flat.float()
    return bool(torch.isfinite(flat).all())


def _as_numpy(flat: torch.Tensor, name: str) -> np.ndarray[Any, Any]:
    # NumPy has neither bfloat16 nor float8: their bits travel as integers, which the screen knows.
    if name in numerics.BIT_FORMATS and name != "float16":
        array: np.ndarray[Any, Any] = flat.view(_BITS[flat.dtype.itemsize]).numpy()
        return array.view(numerics.BIT_FORMATS[name].storage)
    return flat.numpy()


def bad_positions(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The flat positions, in the order of the indices, of values that are not finite."""
    if not is_comparable(tensor):
        return np.empty(0, np.int64)
    tensor = tensor.detach()
    if tensor.dtype.itemsize == 1:
        tensor = tensor.float()
    found: np.ndarray[Any, np.dtype[np.int64]] = (~torch.isfinite(tensor)).reshape(-1).nonzero().view(-1).cpu().numpy()
    return found


def count_bad(tensor: torch.Tensor) -> int:
    """How many values are not finite."""
    tensor = tensor.detach()
    if tensor.device.type == "cpu" and tensor.dtype in _NUMPY_DTYPES:
        array = tensor.resolve_conj().resolve_neg().numpy()
        return int(array.size - np.count_nonzero(np.isfinite(array)))
    return len(bad_positions(tensor))


def element(tensor: torch.Tensor, position: int) -> complex | float:
    """The value at a flat position, as a Python number."""
    value = tensor.detach()[np.unravel_index(position, tensor.shape)] if tensor.dim() else tensor.detach()
    number: complex | float = value.item()
    return number


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


def values_of(tensor: torch.Tensor) -> torch.Tensor:
    """The values as float64 (complex128) on the CPU, for looking at."""
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().cpu().to(wide)


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
            storage_key(tensor),
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
        index: Sequence[Any] = np.unravel_index(position, self.shape) if self.shape else ()
        return self.start + sum(int(digit) * stride for digit, stride in zip(index, self.strides, strict=True))

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
