"""Finds the line of Python that computed a bad value outside torch, in NumPy for instance."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datacheck.torch.diagnosis.fixes.source import REPLAYED
from datacheck.torch.diagnosis.frames import CodeLocation, SourceLine, kind_of, locate
from datacheck.torch.diagnosis.recorded_replay import reproduces
from datacheck.torch.values import bad_positions, is_comparable, is_finite

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.frames import ModuleNames


#: Larger arrays are not checked after every line.
MAX_VALUES = 1 << 22
#: Items of a tuple or list that are checked.
MAX_ITEMS = 16


def find_line_in_method(context: Context, owner: type, method: str) -> CodeLocation | None:
    """The line of a method after which a local variable was first non-finite."""
    code = getattr(getattr(owner, method, None), "__code__", None)
    return None if code is None else _watch(context, lambda current: current is code, _is_bad)


def find_line_that_made(context: Context, values: torch.Tensor) -> CodeLocation | None:
    """The first line of the user's code after which a local array had the size and the bad positions of ``values``."""
    bad = bad_positions(values)

    def is_match(value: object) -> bool:
        if not isinstance(value, np.ndarray) or value.size != values.numel() or not _is_bad(value):
            return False
        return np.array_equal(np.flatnonzero(~np.isfinite(value)), bad)

    return _watch(context, lambda current: kind_of(current.co_filename) == "user", is_match)


def find_line_that_changed(context: Context, tensor: torch.Tensor) -> CodeLocation | None:
    """The first line of the user's code after which a tensor that was finite before the step is not."""
    return _watch(context, lambda current: kind_of(current.co_filename) == "user", lambda _: not is_finite(tensor))


def _watch(
    context: Context, is_watched: Callable[[CodeType], bool], is_match: Callable[[object], bool]
) -> CodeLocation | None:
    watch = _LineWatch(context.names, is_watched, is_match)
    context.restorer.restore()
    before = sys.gettrace()
    sys.settrace(watch.enter)
    try:
        reproduces(context.replay, context.in_gradient, context.scale)
    finally:
        sys.settrace(before)
    return watch.found


class _LineWatch:
    """A trace function that checks the local variables of watched functions after every line."""

    def __init__(
        self, names: ModuleNames, is_watched: Callable[[CodeType], bool], is_match: Callable[[object], bool]
    ) -> None:
        self.found: CodeLocation | None = None
        self._names = names
        self._is_watched = is_watched
        self._is_match = is_match

    def enter(self, frame: FrameType, _event: str, _argument: Any, /) -> Callable[[FrameType, str, Any], Any] | None:
        """Called on entry to every function; follows the lines of watched ones."""
        if self.found is not None or not self._is_watched(frame.f_code):
            return None
        given = {id(value) for value in _variables(frame) if self._holds(value)}
        last = before = frame.f_lineno

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last, before
            if self.found is not None:
                return None
            values = [value for value in _variables(frame) if id(value) not in given]
            if event == "return":
                values.append(argument)
            if event in ("line", "return") and any(self._holds(value) for value in values):
                where = locate(self._names, reproduces.__code__, False, frame)
                line = SourceLine(frame.f_code.co_filename, last, frame.f_code.co_name)
                if event == "return" and (line.source or "").startswith("with "):
                    # What a block returns is made before the block is left, which counts as its first line again.
                    line = replace(line, lineno=before)
                self.found = replace(where, line=line, code=frame.f_code)
                return None
            last, before = frame.f_lineno, last
            return step

        return step

    def _holds(self, value: object) -> bool:
        items = value[:MAX_ITEMS] if isinstance(value, list | tuple) else [value]
        return any(self._is_match(item) for item in items)


def _variables(frame: FrameType) -> list[object]:
    """The variables of a function; code of a loop that runs again keeps those that it assigns as globals."""
    code, names = frame.f_code, frame.f_globals
    if code.co_name != REPLAYED:
        return list(frame.f_locals.values())
    return [names[name] for name in code.co_names if name in names]


def _is_bad(value: object) -> bool:
    if isinstance(value, float | np.floating):
        return not math.isfinite(value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fc" and value.size <= MAX_VALUES and not np.isfinite(value).all()
    if isinstance(value, torch.Tensor):
        return is_comparable(value) and value.numel() <= MAX_VALUES and not is_finite(value)
    return False
