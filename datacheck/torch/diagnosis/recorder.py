"""Records a replay: every operation, forward and backward, with what it read and wrote.

A dispatch mode sees every operation that is not compiled, also inside libraries and the backward engine. A clean
operation costs a few words. An operation with non-finite output keeps its inputs, so that it can be run again with some
of the bad values taken out.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from datacheck.torch import _compat
from datacheck.torch.diagnosis.frames import CodeLocation, ModuleNames, definition, locate
from datacheck.torch.diagnosis.memory import Geometry
from datacheck.torch.diagnosis.origin import Origin, origin_of_write
from datacheck.torch.diagnosis.record import BadWrite, InputRef, NodeRef, Operation, OpInput, SavedTensor, Trace
from datacheck.torch.structure import tensors_in
from datacheck.torch.values import bad_positions, count_bad, dense_parts, is_finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import CodeType

    from datacheck.torch.diagnosis.restore import Restorer


#: Bytes of values that are kept for running operations again. Beyond it, values are traced by tensor only.
MAX_KEPT_BYTES = 16 << 30

#: These write running statistics, which their schemas do not declare.
_UNDECLARED_WRITES = {
    "native_batch_norm": ("running_mean", "running_var"),
    "cudnn_batch_norm": ("running_mean", "running_var"),
    "miopen_batch_norm": ("running_mean", "running_var"),
}
#: Stands for the code of a function whose line was not seen running.
_MARK = (lambda: None).__code__
_UNINITIALISED = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted"})
_COMPARISONS = frozenset({"eq", "ne", "isnan", "isinf", "isposinf", "isneginf"})
_CONSTANTS = frozenset({"lift_fresh", "scalar_tensor"})


@dataclass(frozen=True, slots=True)
class _Traits:
    """What the schema of an operation declares about memory."""

    name: str
    base: str
    mutates: tuple[int | str, ...]
    is_view: bool


_traits: dict[Any, _Traits] = {}


def _traits_of(func: Any) -> _Traits:
    known = _traits.get(func)
    if known is None:
        schema = _compat.schema_of(func)
        written: list[int | str] = []
        base = schema.name.split("::")[-1]
        undeclared = _UNDECLARED_WRITES.get(base, ())
        for number, argument in enumerate(schema.arguments):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if writes or argument.name in undeclared:
                written.append(argument.name if argument.kwarg_only else number)
        aliased = [value.alias_info is not None and not value.alias_info.is_write for value in schema.returns]
        name = f"{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}"
        known = _Traits(name, base, tuple(written), bool(aliased) and all(aliased))
        _traits[func] = known
    return known


class Recorder(_compat.DispatchMode):  # type: ignore[no-untyped-call]
    """Records what runs under it in ``trace``.

    ``boundary`` is the code of the function that starts the replay; frames below it are not the program's. ``max_bytes``
    bounds what is kept. The inputs of the operations with the indices ``capture`` are kept even if they are clean.
    ``restorer`` keeps the generators that operations receive and the tensors from before the replay that they overwrite.
    """

    def __init__(
        self,
        names: ModuleNames,
        boundary: CodeType,
        max_bytes: int = MAX_KEPT_BYTES,
        capture: frozenset[int] = frozenset(),
        restorer: Restorer | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.in_backward = False
        self.last_inputs: list[torch.Tensor] = []
        #: What was compared last, and when: programs that test for NaN raise soon after.
        self.last_compared: tuple[int, list[torch.Tensor]] = (-1, [])
        #: What was converted to integers, last, with non-finite values: an index made of it is out of range.
        self.last_rounded: torch.Tensor | None = None
        self._names = names
        self._boundary = boundary
        self._max_bytes = max_bytes
        self._capture = capture
        self._restorer = restorer
        self._num_bytes = 0
        # Each device's part of a backward pass runs on a thread of its own.
        self._lock = threading.Lock()
        self._last_writer: dict[int, int] = {}
        self._holders: dict[int, list[SavedTensor]] = {}
        self._functions: dict[int, type] = {}

    @property
    def written(self) -> frozenset[int]:
        """The storages that operations of the replay wrote."""
        return frozenset(self._last_writer)

    def name_custom(self, sequence: int, function: type) -> None:
        """Remember that the graph node with this sequence number belongs to a custom Function."""
        self._functions[sequence] = function

    def note_custom(self, name: str, sequence: int, produced: list[torch.Tensor]) -> None:
        """Record bad gradients that a custom Function returned and no recorded operation wrote."""
        node = NodeRef(name, sequence, self._functions.get(sequence))
        forward = self.trace.forward_of(node)
        line = None if node.function is None else definition(node.function, "backward")
        module = None if forward is None else forward.where.module
        for number, tensor in enumerate(produced):
            if is_finite(tensor):
                continue
            geometry, position = Geometry.of(tensor), int(bad_positions(tensor)[0])
            if self.trace.writer_of(geometry.key, geometry.address(position)) is None:
                where = CodeLocation(line, module, module is not None, _MARK)
                operation = Operation(
                    len(self.trace.operations), None, f"python.{name}.default", where, (), {}, [], node
                )
                operation.in_backward, operation.is_opaque = True, True
                self.trace.operations.append(operation)
                self._note_write(operation, tensor, number)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(kind not in (torch.Tensor, torch.nn.Parameter) for kind in types):
            # A tensor subclass takes its operation apart; this mode sees the parts.
            return NotImplemented
        traits = _traits_of(func)
        if traits.is_view and not (traits.base in _CONSTANTS and _is_own_memory(args[0])):
            return func(*args, **kwargs)
        return self._run(func, traits, args, kwargs)

    def _run(self, func: Any, traits: _Traits, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs: list[torch.Tensor] = []
        refs = tuple(_replace(value, inputs) for value in args)
        named = {name: _replace(value, inputs) for name, value in kwargs.items()}
        mutated = tuple(_mutated(traits, refs, named))
        before: dict[int, torch.Tensor] = {}
        for number in mutated:
            tensor = inputs[number]
            for saved in self._holders.pop(_compat.storage_id(tensor), ()):
                saved.detach_from()
            before[number] = tensor.detach().clone()
            if self._restorer is not None and _compat.storage_id(tensor) not in self._last_writer:
                self._restorer.keep_overwritten(tensor, before[number])
        if self._restorer is not None and isinstance(kwargs.get("generator"), torch.Generator):
            self._restorer.keep_generator(kwargs["generator"])
        self.last_inputs = inputs
        result = func(*args, **kwargs)
        operation = self._remember(func, traits, refs, named)
        is_cast = traits.base == "_to_copy" and not (result.is_floating_point() or result.is_complex())
        if is_cast and not is_finite(inputs[0]):
            self.last_rounded = inputs[0]
        if traits.base in _COMPARISONS:
            self.last_compared = (operation.index, inputs)
        operation.mutated = mutated
        operation.is_opaque = _has_opaque(args) or _has_opaque(kwargs.values())
        fresh = self._note_outputs(operation, traits, result, inputs)
        look = operation.is_bad or operation.index in self._capture
        keep = look and self._may_keep(inputs)
        for number, tensor in enumerate(inputs):
            operation.inputs.append(self._op_input(tensor, before.get(number), look, keep))
        for tensor in fresh:
            self._last_writer[_compat.storage_id(tensor)] = operation.index
        return result

    def _remember(self, func: Any, traits: _Traits, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operation:
        current = _compat.current_node()
        node = None
        if current is not None:
            sequence = _compat.sequence_number(current)
            node = NodeRef(current.name(), sequence, self._functions.get(sequence))
        where = locate(self._names, self._boundary, current is not None)
        with self._lock:
            index = len(self.trace.operations)
            operation = Operation(index, func, traits.name, where, args, kwargs, [], node, in_backward=self.in_backward)
            self.trace.operations.append(operation)
        operation.is_constant = traits.base in _CONSTANTS
        if node is None or where.line is not None:
            operation.sequence = _compat.forward_sequence_number()
            self.trace.by_sequence.setdefault(operation.sequence, []).append(index)
        return operation

    def _note_outputs(
        self, operation: Operation, traits: _Traits, result: Any, inputs: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Record the non-finite tensors among the outputs, and return all outputs."""
        written: list[torch.Tensor] = []
        read = {_compat.storage_id(tensor) for tensor in inputs}
        for number, tensor in enumerate(dense_tensors_in(result)):
            # What shares memory with an input is a view of it, or the mutated argument itself.
            if _compat.storage_id(tensor) in read and not operation.is_constant:
                continue
            written.append(tensor)
            if traits.base not in _UNINITIALISED:
                self._note_write(operation, tensor, number)
        for number, input_number in enumerate(operation.mutated):
            written.append(inputs[input_number])
            self._note_write(operation, inputs[input_number], -1 - number)
        if written:
            operation.lost_epsilon = _lost_epsilon(operation, written[0].dtype)
        return written

    def _note_write(self, operation: Operation, tensor: torch.Tensor, output: int) -> None:
        """Record a written tensor if it is non-finite: output ``output``, or mutated argument ``-1 - output``."""
        if is_finite(tensor):
            return
        geometry = Geometry.of(tensor)
        saved = None
        if self._may_keep([tensor]):
            saved = SavedTensor(tensor.detach())
            self._holders.setdefault(geometry.key, []).append(saved)
            self.trace.kept.append(tensor.untyped_storage())
        literals = tuple(number for number in operation.scalars if not math.isfinite(number))
        origin = Origin.COMPUTED
        if not operation.is_custom:
            # In the backward of a custom autograd Function nothing counts as intended.
            constant = tensor if operation.is_constant else None
            origin = origin_of_write(operation.name.split(".")[1], literals, constant)
        entry = BadWrite(output, geometry, tensor.dtype, count_bad(tensor), saved, origin, literals)
        self.trace.writes.setdefault(geometry.key, []).append((operation.index, len(operation.written)))
        operation.written.append(entry)

    def _may_keep(self, tensors: list[torch.Tensor]) -> bool:
        """Whether there is room for these tensors. Those that autograd keeps count too: it may free them."""
        self._num_bytes += sum(tensor.numel() * tensor.dtype.itemsize for tensor in tensors)
        return self._num_bytes <= self._max_bytes

    def _op_input(self, tensor: torch.Tensor, before: torch.Tensor | None, look: bool, keep: bool) -> OpInput:
        geometry = Geometry.of(tensor)
        writer = self._last_writer.get(geometry.key)
        if not look:
            return OpInput(geometry, tensor.dtype, writer)
        seen = tensor.detach() if before is None else before
        is_bad = not is_finite(seen)
        if not keep:
            first = bad_positions(seen)[0] if is_bad else 0
            return OpInput(geometry, tensor.dtype, writer, is_bad, first_bad=int(first))
        self.trace.kept.append(tensor.untyped_storage())
        saved = SavedTensor(seen)
        if before is None:
            self._holders.setdefault(geometry.key, []).append(saved)
        return OpInput(geometry, tensor.dtype, writer, is_bad, saved)


