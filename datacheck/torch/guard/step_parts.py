"""The parts of a step (micro-batches, or calls of the model), kept so that they can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from datacheck.torch._compat import is_transformed
from datacheck.torch.guard.batch_values import KeptBatch
from datacheck.torch.guard.call_stack import Frame
from datacheck.torch.guard.names import unwrap_model
from datacheck.torch.replay_state import RandomState
from datacheck.torch.structure import map_structure, tensors_in

#: ``loss_fn(model, batch)`` returns the loss.
LossFunction = Callable[[Any, Any], Tensor]


class Part(NamedTuple):
    """One micro-batch of ``Guard.step``, or one call of the model in the user's own loop.

    ``random`` holds the random states at its start, and ``weight`` is what the loss is multiplied by before backward. Where
    ``is_whole`` is false, ``loss_fn`` is not the user's: it calls the model (or, in a collection of models, its part
    ``root``) with the captured ``(args, kwargs)`` and reduces the outputs to a loss. ``frames`` are then the functions that
    ran at that call, and ``module`` the identity of what was called. ``kept`` is the batch as it was at its start.
    """

    loss_fn: LossFunction
    batch: Any
    random: RandomState
    is_whole: bool = True
    root: str = ""
    frames: tuple[Frame, ...] = ()
    module: int = 0
    weight: float = 1.0
    kept: KeptBatch | None = None

    @property
    def inputs(self) -> Any:
        """What the model was called with, where the part is a call: its only argument, or all by position and name."""
        args, kwargs = self.batch if self.kept is None else self.kept.restored()
        return args[0] if len(args) == 1 and not kwargs else {**dict(enumerate(args)), **kwargs}


def detach_all(value: Any) -> Any:
    """The same structure, with tensors detached from their graph."""
    # Called at every forward pass, mostly with tensors.
    return _detach(value) if isinstance(value, Tensor) else map_structure(value, _detach)


def _detach(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
        return leaf.detach().requires_grad_(leaf.requires_grad)
    return leaf


def probe_part(
    root: str,
    batch: tuple[tuple[Any, ...], dict[str, Any]],
    random: RandomState,
    frames: tuple[Frame, ...] = (),
    module: int = 0,
) -> Part:
    """One call of the model, or of its part ``root``."""

    def loss_fn(model: nn.Module, batch: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
        return _probe_loss(unwrap_model(model.get_submodule(root)), batch)

    return Part(loss_fn, batch, random, is_whole=False, root=root, frames=frames, module=module)


def restore_captured(now: Any, then: Any) -> Any:
    """The arguments of a repeated call: the captured ones, except for tensors that must keep their graph."""
    if isinstance(now, Tensor) and isinstance(then, Tensor):
        if is_transformed(now) or is_transformed(then):
            # A wrapper of a vmap or a grad that has ended.
            return now
        has_graph = now.grad_fn is not None and then.requires_grad
        return now if has_graph or are_equal(now, then) else then
    if isinstance(now, dict) and isinstance(then, dict) and now.keys() == then.keys():
        return {key: restore_captured(now[key], then[key]) for key in now}
    if type(now) in (list, tuple) and type(now) is type(then) and len(now) == len(then):
        return type(now)(restore_captured(*pair) for pair in zip(now, then, strict=True))
    return now


def are_equal(now: Tensor, then: Tensor) -> bool:
    """Whether two tensors are equal bit for bit. Then the recomputed one is the better choice: it knows its origin."""
    if now.shape != then.shape or now.dtype is not then.dtype or now.layout is not torch.strided:
        return False
    if now.data_ptr() == then.data_ptr():
        return True
    first, second = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (now, then))
    return torch.equal(first, second)


def _probe_loss(model: nn.Module, batch: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
    """A loss for a model whose loss code is unknown: a mean of its outputs, NaN if one of them is.

    Infinities are left out: a model may write -inf into masked logits on purpose.
    """
    args, kwargs = batch
    total: Tensor | None = None
    for output in tensors_in(model(*args, **kwargs)):
        if not output.dtype.is_floating_point or output.grad_fn is None or output.numel() == 0:
            continue
        values = output if output.isnan().any() else torch.where(output.isinf(), 0.0, output)
        # Uneven weights, since under a plain mean the gradients of a softmax or a normalized output would cancel.
        weights = torch.linspace(0.5, 1.5, values.numel(), dtype=values.dtype, device=values.device)
        part = (values * weights.reshape(values.shape)).mean().float()
        total = part if total is None else total + part
    if total is None:
        return torch.zeros((), requires_grad=True)
    return total
