"""The numbers of a step, read with one transfer at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datacheck.torch.guard.distributed import RankGroup
from datacheck.torch.guard.history import Update
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.norms import squares, sum_squares, total_norm


@dataclass(slots=True)
class StepNumbers:
    """One step's numbers on the host, reduced over ranks.

    ``squares`` is the sum of squares of the gradients, still multiplied by ``scale``; ``state_squares`` the sum of what the
    update before left behind.
    """

    loss: float | None
    squares: float
    scale: float
    state_squares: float = 0.0


@dataclass(slots=True)
class UnreadUpdate:
    """Numbers of the last update that lie on an accelerator, or are known for this rank only.

    ``state`` is the step, a sum of squares on the host, and a norm on an accelerator. ``ratio`` is the update
    and its update-to-weight ratio on an accelerator.
    """

    state: tuple[int, float, Tensor | None] | None = None
    ratio: tuple[Update, Tensor] | None = None


def read_on_host(
    losses: Sequence[Tensor],
    parameters: Sequence[NamedParameter],
    scale: Tensor | float,
    grad_norm: Tensor | float | None = None,
) -> StepNumbers | None:
    """The numbers of one process in host memory; None if some are elsewhere."""
    loss = None
    if losses:
        total = 0.0
        for one in losses:
            if not one.is_cpu:
                return None
            total += one.item()
        loss = total / len(losses)
    if grad_norm is not None:
        is_elsewhere = isinstance(grad_norm, Tensor) and not grad_norm.is_cpu
        return None if is_elsewhere else StepNumbers(loss, float(grad_norm) ** 2, float(scale))
    gradients = [gradient for parameter in parameters if (gradient := parameter.tensor.grad) is not None]
    total_squares = sum_squares(gradients)
    return None if total_squares is None else StepNumbers(loss, total_squares, float(scale))


def read_anywhere(
    losses: Sequence[Tensor],
    parameters: Sequence[NamedParameter],
    scale: Tensor | float,
    unread: UnreadUpdate,
    rank_group: RankGroup | None,
    shares: Mapping[int, float],
    *,
    grad_norm: Tensor | float | None = None,
) -> tuple[StepNumbers, float | None]:
    """The numbers and the unread update-to-weight ratio, in one transfer.

    ``shares`` is the part of each parameter's squares that this rank adds to the global sum. A sum over ranks carries a
    NaN of one rank to all of them. ``grad_norm`` is the norm over all ranks where it is known already.
    """
    size = rank_group.size if rank_group else 1
    host_squares, elsewhere = _split_gradients(() if grad_norm is not None else parameters, shares)
    if isinstance(grad_norm, Tensor) and not grad_norm.is_cpu:
        elsewhere = [(grad_norm, 1.0 / size)]
    elif grad_norm is not None:
        host_squares = float(grad_norm) ** 2 / size
    # Each summand has three numbers: loss, squares of gradients, squares of what the last update left behind.
    weight = 1.0 / (max(len(losses), 1) * size)
    state_squares = 0.0 if unread.state is None else unread.state[1]
    host_loss = sum(float(loss) for loss in losses if loss.is_cpu) * weight
    summands = [torch.tensor([host_loss, host_squares, state_squares], dtype=torch.float64)]
    summands += [_at(0, loss * weight) for loss in losses if not loss.is_cpu]
    summands += [_at(1, part) for part in _device_squares(elsewhere)]
    if unread.state is not None and unread.state[2] is not None:
        summands.append(_at(2, unread.state[2].square()))
    own = [scale if isinstance(scale, Tensor) else torch.tensor(float(scale))]
    if unread.ratio is not None:
        own.append(unread.ratio[1])
    loss_sum, squares_sum, state_sum, scale_value, *ratios = _transfer(summands, own, rank_group)
    numbers = StepNumbers(loss_sum if losses else None, squares_sum, scale_value, state_sum)
    return numbers, ratios[0] if ratios else None


def _split_gradients(
    parameters: Sequence[NamedParameter], shares: Mapping[int, float]
) -> tuple[float, list[tuple[Tensor, float]]]:
    """The sum of squares of gradients in host memory, and the other gradients with their shares."""
    total = 0.0
    elsewhere: list[tuple[Tensor, float]] = []
    for parameter in parameters:
        gradient = parameter.tensor.grad
        if gradient is not None:
            share = shares.get(id(parameter.tensor), 1.0)
            if gradient.is_cpu:
                total += squares(gradient) * share
            else:
                elsewhere.append((gradient, share))
    return total, elsewhere


def _device_squares(gradients: Sequence[tuple[Tensor, float]]) -> Iterator[Tensor]:
    for share in {share for _, share in gradients}:
        norm = total_norm([gradient for gradient, own_share in gradients if own_share == share])
        yield norm.square() * share


def _transfer(summands: Sequence[Tensor], own: Sequence[Tensor], rank_group: RankGroup | None) -> list[float]:
    """The sum of ``summands`` over all ranks, followed by this rank's ``own`` scalars."""
    home = next((t.device for t in [*own, *summands] if not t.is_cpu), torch.device("cpu"))
    dtype = torch.float32 if home.type == "mps" else torch.float64
    reduced = torch.stack([part.to(home, dtype, non_blocking=True) for part in summands]).sum(0)
    if rank_group is not None:
        reduced = rank_group.add(reduced)
    rest = torch.stack([part.reshape(()).to(reduced.device, dtype, non_blocking=True) for part in own])
    values: list[float] = torch.cat([reduced, rest]).tolist()
    return values


def _at(position: int, value: Tensor) -> Tensor:
    """A scalar at its position among the three numbers of a summand."""
    value = value.detach().reshape(()).float()
    zero = torch.zeros_like(value)
    return torch.stack([value if position == other else zero for other in range(3)])