def _is_own_memory(tensor: Any) -> bool:
    """Whether torch owns the memory, as for ``torch.tensor``; memory shared with an array was written elsewhere."""
    return bool(tensor.untyped_storage().resizable())


def dense_tensors_in(result: object) -> Iterator[torch.Tensor]:
    """The dense tensors of an operation's result, in order."""
    return (part for tensor in tensors_in(result) for part in dense_parts(tensor))


def _replace(value: Any, inputs: list[torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        inputs.extend(dense_parts(value))
        return InputRef(len(inputs) - 1)
    if isinstance(value, list | tuple) and any(isinstance(inner, torch.Tensor) for inner in value):
        return [_replace(inner, inputs) for inner in value]
    return value


def _has_opaque(values: Iterable[Any]) -> bool:
    return any(
        value.layout is not torch.strided or value.is_nested
        if isinstance(value, torch.Tensor)
        else isinstance(value, list | tuple) and _has_opaque(value)
        for value in values
    )


def _mutated(traits: _Traits, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[int]:
    """The numbers of the inputs that the operation writes."""
    for line in traits.mutates:
        value = kwargs.get(line) if isinstance(line, str) else args[line] if line < len(args) else None
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, InputRef):
                yield inner.number


def _lost_epsilon(operation: Operation, dtype: torch.dtype) -> float | None:
    """A number among the arguments that is not 0 and that the dtype of the output rounds to 0."""
    if dtype not in (torch.float16, torch.bfloat16):
        return None
    half_of_smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps / 2
    return next((value for value in operation.scalars if 0 < abs(value) <= half_of_smallest), None)
