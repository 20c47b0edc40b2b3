"""Gathering evidence at the operation to blame: what it received, what came out, and in what circumstances."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from datacheck.torch.diagnosis.causes import EDGE_AT_ZERO, Evidence
from datacheck.torch.diagnosis.masked_gradient import discarded_by
from datacheck.torch.diagnosis.probe import Positions, Probe, can_run_again, is_pointwise
from datacheck.torch.diagnosis.tensors import bad_positions, broadcast_position, element
from datacheck.torch.diagnosis.underflow import lost_epsilon, lost_value

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.context import Case
    from datacheck.torch.diagnosis.record import NodeRef, Operation, Slot, Tape
    from datacheck.torch.diagnosis.tensor_sources import Owners
    from datacheck.torch.diagnosis.trace import Step

__all__ = ["Scene", "family_of", "survey"]

#: How many operations of one node lie between its incoming gradient and the value that it meets.
MAX_LOOKBACK = 24


@dataclass(frozen=True, slots=True)
class Scene:
    """The operation to blame as it ran, and the forward operation and line that it stands for.

    ``born`` are the flat positions of its output that went bad in it.
    """

    step: Step
    forward: Operation
    evidence: Evidence
    born: Positions
    shape: tuple[int, ...]


def family_of(name: str) -> str:
    """``log`` of ``aten.log_.default``; leading and trailing underscores and ``foreach`` are left out."""
    family = name.split(".")[1] if "." in name else name
    return family.strip("_").removeprefix("foreach_").strip("_")


def survey(case: Case, step: Step, *, joint: bool, meant: bool) -> Scene:
    """The scene at a step that is to blame."""
    tape, operation = case.tape, step.operation
    forward = case.forward_of(operation)
    is_derivative = operation.node is not None and operation.where.place is None
    op = family_of(forward.name) if forward is not operation or not is_derivative else _family_of_node(operation.node)
    shape = step.written.geometry.shape
    born = _born(step, joint or meant)
    by_hand = operation.node is not None and operation.where.place is not None
    gradient, discarded_by = (None, None) if by_hand else _incoming(case, step)
    epsilon = lost_epsilon(case, operation)
    may_be_lost = epsilon is None and op in EDGE_AT_ZERO and not (joint or meant)
    evidence = Evidence(
        op=op,
        ran=family_of(operation.name),
        value=step.value,
        inputs=_inputs(tape, step),
        scalars=tuple(forward.scalars),
        index=tuple(int(digit) for digit in np.unravel_index(step.position, shape)) if shape else (),
        num_bad=len(born),
        num_values=step.written.geometry.num_values,
        dtype=str(step.written.dtype).removeprefix("torch."),
        in_backward=operation.node is not None and not by_hand,
        in_gradient=case.in_gradient,
        gradient=gradient,
        discarded_by=discarded_by,
        joint=joint,
        meant=meant,
        num_reduced=_num_reduced(step),
        finite_in_float32=_finite_in_float32(step),
        lost_epsilon=epsilon,
        lost_value=lost_value(case, step) if may_be_lost else None,
        is_custom_backward=operation.is_custom,
        largest_parameter=_largest_parameter(operation, case.owners),
        times_repeated=_times_repeated(tape, forward),
    )
    return Scene(step, forward, evidence, born, shape)


def _family_of_node(node: NodeRef | None) -> str:
    if node is None:
        return "unknown"
    words = re.sub(r"Backward\d*$", "", node.name.split("::")[-1])
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words).lower()


def _born(step: Step, was_bad_before: bool) -> Positions:
    held = step.written.held
    if held is None:
        return np.array([step.position])
    operation = step.operation
    if not was_bad_before and operation.bad_slots and can_run_again(operation):
        probe = Probe(operation, step.written.output, step.written.geometry.shape, step.position, whole=True)
        born = probe.born_positions()
        if len(born):
            return born
    return bad_positions(held.tensor)


def _place(slot: Slot, step: Step) -> int | None:
    """The position in an input that the step's position depends on, where the operation is pointwise."""
    if slot.held is None or not is_pointwise(step.operation):
        return None
    return broadcast_position(slot.geometry.shape, step.written.geometry.shape, step.position)


def _at(slot: Slot, step: Step) -> complex | float | None:
    """The value of an input at the step's position, where the operation is pointwise."""
    place = _place(slot, step)
    return None if place is None or slot.held is None else element(slot.held.tensor, place)


def _is_gradient(tape: Tape, operation: Operation, slot: Slot) -> bool:
    """Whether a slot holds what came in from another node of the backward pass."""
    if operation.node is None or slot.writer is None:
        return False
    writer = tape.operations[slot.writer]
    if writer.node is None:
        return writer.in_backward
    return writer.node.sequence != operation.node.sequence


def _inputs(tape: Tape, step: Step) -> tuple[complex | float, ...]:
    operation = step.operation
    values = [_at(slot, step) for slot in operation.slots if not _is_gradient(tape, operation, slot)]
    return tuple(value for value in values if value is not None)


def _incoming(case: Case, step: Step) -> tuple[complex | float | None, str | None]:
    """The gradient that met the bad value first, and what made it 0 where it is."""
    tape = case.tape
    for later in step.path():
        operation = later.operation
        if operation.node is None:
            continue
        for slot in operation.slots:
            if not slot.is_bad and _carries_gradient(tape, operation, slot):
                value = _at(slot, later)
                if value is not None:
                    return value, discarded_by(case, slot, operation, _place(slot, later)) if value == 0 else None
        if step.operation.node is not None and operation.node.sequence != step.operation.node.sequence:
            break
    return None, None


def _carries_gradient(tape: Tape, operation: Operation, slot: Slot) -> bool:
    """Whether a slot holds the incoming gradient, or what the same node made of it alone (its negative)."""
    for _ in range(MAX_LOOKBACK):
        if _is_gradient(tape, operation, slot):
            return True
        if slot.writer is None or operation.node is None:
            return False
        operation = tape.operations[slot.writer]
        if len(operation.slots) != 1:
            return False
        slot = operation.slots[0]
    return False


def _num_reduced(step: Step) -> int | None:
    operation = step.operation
    if is_pointwise(operation) or not operation.slots:
        return None
    num_out = step.written.geometry.num_values
    num_in = operation.slots[0].geometry.num_values
    if num_in == 0:
        return 0
    return num_in // num_out if num_out and num_in % num_out == 0 else None


def _finite_in_float32(step: Step) -> bool | None:
    operation = step.operation
    if step.written.dtype not in (torch.float16, torch.bfloat16) or not can_run_again(operation):
        return None
    probe = Probe(operation, step.written.output, step.written.geometry.shape, step.position)
    tensor = probe.output({}, torch.float32)
    if tensor is None or probe.position >= tensor.numel():
        return None
    return bool(torch.isfinite(tensor.reshape(-1)[probe.position]))


def _largest_parameter(operation: Operation, owners: Owners) -> tuple[str, float] | None:
    found: list[tuple[str, float]] = []
    for slot in operation.slots:
        owner = owners.find(slot.geometry.start) if slot.writer is None else None
        if owner is not None and owner.kind == "parameter" and owner.tensor is not None:
            found.append((owner.name or "", float(owner.tensor.detach().abs().max())))
    return max(found, key=lambda entry: entry[1], default=None)


def _times_repeated(tape: Tape, forward: Operation) -> int:
    """How often the same operation of the same line ran before it, in the same direction."""
    if forward.where.place is None:
        return 0
    same = 0
    for other in tape.operations[: forward.index]:
        same += other.func is forward.func and other.where.place == forward.where.place
    return same
