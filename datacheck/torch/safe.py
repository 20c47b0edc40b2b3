"""Stable versions of the operations that most often produce NaN, with finite values and gradients at the edges.

They follow two rules. *The input is made safe before the operation*, never the output after it, since the gradient of a
branch that is not taken is 0 * inf. *A NaN stays a NaN*: these functions are for values at the edge of a domain, not for
hiding values that are already lost.

All take and return real floating-point tensors of any dtype (integers are converted to the default dtype, complex numbers
are rejected), broadcast as torch does, and compile without graph breaks. Inside the domain, values are bit for bit those of
the plain operation unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from datacheck.errors import UsageError
from datacheck.torch.decompositions import safe_eigh, safe_svd

__all__ = [
    "in_float32",
    "masked_log_softmax",
    "masked_logsumexp",
    "masked_mean",
    "masked_softmax",
    "masked_std",
    "masked_var",
    "safe_acos",
    "safe_acosh",
    "safe_asin",
    "safe_atan2",
    "safe_atanh",
    "safe_cross_entropy",
    "safe_div",
    "safe_eigh",
    "safe_entropy",
    "safe_exp",
    "safe_log",
    "safe_log2",
    "safe_log10",
    "safe_norm",
    "safe_normalize",
    "safe_pow",
    "safe_sqrt",
    "safe_svd",
]

Dims = int | Sequence[int] | None


def _floating(x: Tensor | float) -> Tensor:
    tensor = x if isinstance(x, Tensor) else torch.as_tensor(x)
    if tensor.dtype.is_complex:
        raise UsageError(f"expected a real tensor, got {tensor.dtype}: pass x.abs(), x.real or x.imag")
    return tensor if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype())


def _broadcast(x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    if keep is None:
        return x, torch.ones_like(x, dtype=torch.bool)
    if keep.dtype is not torch.bool:
        raise UsageError(
            f"keep: expected a boolean tensor (True = kept), got {keep.dtype}: pass keep > 0 or keep.bool()"
        )
    x, keep = torch.broadcast_tensors(x, keep)  # type: ignore[no-untyped-call]
    return x, keep


def safe_log(x: Tensor, eps: float | None = None) -> Tensor:
    """``log(max(x, eps))``, with a gradient of 0 below ``eps``.

    ``eps`` is the smallest normal number of the dtype unless given (log of it: -87.3 in float32, -9.7 in float16), so that
    ``1 / eps``, the largest gradient, is finite too. An ``eps`` that the dtype would round to 0 is raised to that number.
    """
    x = _floating(x)
    return torch.log(_at_least(x, eps))


def safe_log2(x: Tensor, eps: float | None = None) -> Tensor:
    """:func:`safe_log` to base 2."""
    return torch.log2(_at_least(_floating(x), eps))


def safe_log10(x: Tensor, eps: float | None = None) -> Tensor:
    """:func:`safe_log` to base 10."""
    return torch.log10(_at_least(_floating(x), eps))


def safe_entropy(p: Tensor, dim: int = -1, keepdim: bool = False) -> Tensor:
    """``-sum(p * log(p))`` over ``dim``, where 0 * log(0) is 0.

    The gradient at a probability of 0 is that at the smallest normal number of the dtype: large, and finite.
    """
    p = _floating(p)
    return -(p * safe_log(p)).sum(dim=dim, keepdim=keepdim)


def _at_least(x: Tensor, eps: float | None) -> Tensor:
    tiny = torch.finfo(x.dtype).tiny
    lowest = tiny if eps is None else max(eps, tiny)
    return torch.where(x < lowest, lowest, x)


def safe_sqrt(x: Tensor) -> Tensor:
    """``sqrt(x)``; 0 for ``x <= 0``, with a gradient of 0 there."""
    x = _floating(x)
    outside = x <= 0
    return torch.where(outside, 0.0, torch.sqrt(torch.where(outside, 1.0, x)))


def safe_div(a: Tensor | float, b: Tensor, fill: float = 0.0) -> Tensor:
    """``a / b``; ``fill`` where ``b`` is 0, with gradients of 0 there.

    Numbers too small for their reciprocal to be finite (subnormal ones) count as 0.
    """
    a, b = _floating(a) if isinstance(a, Tensor) else a, _floating(b)
    is_zero = b.abs() < torch.finfo(b.dtype).tiny
    return torch.where(is_zero, fill, a / torch.where(is_zero, 1.0, b))


def safe_pow(x: Tensor, exponent: Tensor | float, eps: float | None = None) -> Tensor:
    """``max(x, eps) ** exponent``, with a gradient of 0 with respect to ``x`` below ``eps``.

    ``eps`` as in :func:`safe_log`. For bases that are never meant to be negative, and exponents of any kind. Give an
    ``eps`` such as 1e-6 where the exponent is negative, so that the power is finite.
    """
    x = _floating(x)
    return torch.pow(_at_least(x, eps), exponent)


def safe_exp(x: Tensor, largest: float | None = None) -> Tensor:
    """``exp(min(x, largest))``, with a gradient of 0 above ``largest``.

    ``largest`` is just below the log of the dtype's largest number unless given: 88.7 in float32, 11.07 in float16.
    """
    x = _floating(x)
    info = torch.finfo(x.dtype)
    highest = math.log(info.max) * (1 - 2 * info.eps) if largest is None else largest
    return torch.exp(torch.where(x > highest, highest, x))


def safe_norm(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The Euclidean norm over ``dim`` (all dimensions unless given), with a gradient of 0 at the zero vector.

    Values are scaled by the largest of them, so that no square overflows or underflows: right up to 1e38 in float32 and
    65,504 in float16.
    """
    x = _floating(x)
    dims = _dims(x, dim)
    if any(x.shape[dim] == 0 for dim in dims):
        # There is no largest of no values; their norm is 0.
        return x.sum(dim=dims, keepdim=keepdim)
    largest = x.detach().abs().amax(dim=dims, keepdim=True)
    scale = torch.where((largest == 0) | torch.isinf(largest), 1.0, largest)
    root = safe_sqrt((x / scale).square().sum(dim=dims, keepdim=True)) * scale
    return root if keepdim or not dims else root.squeeze(dims)


