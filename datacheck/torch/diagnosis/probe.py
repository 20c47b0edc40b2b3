"""Runs one operation again with some of its bad values taken out, to find what made its output bad.

This needs no table of operations. An input made an output value bad if the value is bad when this input alone is. The
operation itself did if the value is bad although every input is finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datacheck.torch.diagnosis.memory import broadcast_position
from datacheck.torch.diagnosis.record import InputRef, Operation
from datacheck.torch.diagnosis.recorder import dense_tensors_in
from datacheck.torch.values import bad_positions, index_of, is_comparable

Positions = np.ndarray[Any, np.dtype[np.int64]]

#: Replacements for non-finite values. An operation is at fault only if it fails on both: 0.5 is outside the domain of
#: acosh, 1.5 outside the domain of acos.
FILLERS = (0.5, 1.5)

#: Libraries whose operations have no effect but their result. A collective must never be run again by one rank.
_PURE = ("aten.", "prims.", "torchvision.")
_POINTWISE = frozenset({"_to_copy", "clone", "copy_", "native_dropout", "where"})


def can_run_again(operation: Operation) -> bool:
    """Whether the operation can be run again with the same result and without side effects."""
    if operation.is_opaque or not operation.name.startswith(_PURE):
        return False
    if torch.Tag.nondeterministic_seeded in operation.func.tags:
        return False
    return all(input_number.saved is not None for input_number in operation.inputs)


def is_pointwise(operation: Operation) -> bool:
    """Whether each output value depends only on the input values at its own position, after broadcasting."""
    if operation.func is None:
        return False
    return torch.Tag.pointwise in operation.func.tags or operation.name.split(".")[1] in _POINTWISE


class Probe:
    """One operation, ready to be run again for one of its outputs.

    ``position`` is the flat position in the output that is asked about. A pointwise operation is cut down to the values
    at that position, and a multi-tensor one (``_foreach_*``) to one place in its lists. ``bad`` then has the positions
    of the bad values, by input, in what is left. Without a ``position``, nothing is cut.
    """

    def __init__(
        self, operation: Operation, output: int = 0, shape: tuple[int, ...] = (), position: int | None = None
    ) -> None:
        self._operation = operation
        self._output = output
        self._list_index: int | None = None
        if operation.name.split(".")[1].startswith("_foreach"):
            self._list_index = self._index_in_lists()
        self._tensors = {number: _saved(operation, number) for number in self._inputs_used()}
        self.position = position or 0
        self.is_cut = False
        #: For each input, the flat position in the whole tensor of the one value that is left.
        self.cut: dict[int, int] = {}
        if position is not None and is_pointwise(operation):
            self._cut(shape, position)
        self.bad: dict[int, Positions] = {}
        self._clean: dict[int, torch.Tensor] = {}
        for number, tensor in self._tensors.items():
            positions = bad_positions(tensor) if operation.inputs[number].is_bad else np.empty(0, np.int64)
            if len(positions):
                self.bad[number] = positions
                self._clean[number] = tensor.clone(memory_format=torch.contiguous_format)
        self._filler = FILLERS[0]
        self._set_filler(self._filler)

    def is_bad(self, left_in: dict[int, Positions]) -> bool:
        """Whether the output value is bad when only these positions of these inputs are."""
        tensor = self.output(left_in)
        if tensor is None or self.position >= tensor.numel() or not is_comparable(tensor):
            return False
        return not bool(torch.isfinite(tensor.reshape(-1)[self.position]))

    def creates_bad_value(self) -> bool:
        """Whether the output value is bad although every input is finite."""
        return self.is_bad({}) and self._also_with_other_filler()

    def new_bad_positions(self) -> Positions:
        """The flat positions of the output that are bad although every input is finite."""
        tensor = self.output({})
        return np.empty(0, np.int64) if tensor is None else bad_positions(tensor)

    def output(self, left_in: dict[int, Positions], dtype: torch.dtype | None = None) -> torch.Tensor | None:
        """The output with only these positions bad; None where the operation raises.

        With ``dtype``, floating-point inputs are converted to it first.
        """
        undo: list[tuple[torch.Tensor, torch.Tensor]] = []
        for number, positions in left_in.items():
            flat = self._clean[number].view(-1)
            index = torch.from_numpy(positions).to(flat.device)
            flat[index] = self._tensors[number].reshape(-1)[index]
            undo.append((flat, index))
        given: dict[int, torch.Tensor] = {}
        args = [self._fill(value, given, dtype) for value in self._operation.args]
        kwargs = {name: self._fill(value, given, dtype) for name, value in self._operation.kwargs.items()}
        if dtype is not None and isinstance(kwargs.get("dtype"), torch.dtype):
            kwargs["dtype"] = dtype
        try:
            with torch.no_grad():
                result = self._operation.func(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError, TypeError):
            # Values that the operation refuses, such as a matrix that cannot be decomposed, make no bad output.
            return None
        finally:
            for flat, index in undo:
                flat[index] = self._filler
        if self._output < 0:
            return given[self._operation.mutated[-1 - self._output]]
        outputs = list(dense_tensors_in(result))
        number = 0 if self._list_index is not None else self._output
        return outputs[number] if number < len(outputs) else None

    def replace(self, number: int, tensor: torch.Tensor) -> None:
        """Give the operation another tensor as an input from now on."""
        self._tensors[number] = tensor
        self.bad.pop(number, None)
        self._clean.pop(number, None)

    def _also_with_other_filler(self) -> bool:
        self._set_filler(FILLERS[1])
        try:
            return self.is_bad({})
        finally:
            self._set_filler(FILLERS[0])

    def _set_filler(self, filler: float) -> None:
        self._filler = filler
        for number, positions in self.bad.items():
            flat = self._clean[number].view(-1)
            flat[torch.from_numpy(positions).to(flat.device)] = filler

    def _index_in_lists(self) -> int:
        """The index of its output in the lists of a multi-tensor operation."""
        if self._output >= 0:
            return self._output
        input_number = self._operation.mutated[-1 - self._output]
        for value in (*self._operation.args, *self._operation.kwargs.values()):
            if isinstance(value, list):
                for index, inner in enumerate(value):
                    if isinstance(inner, InputRef) and inner.number == input_number:
                        return index
        return 0

    def _arguments(self) -> list[Any]:
        return [self._narrow(value) for value in (*self._operation.args, *self._operation.kwargs.values())]

    def _narrow(self, value: Any) -> Any:
        if self._list_index is None or not isinstance(value, list | tuple) or len(value) <= self._list_index:
            return value
        return [value[self._list_index]]

    def _inputs_used(self) -> list[int]:
        numbers: list[int] = []
        for value in self._arguments():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, InputRef):
                    numbers.append(inner.number)
        return numbers

    def _cut(self, shape: tuple[int, ...], position: int) -> None:
        """Keep of every tensor only the value that is broadcast to the position."""
        cut: dict[int, torch.Tensor] = {}
        positions: dict[int, int] = {}
        for number, tensor in self._tensors.items():
            index = broadcast_position(tuple(tensor.shape), shape, position)
            if index is None:
                return
            cut[number] = tensor[tuple(slice(digit, digit + 1) for digit in index_of(index, tensor.shape))]
            positions[number] = index
        self._tensors, self.cut = cut, positions
        self.is_cut, self.position = True, 0

    def _fill(self, value: Any, given: dict[int, torch.Tensor], dtype: torch.dtype | None) -> Any:
        value = self._narrow(value)
        if isinstance(value, InputRef):
            tensor = self._clean.get(value.number, self._tensors[value.number])
            if dtype is not None and tensor.dtype.is_floating_point:
                tensor = tensor.to(dtype)
            if value.number in self._operation.mutated:
                tensor = tensor.clone()
            given[value.number] = tensor
            return tensor
        if isinstance(value, list | tuple):
            return [self._fill(inner, given, dtype) if isinstance(inner, InputRef) else inner for inner in value]
        return value


def _saved(operation: Operation, number: int) -> torch.Tensor:
    saved = operation.inputs[number].saved
    if saved is None:
        raise LookupError(f"input {number} of {operation.name} was not saved")
    return saved.tensor
