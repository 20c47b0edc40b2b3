"""Walking back from harm to its origin: from one bad value to the value that made it bad, operation by operation.

The walk follows single values, not tensors: a tensor may hold a bad value that never arrives beside one that does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datacheck.torch.diagnosis.probe import Positions, Probe, can_run_again, is_pointwise
from datacheck.torch.diagnosis.tensors import Geometry, bad_positions, broadcast_position, element

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datacheck.torch.diagnosis.record import Operation, Tape, Written

__all__ = ["Culprit", "Harm", "Source", "Step", "trace"]

#: Values that are looked at in one walk, and inputs that are followed from one operation.
MAX_STEPS = 200_000
MAX_BRANCHES = 6
#: Up to how many bad values of one input are tried one by one before they are halved.
FEW = 4


@dataclass(frozen=True, slots=True)
class Harm:
    """A bad value that harmed training: an element of the loss or of a gradient.

    Of one that harmed it unseen, ``reader`` is the operation that read it in a ``slot``, and ``then`` what came of it.
    """

    geometry: Geometry
    position: int
    reader: Operation | None = None
    slot: int = -1
    then: Step | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A bad value that no operation of the replay wrote: it was there before. ``reader`` is the first to read it."""

    geometry: Geometry
    position: int
    reader: Operation | None
    slot: int = -1

    @property
    def address(self) -> int:
        return self.geometry.address(self.position)


@dataclass(frozen=True, slots=True)
class Step:
    """One bad value on the way. ``joint`` says that it took several bad values of its inputs to make it bad."""

    operation: Operation
    written: Written
    position: int
    then: Step | None
    joint: bool = False

    @property
    def value(self) -> complex | float:
        held = self.written.held
        return math.nan if held is None else element(held.tensor, self.position)

    def path(self) -> list[Step]:
        """This step and those after it, towards the harm."""
        steps: list[Step] = []
        step: Step | None = self
        while step is not None:
            steps.append(step)
            step = step.then
        return steps


@dataclass(frozen=True, slots=True)
class Culprit:
    """What is to blame: a step whose operation made the value bad, or a source that was bad before.

    ``joint`` says that the operation made a NaN out of infinities that were meant (a softmax over a row that is all
    -inf); ``meant`` that the origin is an infinity that was written on purpose.
    """

    step: Step | None
    source: Source | None = None
    joint: bool = False
    meant: bool = False
    first: Step | None = None

    @property
    def order(self) -> int:
        """Where in the program it stands: the first culprit is the one to name."""
        if self.source is not None:
            return -1 if self.source.reader is None else self.source.reader.index
        return 0 if self.step is None else self.step.operation.index


@dataclass(frozen=True, slots=True)
class _Blame:
    """What made an output value bad: values of inputs (slot and flat position), or the operation itself."""

    carriers: list[tuple[int, int]]
    joint: bool = False


def trace(tape: Tape, harms: Iterable[Harm]) -> list[Culprit]:
    """Everything that is to blame for what was harmed, the first in the program first."""
    culprits: list[Culprit] = []
    seen: set[tuple[int, int, int]] = set()
    todo: list[tuple[Geometry, int, Operation | None, int, Step | None]] = [
        (harm.geometry, harm.position, harm.reader, harm.slot, harm.then) for harm in harms
    ]
    todo.reverse()
    step: Step | None = None
    while todo and len(seen) < MAX_STEPS:
        geometry, position, reader, slot, then = todo.pop()
        before = len(tape.operations) if reader is None else reader.index
        found = tape.writer_of(geometry.key, geometry.address(position), before)
        if found is None:
            culprits.append(_judge_source(Source(geometry, position, reader, slot), then))
            continue
        operation, written, at = found
        mark = (operation.index, written.output, at)
        if mark in seen:
            continue
        seen.add(mark)
        blame = _blame(operation, written, at)
        step = Step(operation, written, at, then, blame.joint)
        if not blame.carriers:
            culprits.append(_judge_step(step))
        for number, carrier in blame.carriers[:MAX_BRANCHES]:
            todo.append((operation.slots[number].geometry, carrier, operation, number, step))
    if not culprits and step is not None:
        # The walk was cut short: the furthest that it came is the best that is known.
        culprits.append(Culprit(step, first=step))
    return sorted(culprits, key=lambda culprit: culprit.order)


