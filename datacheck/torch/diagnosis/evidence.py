"""Gathers the evidence at an operation: what it received, what it produced, and in what circumstances."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from datacheck.torch.diagnosis.causes.evidence import EDGE_AT_ZERO, Evidence
from datacheck.torch.diagnosis.masked_gradient import masking_operation
from datacheck.torch.diagnosis.memory import broadcast_position
from datacheck.torch.diagnosis.probe import Positions, Probe, can_run_again, is_pointwise
from datacheck.torch.diagnosis.underflow import lost_epsilon, lost_value
from datacheck.torch.values import bad_positions, dtype_name, element, index_of

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.record import NodeRef, Operation, OpInput, Trace
    from datacheck.torch.diagnosis.root_cause import Step
    from datacheck.torch.diagnosis.tensor_sources import TensorSources


#: The most operations of one node between its incoming gradient and the bad value.
MAX_LOOKBACK = 24


@dataclass(frozen=True, slots=True)
class OpEvidence:
    """The step at fault, and the forward operation that it belongs to.

    ``new_bad`` are the flat positions in its output that went bad in it.
    """

    step: Step
    forward: Operation
    evidence: Evidence
    new_bad: Positions
    shape: tuple[int, ...]


def gather_evidence(context: Context, step: Step, *, joint: bool, intended: bool) -> OpEvidence:
    """The evidence at the step that is the root cause."""
    trace, operation = context.trace, step.operation
    forward = context.forward_of(operation)
    is_derivative = operation.node is not None and operation.where.line is None
    op = forward.family if forward is not operation or not is_derivative else _family_of_node(operation.node)
    shape = step.written.geometry.shape
    new_bad = _new_bad_positions(step, joint or intended)
    by_hand = operation.node is not None and operation.where.line is not None
    gradient, masked_by = (None, None) if by_hand else _incoming(context, step)
    epsilon = lost_epsilon(context, operation)
    may_be_lost = epsilon is None and op in EDGE_AT_ZERO and not (joint or intended)
    evidence = Evidence(
        op=op,
        ran=operation.family,
        value=step.value,
        inputs=_inputs(trace, step),
        scalars=tuple(forward.scalars),
        index=index_of(step.position, shape),
        num_bad=len(new_bad),
        num_values=step.written.geometry.num_values,
        dtype=dtype_name(step.written.dtype),
        in_backward=operation.node is not None and not by_hand,
        in_gradient=context.in_gradient,
        gradient=gradient,
        masked_by=masked_by,
        joint=joint,
        intended=intended,
        num_reduced=_num_reduced(step),
        finite_in_float32=_is_finite_in(step, torch.float32),
        finite_in_float64=_is_finite_in(step, torch.float64),
        lost_epsilon=epsilon,
        lost_value=lost_value(context, step) if may_be_lost else None,
        is_custom_backward=operation.is_custom,
        is_of_torch=operation.name.startswith(("aten.", "prims.")),
        largest_parameter=_largest_parameter(operation, context.tensor_sources),
        times_repeated=_times_repeated(trace, forward),
    )
    return OpEvidence(step, forward, evidence, new_bad, shape)


def _family_of_node(node: NodeRef | None) -> str:
    if node is None:
        return "unknown"
    words = re.sub(r"Backward\d*$", "", node.name.split("::")[-1])
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words).lower()


def _new_bad_positions(step: Step, was_bad_before: bool) -> Positions:
    saved = step.written.saved
    if saved is None:
        return np.array([step.position])
    operation = step.operation
    if not was_bad_before and operation.bad_inputs and can_run_again(operation):
        probe = Probe(operation, step.written.output)
        new_bad = probe.new_bad_positions()
        if len(new_bad):
            return new_bad
    return bad_positions(saved.tensor)


def _input_position(op_input: OpInput, step: Step) -> int | None:
    """The position in an input that the step's position depends on, where the operation is pointwise."""
    if op_input.saved is None or not is_pointwise(step.operation):
        return None
    return broadcast_position(op_input.geometry.shape, step.written.geometry.shape, step.position)


