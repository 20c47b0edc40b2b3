"""Tensors as values: which of them are non-finite, and as NumPy sees them. The one such layer of the three torch rooms.

NumPy has neither bfloat16 nor float8: :func:`as_numpy` gives their bits as unsigned integers, which
:mod:`datacheck.numerics` reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datacheck import numerics
from datacheck.leaves import FLOAT_FORMATS, has_nonfinite
from datacheck.torch import _compat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


#: Up to this many values, looking at each is quicker than a screen.
SMALL = 4096

_NUMPY_DTYPES = frozenset({torch.float32, torch.float64, torch.complex64, torch.complex128})
_SHARED_DTYPES = _NUMPY_DTYPES | {torch.float16}
_BITS = {
    dtype: torch.uint16 if dtype.itemsize == 2 else torch.uint8
    for dtype in (getattr(torch, name, None) for name in FLOAT_FORMATS)
    if dtype is not None
}
_SPARSE_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def dtype_name(dtype: torch.dtype) -> str:
    """The logical dtype of a tensor's dtype, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def can_be_nonfinite(tensor: torch.Tensor) -> bool:
    """Whether a tensor has values whose dtype can hold NaN or an infinity."""
    dtype = tensor.dtype
    return (dtype.is_floating_point or dtype.is_complex) and tensor.device.type != "meta"


def is_comparable(tensor: torch.Tensor) -> bool:
    """Whether a tensor can hold NaN or infinities in dense memory of its own."""
    return (
        can_be_nonfinite(tensor)
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and not tensor.is_nested
        # Functional transforms stand zeros without memory in for missing gradients.
        and not _compat.is_zero_tensor(tensor)
    )


def dense_parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The dense tensors that hold the values: the tensor itself, or the values of a sparse one; none of a nested one."""
    layout = tensor.layout
    if layout is torch.sparse_coo:
        yield _compat.sparse_parts(tensor)[1]
    elif layout in _SPARSE_COMPRESSED:
        yield tensor.values()
    elif layout is torch.strided and not tensor.is_nested:
        yield tensor


def plain_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The strided tensor that holds the values: this rank's part of a DTensor, the values of a sparse or nested one."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    tensor = tensor.detach()
    if tensor.layout is torch.strided:
        return tensor
    if tensor.layout is torch.sparse_coo:
        return _compat.sparse_parts(tensor)[1]
    if tensor.is_mkldnn:
        return tensor.to_dense()
    values: torch.Tensor = tensor.values()
    return values


def as_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A dense tensor as an array, without a copy where its memory allows.

    bfloat16 and float8 come as the unsigned integers that store them. Raises RuntimeError or TypeError for a tensor that
    is sparse, nested, or on no device.
    """
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.dtype not in _SHARED_DTYPES:
        bits = _BITS.get(tensor.dtype)
        if bits is not None:
            tensor = tensor.view(bits)
    try:
        return tensor.numpy()
    except (RuntimeError, TypeError):
        return tensor.cpu().resolve_conj().resolve_neg().numpy()


def flatten_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor in one dimension, in memory order and without a copy where memory allows.

    Expanded dimensions are seen once.
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
    if flat.device.type == "cpu" and (flat.dtype in _SHARED_DTYPES or flat.dtype in _BITS):
        return numerics.is_finite(as_numpy(flat), dtype_name(flat.dtype))
    return not bool(nonfinite_mask(flat).any())


def nonfinite_mask(tensor: torch.Tensor) -> torch.Tensor:
    """True where a value of a strided tensor is NaN or infinite."""
    if not has_nonfinite(dtype_name(tensor.dtype)):
        return torch.zeros_like(tensor, dtype=torch.bool)
    # torch has no such test for float8, and float32 holds every value of it.
    return ~torch.isfinite(tensor.float() if tensor.dtype.itemsize == 1 else tensor)


def bad_positions(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The flat positions of non-finite values, in the order of the indices."""
    if not is_comparable(tensor):
        return np.empty(0, np.int64)
    found: np.ndarray[Any, np.dtype[np.int64]] = (
        nonfinite_mask(tensor.detach()).reshape(-1).nonzero().view(-1).cpu().numpy()
    )
    return found


def count_bad(tensor: torch.Tensor) -> int:
    """How many values of a dense tensor are non-finite."""
    tensor = tensor.detach()
    if tensor.device.type == "cpu" and tensor.dtype in _NUMPY_DTYPES:
        array = tensor.resolve_conj().resolve_neg().numpy()
        return int(array.size - np.count_nonzero(np.isfinite(array)))
    return len(bad_positions(tensor))


def count_nonfinite(tensor: torch.Tensor) -> tuple[int, int]:
    """How many of how many values of a tensor of any layout are non-finite, exactly."""
    tensor = plain_tensor(tensor)
    if not can_be_nonfinite(tensor) or tensor.numel() == 0:
        return 0, tensor.numel()
    return int(nonfinite_mask(tensor).sum()), tensor.numel()


def zero_nonfinite(tensor: torch.Tensor) -> None:
    """Write 0 where a value is non-finite, in place; a product with 0 would leave the NaN."""
    values = plain_tensor(tensor)
    if can_be_nonfinite(values):
        values.masked_fill_(nonfinite_mask(values), 0)


def as_number(value: object) -> float | None:
    """An option of an optimizer, a number or a tensor of one, as a number; None for anything else."""
    is_number = isinstance(value, int | float) or (isinstance(value, torch.Tensor) and value.numel() == 1)
    return float(value) if is_number else None  # type: ignore[arg-type]


def rounds_to_zero(value: float, dtype: torch.dtype) -> bool:
    """Whether a number that is not 0 is 0 in a dtype."""
    return value != 0 and float(torch.tensor(value, dtype=dtype)) == 0.0


def index_of(position: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The index of a flat position; empty where the shape has no dimensions."""
    return tuple(int(digit) for digit in np.unravel_index(position, tuple(shape))) if shape else ()


def element(tensor: torch.Tensor, position: int) -> complex | float:
    """The value at a flat position, as a Python number."""
    number: complex | float = tensor.detach()[index_of(position, tensor.shape)].item()
    return number


def values_of(tensor: torch.Tensor) -> torch.Tensor:
    """The values as float64 (complex128) on the CPU."""
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().cpu().to(wide)
