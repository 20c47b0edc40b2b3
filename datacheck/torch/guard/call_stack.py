"""The functions that run at a call that the guard sees: their code, their position in it, and their variables."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, NamedTuple

from torch import Tensor, nn

from datacheck.torch.diagnosis.frames import kind_of

__all__ = [
    "GRAPH",
    "Frame",
    "Graph",
    "Place",
    "Position",
    "frames_above",
    "frames_of_error",
    "holds_graph",
    "place_of",
    "position_of",
]

#: Calls, innermost first: the identity of the calling function's code and the offset of the call in it.
Place = tuple[tuple[int, int], ...]
#: The most frames that are looked at from a call upwards, and those of user and library code that are kept.
MAX_FRAMES = 32
MAX_KEPT = 8
#: Containers with more items are not searched for tensors with a graph: datasets.
MAX_ITEMS = 64

#: Types of which it is remembered what their values may be.
MAX_KINDS = 4096

#: Bytes up to which the values of a variable that holds a graph are kept: states that a loop carries on.
MAX_DETACHED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Graph:
    """Stands for the value of a variable that holds a graph: it is not kept, since it would keep the graph's memory.

    ``value`` is the same without a graph, where it is small.
    """

    value: Any = None


GRAPH = Graph()


class Position(NamedTuple):
    """A place in source code, as of the code objects of Python: lines from 1, columns in bytes from 0."""

    line: int
    end_line: int
    column: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A function that runs: its code, the offset of the call that it is at, and its variables.

    A variable that holds a graph is :class:`Graph`. ``is_past`` says that the variables are from an earlier moment than the
    call.
    """

    code: CodeType
    offset: int
    names: Mapping[str, Any]
    globals: Mapping[str, Any]
    is_past: bool = False

    @property
    def position(self) -> Position | None:
        """The source of the call."""
        return position_of(self.code, self.offset)


def position_of(code: CodeType, offset: int) -> Position | None:
    """The source of an instruction; None where it was not compiled with positions."""
    for number, found in enumerate(code.co_positions()):
        if number == offset // 2:
            line, end_line, column, end_column = found
            if line is None:
                return None
            return Position(line, end_line or line, column or 0, end_column or 0)
    return None


def place_of(frame: FrameType | None) -> Place:
    """The place in the program that a frame is at, with all calls that led there."""
    place: list[tuple[int, int]] = []
    while frame is not None and len(place) < MAX_FRAMES:
        place.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return tuple(place)


def frames_above(
    frame: FrameType | None, outside: Container[tuple[int, int]] = (), *, small: bool = False
) -> tuple[Frame, ...]:
    """A frame and those above it that are not torch's or Python's own, innermost first.

    The first that is still at one of the calls ``outside`` ends them. ``small`` values are kept without their graph.
    """
    kept: list[Frame] = []
    for _ in range(MAX_FRAMES):
        if frame is None or len(kept) == MAX_KEPT:
            break
        if kind_of(frame.f_code.co_filename) != "internal":
            if (id(frame.f_code), frame.f_lasti) in outside:
                break
            kept.append(_frame(frame, frame.f_lasti, small=small))
        frame = frame.f_back
    return tuple(kept)


def frames_of_error(error: BaseException) -> tuple[Frame, ...]:
    """The same for the functions that an error went through."""
    passed = []
    entry = error.__traceback__
    while entry is not None:
        if kind_of(entry.tb_frame.f_code.co_filename) != "internal":
            passed.append(_frame(entry.tb_frame, entry.tb_lasti))
        entry = entry.tb_next
    return tuple(passed[: -MAX_KEPT - 1 : -1])


def _frame(frame: FrameType, offset: int, *, small: bool = False) -> Frame:
    names = dict(frame.f_locals)
    for name, value in names.items():
        if holds_graph(value):
            names[name] = _graph_of(value) if small else GRAPH
    return Frame(frame.f_code, offset, names, frame.f_globals)


def _graph_of(value: Any) -> Graph:
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, Tensor) and part.numel() * part.itemsize <= MAX_DETACHED_BYTES for part in parts):
        return GRAPH
    detached = tuple(part.detach() for part in parts)
    return Graph(detached if type(value) is tuple else detached[0])


#: What the values of a type may be: a tensor, a mapping, a sequence, an object with fields; or nothing that has a graph.
_kinds: dict[type, str] = {}


def _kind(of: type) -> str:
    known = _kinds.get(of)
    if known is None:
        known = ""
        if issubclass(of, Tensor):
            known = "tensor"
        elif issubclass(of, Mapping):
            known = "mapping"
        elif issubclass(of, (list, tuple, set)):
            known = "sequence"
        elif hasattr(of, "__dataclass_fields__") and not issubclass(of, (type, nn.Module)):
            known = "fields"
        if len(_kinds) < MAX_KINDS:
            _kinds[of] = known
    return known


def holds_graph(value: Any, depth: int = 2) -> bool:
    """Whether a value is, or is built of, tensors with a graph."""
    kind = _kind(type(value))
    if not kind:
        return False
    if kind == "tensor":
        return value.grad_fn is not None
    parts = value
    if kind == "mapping":
        parts = value.values()
    elif kind == "fields":
        parts = getattr(value, "__dict__", {}).values()
    return depth > 0 and len(parts) <= MAX_ITEMS and any(holds_graph(part, depth - 1) for part in parts)