def _at(op_input: OpInput, step: Step) -> complex | float | None:
    """The value of an input at the step's position, where the operation is pointwise."""
    at = _input_position(op_input, step)
    return None if at is None or op_input.saved is None else element(op_input.saved.tensor, at)


def _is_gradient(trace: Trace, operation: Operation, op_input: OpInput) -> bool:
    """Whether an input is a gradient from another node of the backward pass."""
    if operation.node is None or op_input.writer is None:
        return False
    writer = trace.operations[op_input.writer]
    if writer.node is None:
        return writer.in_backward
    return writer.node.sequence != operation.node.sequence


def _inputs(trace: Trace, step: Step) -> tuple[complex | float, ...]:
    operation = step.operation
    values = [_at(op_input, step) for op_input in operation.inputs if not _is_gradient(trace, operation, op_input)]
    return tuple(value for value in values if value is not None)


def _incoming(context: Context, step: Step) -> tuple[complex | float | None, str | None]:
    """The first incoming gradient of the bad value, and what made it 0, where it is 0."""
    trace = context.trace
    for later in step.path():
        operation = later.operation
        if operation.node is None:
            continue
        for op_input in operation.inputs:
            if not op_input.is_bad and _carries_gradient(trace, operation, op_input):
                value = _at(op_input, later)
                if value is not None:
                    return value, masking_operation(
                        context, op_input, operation, _input_position(op_input, later)
                    ) if value == 0 else None
        if step.operation.node is not None and operation.node.sequence != step.operation.node.sequence:
            break
    return None, None


def _carries_gradient(trace: Trace, operation: Operation, op_input: OpInput) -> bool:
    """Whether an input is the incoming gradient, or was computed by the same node from it alone (its negative)."""
    for _ in range(MAX_LOOKBACK):
        if _is_gradient(trace, operation, op_input):
            return True
        if op_input.writer is None or operation.node is None:
            return False
        operation = trace.operations[op_input.writer]
        if len(operation.inputs) != 1:
            return False
        op_input = operation.inputs[0]
    return False


def _num_reduced(step: Step) -> int | None:
    operation = step.operation
    if is_pointwise(operation) or not operation.inputs:
        return None
    num_out = step.written.geometry.num_values
    num_in = operation.inputs[0].geometry.num_values
    if num_in == 0:
        return 0
    return num_in // num_out if num_out and num_in % num_out == 0 else None


def _is_finite_in(step: Step, wide: torch.dtype) -> bool | None:
    """Whether the operation gives a finite value in a wider dtype; None where that cannot be said."""
    operation = step.operation
    if step.written.dtype.itemsize >= wide.itemsize or step.written.dtype.is_complex or not can_run_again(operation):
        return None
    probe = Probe(operation, step.written.output, step.written.geometry.shape, step.position)
    tensor = probe.output({}, wide)
    if tensor is None or probe.position >= tensor.numel():
        return None
    return bool(torch.isfinite(tensor.reshape(-1)[probe.position]))


def _largest_parameter(operation: Operation, tensor_sources: TensorSources) -> tuple[str, float] | None:
    read = (tensor_sources.find(one.geometry.start) for one in operation.inputs if one.writer is None)
    parameters = ((one.name or "", one.tensor) for one in read if one.kind == "parameter" and one.tensor is not None)
    sizes = ((name, float(tensor.detach().abs().max())) for name, tensor in parameters)
    return max(sizes, key=lambda entry: entry[1], default=None)


def _times_repeated(trace: Trace, forward: Operation) -> int:
    """How often the same operation had run on the same line before."""
    if forward.where.line is None:
        return 0
    before = trace.operations[: forward.index]
    return sum(other.func is forward.func and other.where.line == forward.where.line for other in before)
