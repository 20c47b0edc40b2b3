"""Restores everything that a replay changes, whatever happens in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from datacheck.torch import _compat
from datacheck.torch.replay_state import SavedBuffers, initialized_accelerators, read_random_state, write_random_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping


#: Bytes of tensors that the program overwrites in place, and that are kept to be put back.
MAX_OVERWRITTEN_BYTES = 1 << 30
#: Attributes of modules that are put back: counters, switches, and tensors that no buffer holds.
_PLAIN = (int, float, str, type(None), torch.Tensor)


class Restorer:
    """The state that a replay may change, as it was when this was created.

    That is the state of random number generators (torch's, NumPy's and Python's global ones, and any that operations
    of the replay are given). It is also modules' buffers, plain attributes and gradients, and tensors that the
    recorder sees overwritten.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._random = read_random_state(initialized_accelerators())
        self._generators: dict[int, tuple[torch.Generator, torch.Tensor]] = {}
        self._overwritten: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._num_bytes = 0
        roots = list(modules)
        inner = [module for root in roots for module in root.modules()]
        self._buffers = SavedBuffers(inner)
        # TorchScript gives out a module's attributes, but does not let them be replaced.
        self._attributes = [
            (module, _plain_attributes(module)) for module in inner if not isinstance(module, torch.jit.ScriptModule)
        ]
        self._gradients = [(parameter, parameter.grad) for root in roots for parameter in root.parameters()]

    @property
    def has_new_gradients(self) -> bool:
        """Whether a parameter has another gradient than it had: the program has run backward itself."""
        return any(parameter.grad is not gradient for parameter, gradient in self._gradients)

    def keep_generator(self, generator: torch.Generator) -> None:
        """Remember the state of a generator of the program's own, before it is used."""
        if id(generator) not in self._generators:
            self._generators[id(generator)] = (generator, generator.get_state())

    def keep_overwritten(self, tensor: torch.Tensor, before: torch.Tensor) -> None:
        """Remember the values of a tensor from before the replay that an operation has overwritten."""
        self._num_bytes += before.numel() * before.dtype.itemsize
        if self._num_bytes <= MAX_OVERWRITTEN_BYTES:
            self._overwritten.append((tensor.detach(), before))

    def restore(self) -> None:
        write_random_state(self._random)
        for generator, state in self._generators.values():
            generator.set_state(state)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for module, attributes in self._attributes:
            for name in _plain_attributes(module).keys() - attributes.keys():
                del module.__dict__[name]
            module.__dict__.update(attributes)
        self._buffers.restore()
        with torch.no_grad():
            for tensor, before in reversed(self._overwritten):
                tensor.copy_(before)


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in module.__dict__.items() if isinstance(value, _PLAIN)}


@contextmanager
def force_eager() -> Iterator[None]:
    """Run compiled modules and functions as they were written: a dispatch mode sees through nothing that is compiled."""
    with torch.compiler.set_stance("force_eager"):
        yield


def run_backward(loss: torch.Tensor, scale: float) -> None:
    """Run backward from the loss times a scale, without torch's own search for NaN, which would raise at the first."""
    with torch.autograd.set_detect_anomaly(False):
        (loss * scale if scale != 1.0 else loss).backward()  # type: ignore[no-untyped-call]


def nodes_of(loss: torch.Tensor) -> Iterator[Any]:
    """The nodes of the autograd graph of a loss, each once."""
    seen: set[Any] = {None}
    todo: list[Any] = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            yield node
            todo.extend(following for following, _ in node.next_functions)


def leaves_of(loss: torch.Tensor) -> list[torch.Tensor]:
    """The leaf tensors that a loss has a gradient with respect to, each once."""
    if loss.grad_fn is None and loss.requires_grad:
        return [loss]
    variables = (node.variable for node in nodes_of(loss) if getattr(node, "variable", None) is not None)
    return list({id(variable): variable for variable in variables}.values())


@contextmanager
def isolated_gradients(leaves: Iterable[torch.Tensor]) -> Iterator[None]:
    """Empty gradients for a while, and no hooks on accumulation: one of them may step an optimizer."""
    saved: list[tuple[torch.Tensor, torch.Tensor | None, MutableMapping[Any, Any] | None, dict[Any, Any]]] = []
    for leaf in leaves:
        hooks = _compat.gradient_hooks(leaf)
        saved.append((leaf, leaf.grad, hooks, dict(hooks or {})))
        leaf.grad = None
        if hooks:
            # The graph keeps the dictionary that it saw, so it is emptied and not replaced.
            hooks.clear()
    try:
        yield
    finally:
        for leaf, gradient, hooks, kept in saved:
            leaf.grad = gradient
            if hooks is not None and kept:
                hooks.update(kept)
