"""Leaving no trace: what a replay changes is put back, whatever happens in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Restorer", "force_eager", "isolated_gradients", "leaves_of"]


class Restorer:
    """Random number generators and module buffers as they were when this was made."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        self._buffers = [
            (buffer, buffer.detach().clone())
            for module in modules
            for buffer in module.buffers()
            if buffer.layout is torch.strided
        ]

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        with torch.no_grad():
            for buffer, value in self._buffers:
                if buffer.shape == value.shape:
                    buffer.copy_(value)


@contextmanager
def force_eager() -> Iterator[None]:
    """Run compiled modules and functions as they were written: a dispatch mode sees through nothing that is compiled."""
    with torch.compiler.set_stance("force_eager"):
        yield


def leaves_of(loss: torch.Tensor) -> list[torch.Tensor]:
    """The leaf tensors that a loss has a gradient with respect to, each once."""
    found: dict[int, torch.Tensor] = {}
    seen: set[Any] = set()
    todo = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.setdefault(id(variable), variable)
        todo.extend(following for following, _ in node.next_functions)
    if loss.grad_fn is None and loss.requires_grad:
        found[id(loss)] = loss
    return list(found.values())


@contextmanager
def isolated_gradients(leaves: Iterable[torch.Tensor]) -> Iterator[None]:
    """Empty gradients for a while, and no hooks on accumulation: one of them may step an optimizer."""
    saved: list[tuple[torch.Tensor, torch.Tensor | None, dict[Any, Any]]] = []
    for leaf in leaves:
        hooks = getattr(leaf, "_post_accumulate_grad_hooks", None)
        saved.append((leaf, leaf.grad, dict(hooks or {})))
        leaf.grad = None
        if hooks:
            # The graph keeps the dictionary that it saw, so it is emptied and not replaced.
            hooks.clear()
    try:
        yield
    finally:
        for leaf, gradient, kept in saved:
            leaf.grad = gradient
            if kept:
                leaf._post_accumulate_grad_hooks.update(kept)
