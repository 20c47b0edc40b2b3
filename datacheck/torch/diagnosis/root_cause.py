"""From a bad output back to its root cause: value by value, operation by operation.

The walk follows single values, not tensors: a tensor may hold a bad value that never reaches the loss beside one that
does.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from datacheck.torch.diagnosis.memory import Geometry, broadcast_position
from datacheck.torch.diagnosis.origin import INTENDED, Origin
from datacheck.torch.diagnosis.probe import Positions, Probe, can_run_again, is_pointwise
from datacheck.torch.values import bad_positions, element, index_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from datacheck.torch.diagnosis.record import BadWrite, Operation, Trace


#: Values that are visited in one walk, and inputs that are followed from one operation.
MAX_STEPS = 200_000
MAX_BRANCHES = 6
#: Up to this many bad values of one input are tried one by one; more are halved.
FEW = 4

#: The number of the class weights among the inputs of a negative log likelihood.
_CLASS_WEIGHTS = 2

#: A line that writes the number itself.
WRITTEN = re.compile(r"nan|inf", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BadOutput:
    """A bad value that the walk starts from: an element of the loss or of a gradient.

    Where the result of a bad value was finite (an infinity that a division turned into 0), ``reader`` is the operation
    that read it as its input ``input_number``, and ``then`` the step that followed.
    """

    geometry: Geometry
    position: int
    reader: Operation | None = None
    input_number: int = -1
    then: Step | None = None

    @classmethod
    def first_in(cls, tensor: torch.Tensor) -> BadOutput:
        """The first bad value of a tensor that has one."""
        return cls(Geometry.of(tensor), int(bad_positions(tensor)[0]))


@dataclass(frozen=True, slots=True)
class InitialValue:
    """A bad value from before the replay: no operation wrote it. ``reader`` read it first."""

    geometry: Geometry
    position: int
    reader: Operation | None
    input_number: int = -1

    @property
    def address(self) -> int:
        return self.geometry.address(self.position)

    @property
    def tensor(self) -> torch.Tensor | None:
        """The tensor that holds it, as it was read; None where it was not kept."""
        saved = None if self.reader is None else self.reader.inputs[self.input_number].saved
        return None if saved is None else saved.tensor

    @property
    def value(self) -> complex | float | None:
        """None where the tensor was not kept."""
        tensor = self.tensor
        return None if tensor is None else element(tensor, self.position)


@dataclass(frozen=True, slots=True)
class Step:
    """One bad value on the propagation path. ``joint``: several bad values of the inputs together made it bad."""

    operation: Operation
    written: BadWrite
    position: int
    then: Step | None
    joint: bool = False

    @property
    def value(self) -> complex | float:
        saved = self.written.saved
        return math.nan if saved is None else element(saved.tensor, self.position)

    @property
    def origin(self) -> Origin:
        return self.written.origin_of(self.value)

    def path(self) -> list[Step]:
        """This step and those after it, towards the bad output."""
        steps = [self]
        while steps[-1].then is not None:
            steps.append(steps[-1].then)
        return steps


@dataclass(frozen=True, slots=True)
class RootCause:
    """A step whose operation made the value bad, or an initial value that was bad before.

    ``joint`` says that the operation turned intended infinities into NaN (a softmax over a row that is all -inf).
    ``intended`` says that the bad value began as an infinity that was written on purpose, at the step ``first``.
    """

    step: Step | None
    initial: InitialValue | None = None
    joint: bool = False
    intended: bool = False
    first: Step | None = None

    @property
    def order(self) -> int:
        """Its position in the program: of several root causes, the first is the one to report."""
        if self.initial is not None:
            return -1 if self.initial.reader is None else self.initial.reader.index
        return 0 if self.step is None else self.step.operation.index


@dataclass(frozen=True, slots=True)
class _Carriers:
    """The inputs (number and flat position) that made an output value bad; none if the operation itself did."""

    inputs: list[tuple[int, int]]
    joint: bool = False


def find_root_causes(trace: Trace, bad_outputs: Iterable[BadOutput]) -> list[RootCause]:
    """The root causes of all bad outputs, in the order of the program."""
    root_causes: list[RootCause] = []
    seen: set[tuple[int, int, int]] = set()
    todo = list(bad_outputs)[::-1]
    step: Step | None = None
    while todo and len(seen) < MAX_STEPS:
        bad = todo.pop()
        before = None if bad.reader is None else bad.reader.index
        found = trace.writer_of(bad.geometry.key, bad.geometry.address(bad.position), before)
        if found is None:
            initial = InitialValue(bad.geometry, bad.position, bad.reader, bad.input_number)
            root_causes.append(_root_cause_from_initial(initial, bad.then))
            continue
        operation, written, position = found
        mark = (operation.index, written.output, position)
        if mark in seen:
            continue
        seen.add(mark)
        carriers = _CarrierSearch(operation, written, position).run()
        step = Step(operation, written, position, bad.then, carriers.joint)
        source = None if carriers.inputs else _number_read(trace, step)
        if source is not None:
            todo.append(source)
        elif not carriers.inputs:
            root_causes.append(_root_cause_from_step(step))
        for number, carrier in carriers.inputs[:MAX_BRANCHES]:
            todo.append(BadOutput(operation.inputs[number].geometry, carrier, operation, number, step))
    if not root_causes and step is not None:
        # The walk hit its limit: the furthest step is the best that is known.
        root_causes.append(RootCause(step, first=step))
    return sorted(root_causes, key=lambda root_cause: root_cause.order)


def _number_read(trace: Trace, step: Step) -> BadOutput | None:
    """The bad value that the program read with ``.item()`` and gave to an operation as a number."""
    if not step.written.literals or WRITTEN.search(_source(step)):
        return None
    for operation in reversed(trace.operations[: step.operation.index]):
        if not operation.name.endswith("_local_scalar_dense.default") or not operation.inputs:
            continue
        geometry = operation.inputs[0].geometry
        found = trace.writer_of(geometry.key, geometry.address(0), operation.index)
        if found is not None and found[1].saved is not None:
            value = element(found[1].saved.tensor, found[2])
            if any(_are_equal(value, literal) for literal in step.written.literals):
                return BadOutput(geometry, 0, operation, 0, step)
    return None


def _source(step: Step) -> str:
    line = step.operation.where.line
    return "" if line is None else line.source or ""


def _are_equal(value: complex | float, literal: float) -> bool:
    return value == literal or (_is_nan(value) and math.isnan(literal))


def _root_cause_from_initial(initial: InitialValue, then: Step | None) -> RootCause:
    """An initial NaN is a root cause; an initial infinity may be a mask, which :mod:`examine` decides."""
    value = initial.value
    if then is None or value is None or _is_nan(value):
        return RootCause(None, initial, first=then)
    converter = _converter(then.path())
    if converter is None:
        return RootCause(None, initial, first=then)
    return RootCause(converter, initial, converter.joint, intended=True, first=then)


def _root_cause_from_step(step: Step) -> RootCause:
    """The step itself, unless it wrote an infinity on purpose and a later step turned that into NaN."""
    later = step.path()[1:]
    if step.origin in INTENDED:
        converter = None if _is_nan(step.value) else _converter(later)
        if converter is not None:
            return RootCause(converter, None, converter.joint, intended=True, first=step)
        return RootCause(step, intended=True, first=step)
    if step.origin is Origin.LOG_OF_ZERO and step.written.geometry.num_values > 1:
        emptied = next((other for other in later if other.joint), None) or _emptied_softmax(step, later)
        if emptied is not None:
            return RootCause(emptied, joint=True, intended=True, first=step)
    return RootCause(step, first=step)


def _emptied_softmax(step: Step, later: list[Step]) -> Step | None:
    """The softmax that made NaN of a row that the logarithm of a mask of zeros and ones had made all -inf."""
    saved = step.operation.inputs[0].saved if step.operation.inputs else None
    if step.operation.node is not None or saved is None or not bool(((saved.tensor == 0) | (saved.tensor == 1)).all()):
        return None
    first = next((other for other in later if _is_nan(other.value)), None)
    return first if first is not None and "softmax" in first.operation.name else None


def _converter(path: list[Step]) -> Step | None:
    """The first step that turned intended infinities into NaN; else the first that had no other values.

    The maximum, or the log of the sum of exponentials, of only -inf is rightly -inf: it is the root cause only if
    that -inf itself reaches the loss.
    """
    return next((step for step in path if _is_nan(step.value)), next((step for step in path if step.joint), None))


def _is_nan(value: complex | float) -> bool:
    return isinstance(value, complex) or math.isnan(value)


class _CarrierSearch:
    """Finds the inputs that made one output value of an operation bad."""

    def __init__(self, operation: Operation, written: BadWrite, position: int) -> None:
        self._operation, self._position = operation, position
        self._bad = operation.bad_inputs
        self._output, self._shape = written.output, written.geometry.shape

    def run(self) -> _Carriers:
        """The inputs that did so alone; else all of them, if they do so together."""
        if not self._bad:
            return _Carriers([])
        if not can_run_again(self._operation):
            return _Carriers(self._guess())
        if self._operation.family.startswith("nll_loss") and self._bad == [_CLASS_WEIGHTS]:
            # What made one weight infinite made the others 0, so that without it the mean is still 0 / 0.
            return _Carriers(self._guess())
        only = self._only_bad_input()
        if only is not None:
            return _Carriers([only])
        probe = Probe(self._operation, self._output, self._shape, self._position)
        if probe.is_cut:
            alone = [number for number, positions in probe.bad.items() if probe.is_bad({number: positions})]
            inputs = [(number, probe.cut[number]) for number in alone or probe.bad]
            return _Carriers(inputs, joint=not alone and len(probe.bad) > 1)
        if not probe.bad or probe.creates_bad_value():
            return _Carriers([])
        return self._by_probe(probe)

    def _by_probe(self, probe: Probe) -> _Carriers:
        alone = [number for number, positions in probe.bad.items() if probe.is_bad({number: positions})]
        narrowed = [(number, *self._narrow_down(probe, number, probe.bad[number])) for number in alone]
        if narrowed:
            return _Carriers([(number, found) for number, found, _ in narrowed], any(joint for *_, joint in narrowed))
        if probe.is_bad(probe.bad):
            return _Carriers([(number, int(positions[0])) for number, positions in probe.bad.items()], joint=True)
        return _Carriers(self._guess())

    def _only_bad_input(self) -> tuple[int, int] | None:
        """The one bad value that a value of a pointwise operation was computed from; None for none, and for several.

        This settles nearly every step of a long path without running the operation again. An operation with an infinity
        among its own arguments may have hidden what it read.
        """
        operation = self._operation
        if not is_pointwise(operation) or any(not math.isfinite(number) for number in operation.scalars):
            return None
        found: list[tuple[int, int]] = []
        for number in self._bad:
            saved = operation.inputs[number].saved
            at = broadcast_position(operation.inputs[number].geometry.shape, self._shape, self._position)
            if saved is None or at is None:
                return None
            if not math.isfinite(abs(element(saved.tensor, at))):
                found.append((number, at))
        return found[0] if len(found) == 1 else None

    def _guess(self) -> list[tuple[int, int]]:
        """Without running the operation again: the value at the same position, or the first bad one of each input."""
        guesses: list[tuple[int, int]] = []
        for number in self._bad:
            op_input = self._operation.inputs[number]
            if op_input.saved is None:
                guesses.append((number, op_input.first_bad))
            elif op_input.geometry.shape != self._shape or not is_pointwise(self._operation):
                guesses.append((number, int(bad_positions(op_input.saved.tensor)[0])))
            elif not math.isfinite(abs(element(op_input.saved.tensor, self._position))):
                guesses.append((number, self._position))
        return guesses

    def _narrow_down(self, probe: Probe, number: int, positions: Positions) -> tuple[int, bool]:
        """A bad value of an input that makes the output value bad alone; or the first, and that it takes several."""
        positions = self._nearby(probe, number, positions)
        while len(positions) > 1:
            for candidate in positions[:FEW] if len(positions) <= FEW else positions[:1]:
                if probe.is_bad({number: np.array([candidate])}):
                    return int(candidate), False
            half = len(positions) // 2
            parts = () if len(positions) <= FEW else (positions[:half], positions[half:])
            part = next((part for part in parts if probe.is_bad({number: part})), None)
            if part is None:
                return int(positions[0]), True
            positions = part
        return int(positions[0]), False

    def _nearby(self, probe: Probe, number: int, positions: Positions) -> Positions:
        """The bad values that share leading indices with the output value, where these suffice: a good first guess."""
        shape, target = self._operation.inputs[number].geometry.shape, self._shape
        if len(positions) <= FEW or not shape or not target:
            return positions
        index = index_of(self._position, target)
        coordinates = np.stack(np.unravel_index(positions, shape), axis=1)
        same_sizes = (size == other for size, other in zip(shape, target, strict=False))
        num_shared = sum(1 for _ in takewhile(bool, same_sizes))
        for depth in range(num_shared, 0, -1):
            chosen: Positions = positions[(coordinates[:, :depth] == np.array(index[:depth])).all(axis=1)]
            if len(chosen) and probe.is_bad({number: chosen}):
                return chosen
        return positions