def safe_normalize(x: Tensor, dim: int = -1) -> Tensor:
    """``x / x.norm(dim=dim, keepdim=True)``; 0 for the zero vector, with a gradient of 0 there."""
    x = _floating(x)
    return safe_div(x, safe_norm(x, dim=dim, keepdim=True))


def safe_acos(x: Tensor) -> Tensor:
    """``acos(x)`` on [-1, 1]; 0 above it and pi below it; with a gradient of 0 at and beyond both ends."""
    x = _floating(x)
    outside = x.abs() >= 1
    edge = (x.detach() < 0).to(x.dtype) * math.pi
    return torch.where(outside, edge, torch.acos(torch.where(outside, 0.0, x)))


def safe_asin(x: Tensor) -> Tensor:
    """``asin(x)`` on [-1, 1]; pi/2 above it and -pi/2 below it; with a gradient of 0 at and beyond both ends."""
    x = _floating(x)
    outside = x.abs() >= 1
    edge = torch.sign(x.detach()) * (math.pi / 2)
    return torch.where(outside, edge, torch.asin(torch.where(outside, 0.0, x)))


def safe_acosh(x: Tensor) -> Tensor:
    """``acosh(x)``; 0 for ``x <= 1``, with a gradient of 0 there."""
    x = _floating(x)
    outside = x <= 1
    return torch.where(outside, 0.0, torch.acosh(torch.where(outside, 2.0, x)))


def safe_atanh(x: Tensor, eps: float | None = None) -> Tensor:
    """``atanh`` of ``x`` held within ``1 - eps`` of 0, with a gradient of 0 beyond.

    ``eps`` is the spacing of the dtype at 1 unless given: the values go up to 8.3 in float32.
    """
    x = _floating(x)
    spacing = torch.finfo(x.dtype).eps
    edge = 1 - (spacing if eps is None else max(eps, spacing))
    outside = x.abs() > edge
    return torch.atanh(torch.where(outside, torch.sign(x.detach()) * edge, x))


def safe_atan2(y: Tensor, x: Tensor) -> Tensor:
    """``atan2(y, x)``; 0 at the origin, with gradients of 0 there."""
    y, x = _floating(y), _floating(x)
    origin = (y == 0) & (x == 0)
    return torch.where(origin, 0.0, torch.atan2(torch.where(origin, 0.0, y), torch.where(origin, 1.0, x)))


