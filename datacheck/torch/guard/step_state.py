"""What a step was made of, kept while it runs, so that it can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from datacheck.torch.guard.loss_replay import CallSite, has_memory
from datacheck.torch.guard.names import unwrap_model
from datacheck.torch.replay_state import RandomState
from datacheck.torch.structure import map_structure, tensors_in

__all__ = ["LossFunction", "Part", "StepState", "detach_all", "probe_loss", "probe_part", "restore_captured"]

#: ``loss_fn(model, batch)`` gives the loss.
LossFunction = Callable[[Any, Any], Tensor]
#: Parts of a step that are kept: micro-batches, or calls of the model.
MAX_PARTS = 16


class Part(NamedTuple):
    """One micro-batch, or one call of the model in a loop that the guard does not drive.

    ``random`` are the random states that it began from. Where ``is_whole`` is false, ``loss_fn`` is not the user's: it
    calls the model (or its part ``root``, of a collection of models) with the captured ``(args, kwargs)`` and makes a
    loss of whatever comes out. ``sites`` are then the places in the code that the call was made from.
    """

    loss_fn: LossFunction
    batch: Any
    random: RandomState
    is_whole: bool = True
    root: str = ""
    sites: tuple[CallSite, ...] = ()


class StepState:
    """The parts of the step that runs, and the closure that an optimizer evaluates, where it does."""

    __slots__ = ("closure", "error", "is_past", "losses", "num_left_out", "parts")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.losses: list[Tensor] = []
        self.num_left_out = 0
        self.closure: Callable[[], Any] | None = None
        #: What ended the loop in this step.
        self.error: BaseException | None = None
        #: Whether the loop has gone on: its names no longer hold what they held in the step.
        self.is_past = False

    def clear(self) -> None:
        self.closure = None
        self.error = None
        self.is_past = False
        self.parts.clear()
        self.losses.clear()
        self.num_left_out = 0

    def add(self, part: Part) -> None:
        """Keep a part; of very many, the last ones."""
        if len(self.parts) == MAX_PARTS:
            del self.parts[0]
            self.num_left_out += 1
        self.parts.append(part)


def detach_all(value: Any) -> Any:
    """The same structure with tensors that keep no graph alive."""
    return map_structure(value, _detach)


def _detach(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
        return leaf.detach().requires_grad_(leaf.requires_grad)
    return leaf


def probe_part(
    root: str, batch: tuple[tuple[Any, ...], dict[str, Any]], random: RandomState, sites: tuple[CallSite, ...] = ()
) -> Part:
    """One call of the model, or of the part of it that ``root`` names."""

    def loss_fn(model: nn.Module, batch: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
        return probe_loss(unwrap_model(model.get_submodule(root)), batch)

    return Part(loss_fn, batch, random, is_whole=False, root=root, sites=sites)


def restore_captured(now: Any, then: Any) -> Any:
    """The arguments of a call that is made again: what was captured, but for tensors that must keep their graph."""
    if isinstance(now, Tensor) and isinstance(then, Tensor):
        if not (has_memory(now) and has_memory(then)):
            # Stood in for a tensor inside a vmap or a grad that has ended.
            return now
        has_graph = now.grad_fn is not None and then.requires_grad
        return now if has_graph or _are_equal(now, then) else then
    if isinstance(now, dict) and isinstance(then, dict) and now.keys() == then.keys():
        return {key: restore_captured(now[key], then[key]) for key in now}
    if type(now) in (list, tuple) and type(now) is type(then) and len(now) == len(then):
        return type(now)(restore_captured(*pair) for pair in zip(now, then, strict=True))
    return now


def _are_equal(now: Tensor, then: Tensor) -> bool:
    """Whether two tensors are the same bit for bit: then the one that was made again tells where it came from."""
    if now.shape != then.shape or now.dtype is not then.dtype or now.layout is not torch.strided:
        return False
    if now.data_ptr() == then.data_ptr():
        return True
    first, second = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (now, then))
    return torch.equal(first, second)


def probe_loss(model: nn.Module, batch: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
    """A loss for a model whose loss code is not known: a mean of what it gives, NaN where that is NaN.

    Infinities alone are left out: a model that writes -inf into masked logits is sound.
    """
    args, kwargs = batch
    total: Tensor | None = None
    for output in tensors_in(model(*args, **kwargs)):
        if not output.dtype.is_floating_point or output.grad_fn is None or output.numel() == 0:
            continue
        values = output if output.isnan().any() else torch.where(output.isinf(), 0.0, output)
        # Uneven weights: under a plain mean the gradients of a softmax or a normalised output would cancel.
        weights = torch.linspace(0.5, 1.5, values.numel(), dtype=values.dtype, device=values.device)
        part = (values * weights.reshape(values.shape)).mean().float()
        total = part if total is None else total + part
    if total is None:
        return torch.zeros((), requires_grad=True)
    return total
