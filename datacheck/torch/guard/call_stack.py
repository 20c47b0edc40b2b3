"""The functions that run at a call that the guard sees: their code, their position in it, and their variables."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from torch import Tensor, nn

from datacheck.torch.diagnosis.frames import kind_of
from datacheck.torch.diagnosis.program_source import Position, position_of

#: Calls, innermost first: the identity of the calling function's code and the offset of the call in it.
Place = tuple[tuple[int, int], ...]
#: A call that has not returned: the identity of the calling frame and the offset of the call in its code.
OpenCall = tuple[int, int]
#: The most frames examined from a call upwards, and the most frames of user and library code kept.
MAX_FRAMES = 32
MAX_KEPT = 8
#: Containers with more items are not searched for tensors with a graph: datasets.
MAX_ITEMS = 64

#: The most types whose kind is remembered.
MAX_KINDS = 4096

#: How torch.compile begins the name of the rest of a function, behind what it could not compile.
RESUMED = "torch_dynamo_resume_in_"

#: Bytes up to which the values of a variable that holds a graph are kept: states that a loop carries on.
MAX_DETACHED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Graph:
    """Stands for the value of a variable that holds a graph: it is not kept, since it would keep the graph's memory.

    ``value`` is the same without a graph, where it is small.
    """

    value: Any = None


GRAPH = Graph()


@dataclass(slots=True, eq=False)
class Frame:
    """A function that runs: its code, the offset of the call that it is at, and its variables.

    A variable that holds a graph is :class:`Graph`. ``is_past`` says that the variables are from an earlier moment than the
    call. ``rest`` is what torch.compile made of the rest of the function, where the call is in that. It is not frozen, since
    several are made in each step, and that would take longer.
    """

    code: CodeType
    offset: int
    names: Mapping[str, Any]
    globals: Mapping[str, Any]
    is_past: bool = False
    rest: CodeType | None = None

    @property
    def position(self) -> Position | None:
        """The source of the call."""
        return position_of(self.rest or self.code, self.offset)


def place_of(frame: FrameType | None, outside: Container[OpenCall] = ()) -> Place:
    """The place in the program that a frame is at, with all calls that led there.

    The first that is still at one of the calls ``outside`` ends them: those above it have not moved either.
    """
    place: list[tuple[int, int]] = []
    while frame is not None and len(place) < MAX_FRAMES:
        offset = frame.f_lasti
        if (id(frame), offset) in outside:
            break
        place.append((id(frame.f_code), offset))
        frame = frame.f_back
    return tuple(place)


def open_calls(frame: FrameType | None) -> frozenset[OpenCall]:
    """The calls that a program is in, from a frame upwards."""
    calls: set[OpenCall] = set()
    while frame is not None and len(calls) < MAX_FRAMES:
        calls.add((id(frame), frame.f_lasti))
        frame = frame.f_back
    return frozenset(calls)


def frames_above(
    frame: FrameType | None, outside: Container[OpenCall] = (), *, last: Container[CodeType] = (), small: bool = False
) -> tuple[Frame, ...]:
    """A frame and those above it that are not torch's or Python's own, innermost first.

    The first that is still at one of the calls ``outside`` ends them, and one of a function in ``last`` is the last. ``small``
    values are kept without their graph.
    """
    kept: list[Frame] = []
    resumed: Frame | None = None
    for _ in range(MAX_FRAMES):
        if frame is None or len(kept) == MAX_KEPT:
            break
        code, offset = frame.f_code, frame.f_lasti
        if (id(frame), offset) in outside:
            break
        if kind_of(code.co_filename) != "internal":
            one = _frame(frame, offset, small=small)
            if resumed is not None:
                # The function around it is the one that the rest is of: its variables, where the rest is.
                resumed.names = {**one.names, **resumed.names}
                if not code.co_name.startswith(RESUMED):
                    resumed.rest, resumed.code = resumed.code, code
                    kept.append(resumed)
                    resumed = None
            elif code.co_name.startswith(RESUMED):
                resumed = one
            else:
                kept.append(one)
                if code in last:
                    break
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
    variables = frame.f_locals
    if variables is frame.f_globals:
        # A script or the cell of a notebook: only what it names itself.
        names = {name: variables[name] for name in frame.f_code.co_names if name in variables}
    else:
        names = dict(variables)
    for name, value in names.items():
        # Most variables cannot hold a graph, and this runs at every step.
        if _kinds.get(type(value)) != "" and holds_graph(value):
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
    if depth > 0 and len(parts) <= MAX_ITEMS:
        for part in parts:
            if _kinds.get(type(part)) != "" and holds_graph(part, depth - 1):
                return True
    return False
