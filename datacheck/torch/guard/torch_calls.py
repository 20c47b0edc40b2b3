"""Sees the calls of torch that every training loop makes: to compute gradients, to a GradScaler, to fetch batches.

``Tensor.backward`` calls ``torch.autograd.backward``, and ``torch.func.grad`` what ``torch.autograd.grad`` calls, so replacing
two functions shows all four. They, the methods of GradScaler and what fetches the batches of a DataLoader are replaced while
an observer is added, and put back when the last one is removed. While a step is replayed, the same calls end or change the
replay instead: see :class:`ReplayedCalls`.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from datacheck.torch._compat import (
    as_leaf,
    current_graph_task_id,
    functional_gradient,
    gradient_function,
    loader_iterator_class,
    untransformed,
)
from datacheck.torch.structure import map_structure

Scaler = torch.amp.GradScaler


class CallObserver(Protocol):
    """What an observer is told about the calls."""

    def before_backward(self, tensors: tuple[Tensor, ...], frame: FrameType) -> None:
        """Backward is called with these tensors, from this frame."""

    def owns(self, inputs: tuple[Tensor, ...]) -> bool:
        """Whether some of these are parameters that the observer watches, not copies of them."""

    def before_grad(
        self, outputs: tuple[Tensor, ...], inputs: tuple[Tensor, ...], frame: FrameType, *, keeps_graph: bool
    ) -> bool:
        """Gradients of these outputs with respect to ``inputs`` are computed and returned, for this frame.

        ``keeps_graph``: another loss may be computed from them. Returns whether to call :meth:`after_grad`.
        """

    def after_backward(self) -> None:
        """Backward has returned."""

    def after_grad(self, inputs: tuple[Tensor, ...], gradients: Sequence[Tensor | None]) -> None:
        """The gradients of ``inputs`` are returned; None for those that the outputs do not depend on."""

    def after_fetch(self, batch: Any) -> None:
        """A DataLoader has given a batch."""

    def after_scale(self, scaler: Scaler, unscaled: Tensor, scaled: Tensor) -> None:
        """A loss was scaled."""

    def before_scaler_step(self, scaler: Scaler, optimizer: Optimizer) -> None:
        """A scaler is about to step an optimizer."""

    def after_scaler_step(self, scaler: Scaler, optimizer: Optimizer) -> None:
        """It has stepped it, or has left that out."""

    def after_scaler_update(self, scaler: Scaler) -> None:
        """A scaler has adjusted its scale."""


class ReplayedCalls(Protocol):
    """What the same calls do in a replay."""

    #: Whether scaling a loss leaves it as it is.
    is_unscaled: bool
    #: Whether backward runs: else :meth:`on_backward` takes its place.
    runs_backward: bool
    #: Whether the next call may be the one that ends the replay.
    may_end: bool

    def on_backward(self, tensors: tuple[Tensor, ...], frame: FrameType) -> None:
        """In the place of backward, and before gradients are computed and returned."""


class _Replays(threading.local):
    """The replay that runs on this thread."""

    current: ReplayedCalls | None = None


_replays = _Replays()
#: The replays of all threads.
_num_replays = 0
_lock = threading.Lock()
#: Observers are held by the hooks of what they watch, and go with it.
_observers: list[weakref.ref[CallObserver]] = []
#: What puts each replaced function back; false where other code has replaced it since.
_restorers: dict[str, Callable[[], bool]] = {}


def add_observer(observer: CallObserver) -> None:
    """Tell an observer of every call from now on."""
    with _lock:
        if any(known() is observer for known in _observers):
            return
        _observers.append(weakref.ref(observer))
        _install()


def remove_observer(observer: CallObserver) -> None:
    """Stop telling it. With the last one, torch is as it was."""
    with _lock:
        _observers[:] = [known for known in _observers if known() is not observer]
        _uninstall_if_unused()


def _present() -> list[CallObserver]:
    """The observers that are still there. The first call after the last one was collected puts torch back as it was.

    A finalizer, which may run while its own thread holds any lock, takes none.
    """
    present = [observer for known in _observers if (observer := known()) is not None]
    if not present and _restorers:
        with _lock:
            _uninstall_if_unused()
    return present


@contextmanager
def during_replay(calls: ReplayedCalls) -> Iterator[None]:
    """Let the calls of this thread go to a replay."""
    global _num_replays
    before, _replays.current = _replays.current, calls
    functional = functional_gradient()
    with _lock:
        _num_replays += 1
        _install()
        if functional is not None:
            _replace(*functional, _make_functional_grad)
    try:
        yield
    finally:
        _replays.current = before
        with _lock:
            _num_replays -= 1
            _uninstall_if_unused()


def _install() -> None:
    _replace(torch.autograd, "backward", _make_backward)
    computes = gradient_function()
    if computes is not None:
        _replace(*computes, _make_grad)
    _replace(loader_iterator_class(), "__next__", _make_fetch)
    _replace(Scaler, "scale", _make_scale)
    _replace(Scaler, "unscale_", _make_left_out_in_replays)
    _replace(Scaler, "step", _make_scaler_step)
    _replace(Scaler, "update", _make_scaler_update)


def _uninstall_if_unused() -> None:
    _observers[:] = [known for known in _observers if known() is not None]
    if not _observers and not _num_replays:
        # What other code has replaced since stays, and calls no observer.
        for name, restore in list(_restorers.items()):
            if restore():
                del _restorers[name]


def _replace(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    if name in _restorers:
        return
    original = vars(owner)[name]
    replacement = wraps(original)(make(original))
    setattr(owner, name, replacement)

    def restore() -> bool:
        if vars(owner).get(name) is not replacement:
            return False
        setattr(owner, name, original)
        return True

    _restorers[name] = restore


def _tensors(value: Any) -> tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        return (value,)
    return tuple(part for part in value if isinstance(part, Tensor)) if isinstance(value, (list, tuple)) else ()


def _losses(tensors: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
    """What backward starts from; of the losses of single samples, their sum by the weights that it is called with."""
    given = (tensors,) if type(tensors) is Tensor else _tensors(tensors)
    if all(tensor.dim() != 1 for tensor in given):
        return given
    weights = args[0] if args else kwargs.get("grad_tensors")
    weights = weights if isinstance(weights, (list, tuple)) else (weights,)
    pairs = zip(given, weights, strict=False)
    weighted = tuple(
        torch.where(weight != 0, tensor * weight, 0).sum()
        if isinstance(weight, Tensor) and tensor.dim() == 1 and tensor.shape == weight.shape
        else tensor
        for tensor, weight in pairs
    )
    return weighted if len(weighted) == len(given) else given


def _make_backward(original: Callable[..., Any]) -> Callable[..., Any]:
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return uncompiled(tensors, *args, **kwargs)
        # In a backward pass, reentrant activation checkpointing runs another one.
        if current_graph_task_id() != -1:
            return original(tensors, *args, **kwargs)
        replay = _replays.current
        if replay is not None and replay.runs_backward:
            return original(tensors, *args, **kwargs)
        if replay is not None:
            return replay.on_backward(_losses(tensors, args, kwargs), sys._getframe(1))
        observers = _present()
        if not observers:
            # Somebody else had replaced this function when the last observer left, and has put it back since.
            with _lock:
                _uninstall_if_unused()
        given = _losses(tensors, args, kwargs)
        frame = sys._getframe(1)
        for observer in observers:
            observer.before_backward(given, frame)
        result = original(tensors, *args, **kwargs)
        for observer in observers:
            observer.after_backward()
        return result

    # Of a step that is compiled whole, it would be a part and see nothing. Before anything was compiled, this imports a lot.
    uncompiled = original
    if "torch._dynamo" in sys.modules:
        uncompiled = torch.compiler.disable(backward)  # type: ignore[no-untyped-call]
    return backward


def _make_grad(original: Callable[..., Any]) -> Callable[..., Any]:
    def grad(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Called for backward, too, and by what runs in a backward pass.
        is_other = kwargs.get("accumulate_grad", True) or len(args) < 4 or current_graph_task_id() != -1
        if is_other or torch.compiler.is_compiling():
            return original(outputs, *args, **kwargs)
        given, frame = _tensors(outputs), sys._getframe(1)
        if _replays.current is not None:
            _replays.current.on_backward(given, frame)
            return original(outputs, *args, **kwargs)
        observers = _present()
        inputs, keeps_graph = _tensors(args[3]), bool(args[2])
        # What one guard watches is no copy of what another one does, though it may have the same shapes.
        observers = [one for one in observers if one.owns(inputs)] or observers
        concerned = [one for one in observers if one.before_grad(given, inputs, frame, keeps_graph=keeps_graph)]
        result = original(outputs, *args, **kwargs)
        for observer in concerned:
            observer.after_grad(inputs, result)
        return result

    return grad


def _make_functional_grad(original: Callable[..., Any]) -> Callable[..., Any]:
    """For ``torch.func.grad``: in a replay, the loss is computed without the transform, of which nothing would be left."""

    def grad(function: Any, argnums: Any, has_aux: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        replay = _replays.current
        if replay is not None and replay.may_end:
            chosen = {number % len(args) for number in (argnums if isinstance(argnums, tuple) else (argnums,))}
            with torch.enable_grad():
                given = [_as_leaves(arg) if number in chosen else arg for number, arg in enumerate(args)]
                loss = function(*given, **kwargs)
            loss = loss[0] if has_aux else loss
            replay.on_backward((untransformed(loss),), sys._getframe(1))
        return original(function, argnums, has_aux, args, kwargs)

    return grad


def _as_leaves(value: Any) -> Any:
    return map_structure(value, lambda leaf: as_leaf(leaf) if isinstance(leaf, Tensor) else leaf)


def _make_fetch(original: Callable[..., Any]) -> Callable[..., Any]:
    def fetch(self: Any) -> Any:
        batch = original(self)
        for observer in _present():
            observer.after_fetch(batch)
        return batch

    return fetch


def _make_scale(original: Callable[..., Any]) -> Callable[..., Any]:
    def scale(self: Scaler, outputs: Any) -> Any:
        if _replays.current is not None and _replays.current.is_unscaled:
            return outputs
        scaled = original(self, outputs)
        if _replays.current is None and isinstance(outputs, Tensor) and scaled is not outputs:
            for observer in _present():
                observer.after_scale(self, outputs, scaled)
        return scaled

    return scale


def _make_left_out_in_replays(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Scaler, *args: Any, **kwargs: Any) -> Any:
        return None if _replays.current is not None else original(self, *args, **kwargs)

    return call


def _make_scaler_step(original: Callable[..., Any]) -> Callable[..., Any]:
    def step(self: Scaler, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if _replays.current is not None:
            return None
        observers = _present() if self.is_enabled() else []
        for observer in observers:
            observer.before_scaler_step(self, optimizer)
        result = original(self, optimizer, *args, **kwargs)
        for observer in observers:
            observer.after_scaler_step(self, optimizer)
        return result

    return step


def _make_scaler_update(original: Callable[..., Any]) -> Callable[..., Any]:
    def update(self: Scaler, *args: Any, **kwargs: Any) -> Any:
        if _replays.current is not None:
            return None
        result = original(self, *args, **kwargs)
        if self.is_enabled():
            for observer in _present():
                observer.after_scaler_update(self)
        return result

    return update
