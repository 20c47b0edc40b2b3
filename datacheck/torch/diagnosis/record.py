"""The trace of a replay: every operation, who called it, what it read, and which non-finite values it wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datacheck.torch.diagnosis.origin import Origin, refine

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from datacheck.torch.diagnosis.frames import CodeLocation
    from datacheck.torch.diagnosis.memory import Geometry


#: Levels of nested transforms that are searched for the node of one operation.
MAX_LEVELS = 4


def family_of(name: str) -> str:
    """``log`` for ``aten.log_.default``: without leading and trailing underscores and ``foreach``."""
    family = name.split(".")[1] if "." in name else name
    return family.strip("_").removeprefix("foreach_").strip("_")


class SavedTensor:
    """A tensor that keeps its values although its memory is overwritten later: see :meth:`detach_from`."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def detach_from(self) -> None:
        """Copy the values, since the memory is about to change."""
        self.tensor = self.tensor.clone()


@dataclass(frozen=True, slots=True)
class OpInput:
    """One tensor that an operation read.

    ``writer`` is the index of the operation that last wrote its storage, None where that was before the replay.
    ``saved`` is kept only for operations with non-finite output; where there was no room for it, ``first_bad`` is the flat
    position of its first non-finite value.
    """

    geometry: Geometry
    dtype: torch.dtype
    writer: int | None
    is_bad: bool = False
    saved: SavedTensor | None = None
    first_bad: int = 0


@dataclass(frozen=True, slots=True)
class BadWrite:
    """One tensor with non-finite values that an operation wrote.

    ``output`` is its number among the outputs, or ``-1 - n`` for the n-th mutated argument. ``origin`` says where its bad
    values come from, ``literals`` which of them are literals.
    """

    output: int
    geometry: Geometry
    dtype: torch.dtype
    num_bad: int
    saved: SavedTensor | None
    origin: Origin = Origin.COMPUTED
    literals: tuple[float, ...] = ()

    def origin_of(self, value: complex | float) -> Origin:
        """The origin of one of its bad values."""
        return refine(self.origin, value, self.literals)


@dataclass(frozen=True, slots=True)
class NodeRef:
    """The node of the autograd graph that an operation ran for. ``function`` is the class of a custom Function."""

    name: str
    sequence: int
    function: type | None = None


@dataclass(slots=True, eq=False)
class Operation:
    """One operation.

    ``args`` and ``kwargs`` hold an :class:`InputRef` in the place of each tensor. ``mutated`` are the numbers of the inputs
    that it writes. ``is_opaque`` says that a tensor among them is not dense, so that the operation cannot be run again.
    ``lost_epsilon`` is a number among them that the dtype of the output rounds to 0.
    """

    index: int
    func: Any
    name: str
    where: CodeLocation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[OpInput]
    node: NodeRef | None = None
    sequence: int = -1
    in_backward: bool = False
    is_constant: bool = False
    is_opaque: bool = False
    mutated: tuple[int, ...] = ()
    lost_epsilon: float | None = None
    written: list[BadWrite] = field(default_factory=list)

    @property
    def family(self) -> str:
        return family_of(self.name)

    @property
    def is_bad(self) -> bool:
        return bool(self.written)

    @property
    def is_custom(self) -> bool:
        """Whether it ran in the backward of the user's own autograd Function."""
        node = self.node
        if node is None or node.function is None or self.where.code is None:
            return False
        return not node.function.__module__.startswith("torch.")

    @property
    def bad_inputs(self) -> list[int]:
        return [number for number, op_input in enumerate(self.inputs) if op_input.is_bad]

    @property
    def scalars(self) -> list[float]:
        """The numbers among the arguments, in order, without booleans."""
        values = (*self.args, *self.kwargs.values())
        return [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


@dataclass(frozen=True, slots=True)
class InputRef:
    """Stands for an input tensor in recorded arguments."""

    number: int


@dataclass(slots=True)
class Trace:
    """All operations of a replay, and which of them wrote non-finite values where."""

    operations: list[Operation] = field(default_factory=list)
    #: For each storage its bad writes, in order: the operation's index, and the index in its ``written``.
    writes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    #: Forward operations by the sequence number of their autograd node, oldest first.
    by_sequence: dict[int, list[int]] = field(default_factory=dict)
    #: Storages with a bad value stay alive, so that no address is used twice.
    kept: list[Any] = field(default_factory=list)
    last_in_model: int | None = None

    def writer_of(self, key: int, address: int, before: int | None = None) -> tuple[Operation, BadWrite, int] | None:
        """The last operation (before index ``before``) that wrote a bad value at an address, and the position in its output."""
        for index, number in reversed(self.writes.get(key, ())):
            if before is not None and index >= before:
                continue
            operation = self.operations[index]
            written = operation.written[number]
            position = written.geometry.position(address)
            if position is not None:
                return operation, written, position
        return None

    def bad_writes_over(self, geometry: Geometry, before: int) -> Iterator[BadWrite]:
        """The bad writes before an operation to memory that a tensor may share."""
        for index, number in self.writes.get(geometry.key, ()):
            written = self.operations[index].written[number]
            if index < before and written.geometry.overlaps(geometry):
                yield written

    def reaches_model(self, operation: Operation) -> bool:
        """Whether the output of an operation was later read inside the model."""
        touched = {operation.index}
        for later in self.operations[operation.index + 1 : self._last_in_model() + 1]:
            if any(op_input.writer in touched for op_input in later.inputs):
                if later.where.in_model:
                    return True
                touched.add(later.index)
        return False

    def _last_in_model(self) -> int:
        if self.last_in_model is None:
            inside = (op.index for op in reversed(self.operations) if op.where.in_model and op.node is None)
            self.last_in_model = next(inside, -1)
        return self.last_in_model

    def forward_of(self, node: NodeRef) -> Operation | None:
        """The forward operation whose derivative a node of the graph computes."""
        # Under nested transforms (vmap, grad) an operation has a node on every level, numbered one after the other.
        for sequence in range(node.sequence, node.sequence + MAX_LEVELS):
            candidates = [self.operations[index] for index in reversed(self.by_sequence.get(sequence, ()))]
            found = next((operation for operation in candidates if _is_derivative(node, operation)), None)
            if found is not None:
                return found
            if candidates and sequence == node.sequence:
                return candidates[0]
        return None


def _is_derivative(node: NodeRef, operation: Operation) -> bool:
    """Whether a node's name (``LogSoftmaxBackward0``) fits an operation's (``aten._log_softmax.default``).

    Sequence numbers are counted in each thread, so that after recomputation on another thread two may agree.
    """
    family = operation.name.split(".")[1] if "." in operation.name else operation.name
    return family.strip("_").replace("_", "").lower() in node.name.lower()
