"""Restores everything that a replay changes, whatever happens in it."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer

from datacheck.torch import _compat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

__all__ = ["Restorer", "force_eager", "isolated_gradients", "leaves_of", "run_backward"]

#: Bytes of tensors that the program overwrites in place, and that are kept to be put back.
MAX_OVERWRITTEN_BYTES = 1 << 30
#: Attributes of modules that are put back: counters, switches, and tensors that no buffer holds.
_PLAIN = (int, float, str, type(None), torch.Tensor)


class Restorer:
    """The state that a replay may change, as it was when this was created.

    That is the state of random number generators (torch's, NumPy's and Python's global ones, and any that operations of
    the replay are given), modules' buffers, plain attributes and gradients, and tensors that the recorder sees overwritten.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        self._numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - the program's own generator
        self._python = random.getstate()
        self._generators: dict[int, tuple[torch.Generator, torch.Tensor]] = {}
        self._overwritten: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._num_bytes = 0
        self._modules: list[_ModuleState] = []
        self._gradients: list[tuple[nn.Parameter, torch.Tensor | None]] = []
        for root in modules:
            self._modules += [_ModuleState(module) for module in root.modules()]
            self._gradients += [(parameter, parameter.grad) for parameter in root.parameters()]

    @property
    def has_new_gradients(self) -> bool:
        """Whether a parameter has another gradient than it had: the program has run backward itself."""
        return any(parameter.grad is not gradient for parameter, gradient in self._gradients)

    def keep_generator(self, generator: torch.Generator) -> None:
        """Remember the state of a generator of the program's own, before it is used."""
        if id(generator) not in self._generators:
            self._generators[id(generator)] = (generator, generator.get_state())

    def keep_overwritten(self, tensor: torch.Tensor, before: torch.Tensor) -> None:
        """Remember what stood in a tensor that was there before the replay, and that an operation has written."""
        self._num_bytes += before.numel() * before.dtype.itemsize
        if self._num_bytes <= MAX_OVERWRITTEN_BYTES:
            self._overwritten.append((tensor.detach(), before))

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)
        for generator, state in self._generators.values():
            generator.set_state(state)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for module in self._modules:
                module.restore()
            for tensor, before in reversed(self._overwritten):
                tensor.copy_(before)


class _ModuleState:
    """The buffers and plain attributes of one module: which objects they are, and the values of buffers."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        #: Compiled to TorchScript, a module gives out its attributes, but does not let them be replaced.
        self._is_open = not isinstance(module, torch.jit.ScriptModule)
        self._buffers = dict(_compat.buffers_of(module))
        self._plain = {name: value for name, value in module.__dict__.items() if isinstance(value, _PLAIN)}
        self._values = [
            (buffer, buffer.detach().clone())
            for buffer in self._buffers.values()
            if buffer is not None and buffer.layout is torch.strided and not _is_lazy(buffer)
        ]

    def restore(self) -> None:
        if self._is_open:
            self._restore_attributes()
        for buffer, before in self._values:
            if buffer.shape == before.shape:
                buffer.copy_(before)

    def _restore_attributes(self) -> None:
        buffers = _compat.buffers_of(self._module)
        if not _same_objects(buffers, self._buffers):
            buffers.clear()
            buffers.update(self._buffers)
        attributes = self._module.__dict__
        for name in [name for name, value in attributes.items() if isinstance(value, _PLAIN)]:
            if name not in self._plain:
                del attributes[name]
        attributes.update(self._plain)


def _same_objects(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(left[name] is right[name] for name in right)


def _is_lazy(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, UninitializedBuffer)


@contextmanager
def force_eager() -> Iterator[None]:
    """Run compiled modules and functions as they were written: a dispatch mode sees through nothing that is compiled."""
    with torch.compiler.set_stance("force_eager"):
        yield


def run_backward(loss: torch.Tensor, scale: float) -> None:
    """Run backward from the loss times a scale, without torch's own search for NaN, which would raise at the first."""
    with torch.autograd.set_detect_anomaly(False):
        (loss * scale if scale != 1.0 else loss).backward()  # type: ignore[no-untyped-call]


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