def _judge_source(source: Source, then: Step | None) -> Culprit:
    """A NaN that was there before is to blame; an infinity that was may be a mask, and meant."""
    value = _source_value(source)
    if then is None or value is None or math.isnan(value):
        return Culprit(None, source, first=then)
    converter = _converter(then.path())
    if converter is None:
        return Culprit(None, source, first=then)
    return Culprit(converter, source, converter.joint, meant=True, first=then)


def _source_value(source: Source) -> float | None:
    if source.reader is None:
        return None
    held = source.reader.slots[source.slot].held
    if held is None:
        return None
    value = element(held.tensor, source.position)
    return math.nan if isinstance(value, complex) else value


def _judge_step(step: Step) -> Culprit:
    """The operation is to blame, unless it only wrote an infinity that the program asked for."""
    later = step.path()[1:]
    if _is_meant(step):
        converter = None if _is_nan(step.value) else _converter(later)
        if converter is not None:
            return Culprit(converter, None, converter.joint, meant=True, first=step)
        return Culprit(step, meant=True, first=step)
    if _is_log(step):
        # The log of a 0/1 mask is a way to write -inf where the mask is 0, as good as any.
        emptied = next((other for other in later if other.joint), None) or _emptied_softmax(step, later)
        if emptied is not None:
            return Culprit(emptied, joint=True, meant=True, first=step)
    return Culprit(step, first=step)


def _emptied_softmax(step: Step, later: list[Step]) -> Step | None:
    """The softmax that made NaN of a row that the logarithm of a mask of zeros and ones had made all -inf."""
    held = step.operation.slots[0].held if step.operation.slots else None
    if step.operation.node is not None or held is None or not bool(((held.tensor == 0) | (held.tensor == 1)).all()):
        return None
    first = next((other for other in later if _is_nan(other.value)), None)
    return first if first is not None and "softmax" in first.operation.name else None


def _converter(path: list[Step]) -> Step | None:
    """The first step at which infinities that were meant became NaN; else the first that had nothing but them.

    The maximum, or the log of the sum of exponentials, of nothing but -inf is -inf, rightly: it is to blame only if that
    itself does the harm.
    """
    for step in path:
        if _is_nan(step.value):
            return step
    return next((step for step in path if step.joint), None)


def _is_nan(value: complex | float) -> bool:
    return isinstance(value, complex) or math.isnan(value)


def _is_meant(step: Step) -> bool:
    """Whether the operation wrote an infinity, or a NaN, that it was given as a plain number or constant."""
    value = step.value
    if isinstance(value, complex) or step.operation.is_custom:
        return False
    if step.operation.is_constant:
        return True
    numbers = [number for number in step.operation.scalars if not math.isfinite(number)]
    return any(number == value or (math.isnan(number) and math.isnan(value)) for number in numbers)


def _is_log(step: Step) -> bool:
    value = step.value
    family = step.operation.name.split(".")[1]
    return family in ("log", "log_", "log2", "log10", "_foreach_log") and value == -math.inf


def _blame(operation: Operation, written: Written, position: int) -> _Blame:
    bad = operation.bad_slots
    if not bad:
        return _Blame([])
    if not can_run_again(operation):
        return _Blame(_guess(operation, written, position, bad))
    only = _only_bad_input(operation, written, position, bad)
    if only is not None:
        return _Blame([only])
    probe = Probe(operation, written.output, written.geometry.shape, position)
    if probe.is_cut:
        return _blame_pointwise(probe)
    if not probe.bad or probe.is_born():
        return _Blame([])
    carriers: list[tuple[int, int]] = []
    joint = False
    for slot, positions in probe.bad.items():
        if probe.is_bad({slot: positions}):
            found, together = _narrow_down(probe, slot, positions, operation, written, position)
            carriers.append((slot, found))
            joint = joint or together
    if carriers:
        return _Blame(carriers, joint)
    if probe.is_bad(probe.bad):
        return _Blame([(slot, int(positions[0])) for slot, positions in probe.bad.items()], joint=True)
    return _Blame(_guess(operation, written, position, bad))