def _kept_scores(scores: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    scores = _floating(scores)
    return _broadcast(scores, scores.detach() != -math.inf if keep is None else keep)


def masked_softmax(scores: Tensor, keep: Tensor | None = None, dim: int = -1) -> Tensor:
    """The softmax over the scores that are kept; 0 elsewhere, and 0 everywhere in a row that keeps none.

    ``keep`` is boolean, True for what takes part; unless given, every score takes part that is not -inf. Scores that are
    not kept may be anything, NaN too: neither their value nor a gradient passes.
    """
    scores, keep = _kept_scores(scores, keep)
    return torch.where(keep, torch.softmax(_only_kept(scores, keep, dim), dim), 0.0)


def masked_log_softmax(scores: Tensor, keep: Tensor | None = None, dim: int = -1, fill: float | None = None) -> Tensor:
    """The log of :func:`masked_softmax`; ``fill`` where nothing is kept.

    ``fill`` is the lowest finite number of the dtype unless given, so that a probability of 0 times it is 0, where it would
    be NaN with -inf.
    """
    scores, keep = _kept_scores(scores, keep)
    lowest = torch.finfo(scores.dtype).min if fill is None else fill
    return torch.where(keep, torch.log_softmax(_only_kept(scores, keep, dim), dim), lowest)


def masked_logsumexp(
    scores: Tensor, keep: Tensor | None = None, dim: int = -1, keepdim: bool = False, fill: float | None = None
) -> Tensor:
    """The log of the sum of the exponentials of the scores that are kept; ``fill`` where none is, with a gradient of 0.

    ``keep`` as in :func:`masked_softmax`, and ``fill`` as in :func:`masked_log_softmax`.
    """
    scores, keep = _kept_scores(scores, keep)
    lowest = torch.finfo(scores.dtype).min if fill is None else fill
    total = torch.logsumexp(_only_kept(scores, keep, dim), dim, keepdim=keepdim)
    return torch.where(keep.any(dim, keepdim=keepdim), total, lowest)


def _only_kept(scores: Tensor, keep: Tensor, dim: int) -> Tensor:
    """The scores that are kept, -inf for the others; 0 in rows that keep none, for softmax cannot take them."""
    filled = torch.where(keep, scores, -math.inf)
    return torch.where(keep.any(dim, keepdim=True), filled, 0.0)


def safe_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The mean of ``F.cross_entropy`` over the targets that count; 0 where none does, with gradients of 0.

    A target does not count where it is ``ignore_index`` or its class has a weight of 0. Targets are class indices.
    """
    total = nn.functional.cross_entropy(
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    counts = target != ignore_index
    if weight is None:
        return total / counts.sum().clamp(min=1)
    share = torch.where(counts, weight[torch.where(counts, target, 0)], 0.0).sum()
    return safe_div(total, share)


def masked_mean(x: Tensor, keep: Tensor | None = None, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The mean of the values that are kept; 0 where none is, with a gradient of 0.

    All values are kept unless ``keep`` is given. Those that are not kept may be anything, NaN too. float16 and
    bfloat16 are summed in float32.
    """
    x, keep = _broadcast(_floating(x), keep)
    dims = _dims(x, dim)
    return _mean(_wide(x), keep, dims, keepdim).to(x.dtype)


def masked_var(
    x: Tensor, keep: Tensor | None = None, dim: Dims = None, correction: int = 1, keepdim: bool = False
) -> Tensor:
    """The variance of the values that are kept; 0 where no more than ``correction`` are, with a gradient of 0.

    Two passes, so that a large mean costs no precision. float16 and bfloat16 are summed in float32.
    """
    x, keep = _broadcast(_floating(x), keep)
    return _var(x, keep, dim, correction, keepdim).to(x.dtype)


def masked_std(
    x: Tensor, keep: Tensor | None = None, dim: Dims = None, correction: int = 1, keepdim: bool = False
) -> Tensor:
    """The square root of :func:`masked_var`, with a gradient of 0 where the values are all the same."""
    x, keep = _broadcast(_floating(x), keep)
    return safe_sqrt(_var(x, keep, dim, correction, keepdim)).to(x.dtype)


def _var(x: Tensor, keep: Tensor, dim: Dims, correction: int, keepdim: bool) -> Tensor:
    dims = _dims(x, dim)
    wide = _wide(x)
    away = torch.where(keep, wide - _mean(wide, keep, dims, keepdim=True), 0.0)
    num_kept = keep.sum(dim=dims, keepdim=keepdim)
    freedom = num_kept - correction
    # The mean is rounded: what the distances from it then sum to is taken off again.
    rounding = away.sum(dim=dims, keepdim=keepdim).square() / num_kept.clamp(min=1)
    total = (away.square().sum(dim=dims, keepdim=keepdim) - rounding).clamp(min=0.0)
    return torch.where(freedom > 0, total / freedom.clamp(min=1), 0.0)


def in_float32(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """``function(*args, **kwargs)`` in float32, also under autocast: floating-point tensors are converted first.

    A module is called with its parameters and buffers converted too; they themselves stay as they are. The result is
    float32.
    """
    given = [_as_float32(value) for value in args]
    named = {name: _as_float32(value) for name, value in kwargs.items()}
    device = next((value.device.type for value in given if isinstance(value, Tensor)), "cpu")
    with torch.autocast(device_type=device, enabled=False):
        if not isinstance(function, nn.Module):
            return function(*given, **named)
        state = {**dict(function.named_parameters()), **dict(function.named_buffers())}
        wide = {name: _as_float32(value) for name, value in state.items()}
        result: Tensor = torch.func.functional_call(function, wide, tuple(given), named)
        return result


def _as_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype.is_floating_point else value


def _mean(x: Tensor, keep: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    total = torch.where(keep, x, 0.0).sum(dim=dims, keepdim=keepdim)
    return total / keep.sum(dim=dims, keepdim=keepdim).clamp(min=1)


def _dims(x: Tensor, dim: Dims) -> tuple[int, ...]:
    return tuple(range(x.dim())) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
