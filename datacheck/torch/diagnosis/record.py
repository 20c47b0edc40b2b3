"""What is remembered of an operation: who called it, what it read, what it wrote, and what of that was not finite."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from datacheck.torch.diagnosis.frames import Whereabouts
    from datacheck.torch.diagnosis.tensors import Geometry

__all__ = ["Held", "NodeRef", "Operation", "Slot", "Tape", "Written"]

#: Levels of nested transforms whose nodes are looked at for one operation.
MAX_LEVELS = 4


class Held:
    """A tensor that is kept as it was, also where its memory is written again: see :meth:`detach_from`."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def detach_from(self) -> None:
        """Take a copy, because the memory is about to change."""
        self.tensor = self.tensor.clone()


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor that an operation read.

    ``writer`` is the index of the operation that last wrote its storage, None where that was before the replay.
    ``held`` is kept only for operations whose output is not finite; where there was no room for it, ``first_bad`` is the
    flat position of its first value that is not finite.
    """

    geometry: Geometry
    dtype: torch.dtype
    writer: int | None
    is_bad: bool = False
    held: Held | None = None
    first_bad: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """One tensor that an operation wrote and that is not finite.

    ``output`` is its place among the outputs, or ``-1 - n`` for the n-th argument that was mutated.
    """

    output: int
    geometry: Geometry
    dtype: torch.dtype
    num_bad: int
    held: Held | None


@dataclass(frozen=True, slots=True)
class NodeRef:
    """The node of the autograd graph that an operation ran for. ``owner`` is a custom Function's class."""

    name: str
    sequence: int
    owner: type | None = None


@dataclass(slots=True, eq=False)
class Operation:
    """One operation.

    ``args`` and ``kwargs`` hold a :class:`SlotRef` where the operation was given a tensor. ``mutated`` are the slots that
    it writes. ``is_opaque`` says that a tensor among them is not dense, so that the arguments cannot be made again.
    ``lost_epsilon`` is a number among them that the dtype of the output rounds to 0.
    """

    index: int
    func: Any
    name: str
    where: Whereabouts
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    slots: list[Slot]
    node: NodeRef | None = None
    sequence: int = -1
    in_backward: bool = False
    is_constant: bool = False
    is_opaque: bool = False
    mutated: tuple[int, ...] = ()
    lost_epsilon: float | None = None
    written: list[Written] = field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        return bool(self.written)

    @property
    def is_custom(self) -> bool:
        """Whether it ran in the backward of the user's own autograd Function."""
        node = self.node
        if node is None or node.owner is None or self.where.code is None:
            return False
        return not node.owner.__module__.startswith("torch.")

    @property
    def bad_slots(self) -> list[int]:
        return [number for number, slot in enumerate(self.slots) if slot.is_bad]

    @property
    def scalars(self) -> list[float]:
        """The numbers among the arguments, in order; booleans are none."""
        found: list[float] = []
        for value in (*self.args, *self.kwargs.values()):
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.append(float(value))
        return found


@dataclass(frozen=True, slots=True)
class SlotRef:
    """Stands in recorded arguments for the tensor of a slot."""

    number: int


@dataclass(slots=True)
class Tape:
    """Everything that a replay left: its operations, and who wrote what is not finite where."""

    operations: list[Operation] = field(default_factory=list)
    #: For each storage the writes that left something not finite, in order: operation index, place in ``written``.
    writes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    #: Forward operations by the sequence number of their autograd node, oldest first.
    by_sequence: dict[int, list[int]] = field(default_factory=dict)
    #: Storages that hold a bad value stay alive, so that an address means one thing.
    kept: list[Any] = field(default_factory=list)
    last_in_model: int | None = None

    def writer_of(self, key: int, address: int, before: int) -> tuple[Operation, Written, int] | None:
        """The last operation before index ``before`` that left a bad value at an address, and the position there."""
        for index, number in reversed(self.writes.get(key, ())):
            if index >= before:
                continue
            operation = self.operations[index]
            written = operation.written[number]
            position = written.geometry.position(address)
            if position is not None:
                return operation, written, position
        return None

    def reaches_model(self, operation: Operation) -> bool:
        """Whether what an operation wrote was read inside the model later."""
        touched = {operation.index}
        for later in self.operations[operation.index + 1 : self._last_in_model() + 1]:
            if any(slot.writer in touched for slot in later.slots):
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
        """The forward operation that a node of the graph is the derivative of."""
        candidates = self.by_sequence.get(node.sequence, ())
        for index in reversed(candidates):
            if _is_derivative(node, self.operations[index]):
                return self.operations[index]
        if candidates:
            return self.operations[candidates[-1]]
        # Under nested transforms (vmap, grad) an operation has a node on every level, numbered one after the other.
        for sequence in range(node.sequence + 1, node.sequence + MAX_LEVELS):
            for index in reversed(self.by_sequence.get(sequence, ())):
                if _is_derivative(node, self.operations[index]):
                    return self.operations[index]
        return None


def _is_derivative(node: NodeRef, operation: Operation) -> bool:
    """Whether a node's name (``LogSoftmaxBackward0``) fits an operation's (``aten._log_softmax.default``).

    Sequence numbers are counted in each thread, so that after recomputation on another thread two may agree.
    """
    family = operation.name.split(".")[1] if "." in operation.name else operation.name
    return family.strip("_").replace("_", "").lower() in node.name.lower()