def _only_bad_input(operation: Operation, written: Written, position: int, bad: list[int]) -> tuple[int, int] | None:
    """The one bad value that went into a value of a pointwise operation; None where there is none, or several.

    This is nearly every step of a long way, and it saves running the operation again. An operation that writes an infinity
    of its own may have hidden what it read.
    """
    if not is_pointwise(operation) or any(not math.isfinite(number) for number in operation.scalars):
        return None
    target = written.geometry.shape
    found: tuple[int, int] | None = None
    for number in bad:
        held = operation.slots[number].held
        place = broadcast_position(operation.slots[number].geometry.shape, target, position)
        if held is None or place is None:
            return None
        value = element(held.tensor, place)
        if not math.isfinite(abs(value)):
            if found is not None:
                return None
            found = (number, place)
    return found


def _blame_pointwise(probe: Probe) -> _Blame:
    alone = [slot for slot, positions in probe.bad.items() if probe.is_bad({slot: positions})]
    return _Blame([(slot, probe.cut[slot]) for slot in alone or probe.bad], joint=not alone and len(probe.bad) > 1)


def _guess(operation: Operation, written: Written, position: int, bad: list[int]) -> list[tuple[int, int]]:
    """Where an operation cannot be run again: the value at the same place, or the first bad one of each input."""
    guesses: list[tuple[int, int]] = []
    for number in bad:
        slot = operation.slots[number]
        same_shape = slot.geometry.shape == written.geometry.shape and is_pointwise(operation)
        if slot.held is None:
            guesses.append((number, slot.first_bad))
            continue
        values = slot.held.tensor.reshape(-1)
        if same_shape and not math.isfinite(abs(values[position].item())):
            guesses.append((number, position))
        elif not same_shape:
            guesses.append((number, int(bad_positions(slot.held.tensor)[0])))
    return guesses


def _narrow_down(
    probe: Probe, slot: int, positions: Positions, operation: Operation, written: Written, position: int
) -> tuple[int, bool]:
    """One bad value of a slot that makes the output value bad alone; or the first, and that it takes several."""
    positions = _nearby(probe, slot, positions, operation, written, position)
    while len(positions) > 1:
        for candidate in positions[:FEW] if len(positions) <= FEW else positions[:1]:
            if probe.is_bad({slot: np.array([candidate])}):
                return int(candidate), False
        half = len(positions) // 2
        if len(positions) <= FEW:
            return int(positions[0]), True
        for part in (positions[:half], positions[half:]):
            if probe.is_bad({slot: part}):
                positions = part
                break
        else:
            return int(positions[0]), True
    return int(positions[0]), False


def _nearby(
    probe: Probe, slot: int, positions: Positions, operation: Operation, written: Written, position: int
) -> Positions:
    """The bad values that share leading indices with the output value, where they are enough: a good first guess."""
    shape, target = operation.slots[slot].geometry.shape, written.geometry.shape
    if len(positions) <= FEW or not shape or not target:
        return positions
    index = np.unravel_index(position, target)
    coordinates = np.stack(np.unravel_index(positions, shape), axis=1)
    num_shared = 0
    while num_shared < min(len(shape), len(target)) and shape[num_shared] == target[num_shared]:
        num_shared += 1
    for depth in range(num_shared, 0, -1):
        same = (coordinates[:, :depth] == np.array([int(digit) for digit in index[:depth]])).all(axis=1)
        chosen: Positions = positions[same]
        if len(chosen) and probe.is_bad({slot: chosen}):
            return chosen
    return positions
