"""The size of a tensor's values, at memory speed.

The size is the sum of squares. The gradient norm needs it anyway, and a NaN or an infinity makes it non-finite for good.
Large finite values overflow it too (above about 1e17 in float32), so a non-finite sum is only a suspicion, which
:func:`datacheck.torch.values.count_nonfinite` settles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from datacheck.torch import _compat
from datacheck.torch.values import can_be_nonfinite, is_finite, plain_tensor

#: The dtypes that BLAS has a dot product for.
_DOT_DTYPES = frozenset({torch.float32, torch.float64, torch.complex64, torch.complex128})
_REAL_DTYPES = frozenset({torch.float32, torch.float64})
_HALF_DTYPES = frozenset({torch.float16, torch.bfloat16})
_VDOT = np.vdot
#: NumPy's codes of float32 and float64.
_DOT_CODES = "fd"
#: Of more than ``MANY`` tensors, small ones (``MAX_SMALL`` values) are summed together, ``MAX_TOGETHER`` at a time.
MANY, MAX_SMALL, MAX_TOGETHER = 8, 8192, 32768
#: Tensor classes without behavior of their own.
_PLAIN_TYPES = frozenset({Tensor, nn.Parameter, nn.Buffer})


def squares(tensor: Tensor) -> float:
    """The sum of squares of a tensor in host memory; finite only if every value is.

    ``np.vdot`` reads memory twice as fast as torch's norm, with a quarter of the overhead for small tensors.
    """
    if type(tensor) in _PLAIN_TYPES:
        try:
            values = tensor.detach().numpy() if tensor.requires_grad else tensor.numpy()
        except (RuntimeError, TypeError):
            # Sparse, or of a dtype that NumPy lacks.
            return _squares_of_any(tensor)
        if values.dtype.char in _DOT_CODES and values.flags.c_contiguous:
            total: float = _VDOT(values, values).item()
            return total
    return _squares_of_any(tensor)


def sum_squares(tensors: Sequence[Tensor]) -> float | None:
    """The sum of squares over tensors in host memory; finite only if every value is.

    None if a tensor is elsewhere; nothing waits for it. Many small ones are copied side by side first, which is quicker.
    """
    total = 0.0
    if len(tensors) > MANY:
        total, tensors = _squares_of_small(tensors)
    for tensor in tensors:
        if not tensor.is_cpu:
            return None
        total += squares(tensor)
    return total


def _squares_of_small(tensors: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
    """The sum of squares of small tensors in host memory, and the other tensors."""
    others: list[Tensor] = []
    small: list[Tensor] = []
    total, room = 0.0, MAX_TOGETHER
    for tensor in tensors:
        if type(tensor) is not Tensor or tensor.numel() > MAX_SMALL or tensor.requires_grad or not tensor.is_cpu:
            others.append(tensor)
            continue
        small.append(tensor)
        room -= tensor.numel()
        if room < 0:
            total += _squares_together(small, others)
            small, room = [], MAX_TOGETHER
    return total + _squares_together(small, others), others


def _squares_together(tensors: list[Tensor], others: list[Tensor]) -> float:
    """The sum of squares of small tensors; 0 if they cannot be put side by side and were added to ``others``."""
    if not tensors:
        return 0.0
    try:
        flat = _compat.flattened(tensors)
    except (NotImplementedError, RuntimeError, TypeError):
        # Sparse, or of dtypes without a common one.
        flat = None
    if flat is not None and flat.dtype in _HALF_DTYPES:
        flat = flat.float()
    if flat is None or flat.dtype not in _REAL_DTYPES:
        others.extend(tensors)
        return 0.0
    values = flat.numpy()
    total: float = _VDOT(values, values).item()
    return total


def _squares_of_any(tensor: Tensor) -> float:
    tensor = plain_tensor(tensor)
    dtype = tensor.dtype
    if not can_be_nonfinite(tensor):
        return 0.0
    if dtype in _HALF_DTYPES:
        return float(torch.linalg.vector_norm(tensor, dtype=torch.float32)) ** 2
    if dtype in _DOT_DTYPES:
        return float(torch.linalg.vector_norm(tensor)) ** 2
    return 0.0 if is_finite(tensor) else float("nan")


def exact_squares(tensors: Iterable[Tensor]) -> float:
    """The sum of squares in double precision, for values whose squares overflow single precision."""
    total = 0.0
    for tensor in map(plain_tensor, tensors):
        if tensor.dtype in _HALF_DTYPES or tensor.dtype in _DOT_DTYPES:
            wide = torch.complex128 if tensor.dtype.is_complex else torch.float64
            total += float(torch.linalg.vector_norm(tensor, dtype=wide)) ** 2
    return total


def total_norm(tensors: Sequence[Tensor], order: float = 2) -> Tensor:
    """The norm over tensors of an accelerator, left there: no host sync. It is finite only if every value is.

    With an infinite ``order``, it is the largest value: non-finite only if one is, which a norm of large values is not.
    """
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in map(plain_tensor, tensors):
        if tensor.dtype in _DOT_DTYPES or tensor.dtype in _HALF_DTYPES:
            groups.setdefault((tensor.device, tensor.dtype), []).append(tensor)
        elif can_be_nonfinite(tensor):
            groups.setdefault((tensor.device, torch.float32), []).append(tensor.to(torch.float32))
    norms: list[Tensor] = []
    for (_, dtype), group in groups.items():
        # Half precision would overflow at a norm of 65,504.
        wide = torch.float32 if dtype in _HALF_DTYPES else None
        norms.extend(_compat.foreach_norm(group, wide, order))
    if not norms:
        return torch.zeros(())
    home = norms[0].device
    # What is finite in double precision must stay so.
    is_double = order != 2 and any(norm.dtype is torch.float64 for norm in norms)
    dtype = torch.float64 if is_double else torch.float32
    total: Tensor = torch.linalg.vector_norm(
        torch.stack([norm.to(home, dtype, non_blocking=True) for norm in norms]), order
    )
    return total
