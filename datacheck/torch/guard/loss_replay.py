"""Replaying the loss of the user's own loop: after a trip, its code is found in the loop and run again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datacheck.torch._compat import is_transformed
from datacheck.torch.guard.loss_source import RESULT, find_loss_code
from datacheck.torch.structure import tensors_in

__all__ = ["CallSite", "LossReplay", "Scope", "call_sites", "find_loss_replay", "has_memory", "scope_of"]

#: A call: the code of the calling function and the offset of the call in it. Finding the line would cost more.
CallSite = tuple[CodeType, int]
#: The most frames recorded from a call of the model upwards.
MAX_FRAMES = 24

_TORCH = str(Path(torch.__file__).parent)
_OWN = str(Path(__file__).parents[2])


@dataclass(frozen=True, slots=True)
class Scope:
    """A function that runs or has run: its code, its current line, and its variables."""

    code: CodeType
    line: int
    names: Mapping[str, Any]


def call_sites() -> tuple[CallSite, ...]:
    """The calls that led here, innermost first. Those of libraries are sorted out only after a trip."""
    sites: list[CallSite] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(sites) < MAX_FRAMES:
        sites.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(sites)


def scope_of(function: Callable[..., Any]) -> Scope | None:
    """The scope of a closure that has returned: the variables that it shares with the function around it."""
    if not isinstance(function, FunctionType):
        return None
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    names = dict(function.__globals__)
    for name, cell in cells:
        try:
            names[name] = cell.cell_contents
        except ValueError:
            # Not assigned yet.
            continue
    return Scope(function.__code__, sys.maxsize, names)


def _running_scopes() -> Iterator[Scope]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith((_TORCH, _OWN)):
            yield Scope(frame.f_code, frame.f_lineno, {**frame.f_globals, **frame.f_locals})
        frame = frame.f_back


def _scopes_of(error: BaseException) -> Iterator[Scope]:
    """The functions that an error went through, innermost first; those on the stack have left the line already."""
    scopes = []
    entry = error.__traceback__
    while entry is not None:
        frame = entry.tb_frame
        if not frame.f_code.co_filename.startswith((_TORCH, _OWN)):
            scopes.append(Scope(frame.f_code, entry.tb_lineno, {**frame.f_globals, **frame.f_locals}))
        entry = entry.tb_next
    return reversed(scopes)


class LossReplay:
    """The statements that computed the loss, ready to run again.

    ``batch`` holds the tensors that they read, by name; with one name only, it is that object itself.
    """

    def __init__(self, code: CodeType, names: Mapping[str, Any], inputs: Sequence[str]) -> None:
        self._code = code
        self._names = dict(names)
        self._inputs = [name for name in sorted(inputs) if _holds_tensors(self._names.get(name))]
        held = {name: self._names[name] for name in self._inputs}
        self.batch: Any = next(iter(held.values())) if len(held) == 1 else held

    def run(self) -> Tensor:
        """Compute the loss."""
        return self._run(self._names)

    def run_on(self, batch: Any) -> Tensor:
        """Compute the loss of another batch."""
        held = {self._inputs[0]: batch} if len(self._inputs) == 1 else batch
        return self._run({**self._names, **held})

    def _run(self, names: Mapping[str, Any]) -> Tensor:
        namespace = dict(names)
        exec(self._code, namespace)  # noqa: S102 - the user's own code, from the file that it was run from
        loss: Tensor = namespace[RESULT]
        return loss

    def reads(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the code reads these tensors, so that another batch can take their place."""
        own = {tensor.data_ptr() for tensor in tensors_in(self.batch)}
        return all(has_memory(tensor) and tensor.data_ptr() in own for tensor in tensors)


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor is not one of those that functional transforms (vmap, grad) substitute."""
    return not is_transformed(tensor)


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (nn.Module, nn.Parameter)):
        return False
    if isinstance(value, np.ndarray) or (isinstance(value, Mapping) and any(map(_holds_tensors, value.values()))):
        return True
    return any(not isinstance(tensor, nn.Parameter) and tensor.grad_fn is None for tensor in tensors_in(value))


def find_loss_replay(
    calls: Sequence[Sequence[CallSite]],
    closure: Callable[..., Any] | None,
    replaced: Mapping[int, nn.Module],
    *,
    must_replace: bool,
    error: BaseException | None = None,
) -> tuple[LossReplay, int] | None:
    """The loss of the running loop, or of a ``closure``, and how many of the last ``calls`` of the model it includes.

    Each call is given by its call sites. ``replaced`` maps the identity of a model to its substitute: a distributed model
    would wait for other ranks. With ``must_replace``, code that reads no such model is not used. ``error`` is what ended
    the loop, if it has ended. Returns None if the code is not found.
    """
    inner = None if closure is None else scope_of(closure)
    scopes = _running_scopes() if error is None else _scopes_of(error)
    for scope in scopes if inner is None else (inner,):
        lines = [_line_in(scope.code, sites) for sites in calls]
        if lines and lines[-1] is None:
            continue
        first = max(len(lines) - 1, 0)
        # A call on an earlier line belongs to the same loss. Otherwise it is an earlier micro-batch.
        while first and _is_before(lines[first - 1], lines[first]):
            first -= 1
        found = find_loss_code(scope.code, lines[first] if lines else None, scope.line, scope.names)
        if found is None:
            continue
        names = {name: replaced.get(id(value), value) for name, value in scope.names.items()}
        if must_replace and not any(names[name] is not scope.names[name] for name in found.inputs if name in names):
            return None
        return LossReplay(found.code, names, sorted(found.inputs)), len(lines) - first
    return None


def _line_in(code: CodeType, sites: Sequence[CallSite]) -> int | None:
    """The line of ``code`` from which a call was made, by its innermost frame."""
    offset = next((offset for other, offset in sites if other is code), None)
    if offset is None:
        return None
    return next((line for start, end, line in code.co_lines() if start <= offset < end), None)


def _is_before(first: int | None, second: int | None) -> bool:
    return first is not None and second is not None and first < second
