"""Which function of a library wrote a non-finite constant: what it returns outside its domain is no constant of the program.

``torch.logdet`` fills in NaN where a determinant is negative, ``HalfNormal.log_prob`` -inf below 0.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.overrides import TorchFunctionMode

from datacheck.torch.diagnosis.frames import kind_of
from datacheck.torch.diagnosis.program_source import position_of
from datacheck.torch.diagnosis.recorded_replay import reproduces
from datacheck.torch.diagnosis.root_cause import WRITTEN

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.record import Operation
    from datacheck.torch.diagnosis.root_cause import Step

#: Items of a list that are looked at.
MAX_ITEMS = 1000
#: The largest value of float16.
MAX_HALF = 65504
#: The methods by which torch calls the forward of a module.
_CALLS_FORWARD = frozenset({"Module._wrapped_call_impl", "Module._call_impl"})
#: Where torch takes a call to a function mode, and where a guard sees the calls of a model.
_OVERRIDES = sys.modules[TorchFunctionMode.__module__].__file__
_HOOKS = tuple(str(Path(__file__).parents[1] / name) for name in ("diagnosis", "guard"))


def find_library_call(context: Context, operation: Operation) -> str | None:
    """The function that wrote the constant of an operation by itself, such as ``logdet``; None where the program gave it."""
    code, offset = operation.where.code, operation.where.offset
    writes = operation.is_constant or any(written.literals for written in operation.written)
    if not writes or code is None or offset < 0 or operation.is_custom:
        return None
    watch = _CallWatch(code, offset)
    context.restorer.restore()
    with watch:
        reproduces(context.replay, context.in_gradient, context.scale)
    return None if watch.is_given else watch.name


def result_of_call(first: Step) -> Step:
    """The last step of a path that belongs to the same call in the program as the first."""
    where, last = first.operation.where, first
    for step in first.path()[1:]:
        other = step.operation.where
        if step.operation.node is not None or (other.code, other.offset) != (where.code, where.offset):
            break
        last = step
    return last


class _CallWatch(TorchFunctionMode):
    """Sees what one instruction of the program calls. ``is_given``: it gave the function a non-finite number itself."""

    def __init__(self, code: CodeType, offset: int) -> None:
        super().__init__()
        self.name: str | None = None
        self.is_given = False
        self._code = code
        self._offset = offset

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inner = self._frames_inside(sys._getframe(1), getattr(func, "__code__", None))
        if inner is not None:
            has_number = any(_has_nonfinite_number(value) for value in (*args, *kwargs.values()))
            writes = inner and WRITTEN.search(_source(inner[0])) is not None
            self.is_given = self.is_given or (has_number and not writes)
            if self.name is None or has_number:
                self.name = _name_of(inner[::-1], func)
        return func(*args, **kwargs)

    def _frames_inside(self, frame: FrameType | None, called: CodeType | None) -> list[FrameType] | None:
        """The frames of libraries between the instruction and the call, innermost first; None elsewhere."""
        inside: list[FrameType] = []
        while frame is not None:
            code = frame.f_code
            if frame.f_lasti == self._offset and code == self._code:
                return inside
            if kind_of(code.co_filename) == "user":
                return None
            is_hook = code.co_filename == _OVERRIDES or code.co_filename.startswith(_HOOKS)
            if not is_hook and not (code is called and not inside):
                inside.append(frame)
            frame = frame.f_back
        return None


def _name_of(frames: list[FrameType], func: Any) -> str:
    """The name of what the program called: of the outermost frame, or of the function of torch."""
    names = (frame.f_code.co_qualname for frame in frames)
    return next((name for name in names if name not in _CALLS_FORWARD), getattr(func, "__name__", "unknown"))


def _source(frame: FrameType) -> str:
    """The lines of the call that a function is in."""
    filename, position = frame.f_code.co_filename, position_of(frame.f_code, frame.f_lasti)
    lines = (
        range(frame.f_lineno, frame.f_lineno + 1) if position is None else range(position.line, position.end_line + 1)
    )
    return "".join(linecache.getline(filename, line) for line in lines)


def _has_nonfinite_number(value: Any) -> bool:
    """Whether a number is among arguments that is non-finite, or too large for some floating-point dtype."""
    if isinstance(value, int | float):
        return not abs(value) <= MAX_HALF
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "fc" and not bool((np.abs(value) <= MAX_HALF).all())
    if isinstance(value, Mapping):
        return _has_nonfinite_number(list(value.values()))
    return isinstance(value, list | tuple) and any(map(_has_nonfinite_number, value[:MAX_ITEMS]))
