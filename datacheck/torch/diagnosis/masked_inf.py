"""Infinities that a division hid: ``x / inf`` is 0, and the logarithm or division after it fails."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from datacheck.torch.diagnosis.causes.evidence import EDGE_AT_ZERO
from datacheck.torch.diagnosis.memory import broadcast_position
from datacheck.torch.diagnosis.origin import Origin
from datacheck.torch.diagnosis.probe import Probe, can_run_again, is_pointwise
from datacheck.torch.diagnosis.root_cause import BadOutput, find_root_causes
from datacheck.torch.diagnosis.underflow import writers_of
from datacheck.torch.values import element

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.record import Operation
    from datacheck.torch.diagnosis.root_cause import RootCause, Step


#: Operations that turn an infinite input into 0.
_HIDING = frozenset({"div", "reciprocal", "rsqrt", "exp", "exp2", "sigmoid", "pow", "mul", "softmax"})
#: Operations that fail where weights are 0.
_WEIGHTED = frozenset({"nll_loss_forward", "nll_loss2d_forward"})


def find_masked_infinity(context: Context, root_cause: RootCause) -> RootCause | None:
    """The root cause of the infinity that became the 0 on which an operation failed; None if there is none.

    Only unintended infinities count: the probability of what a mask of -inf leaves out is rightly 0.
    """
    step = root_cause.step
    if step is None or root_cause.joint or root_cause.intended or not _met_a_zero(context, step):
        return None
    trace = context.trace
    operation = context.forward_of(step.operation)
    hiding = [index for index in writers_of(context, operation) if _may_hide(context, trace.operations[index])]
    kept = context.record_again(frozenset(hiding)) if hiding else None
    if kept is None:
        return None
    for index in hiding:
        bad_outputs = list(_infinities(kept.operations[index], trace.operations[index], step))
        found = [other for other in find_root_causes(trace, bad_outputs) if _is_fault(context, other)]
        if found:
            return min(found, key=lambda other: other.order)
    return None


def _met_a_zero(context: Context, step: Step) -> bool:
    family = context.forward_of(step.operation).family
    if family in _WEIGHTED or step.operation.node is not None:
        return True
    if family not in EDGE_AT_ZERO:
        return False
    for op_input in step.operation.inputs:
        at = broadcast_position(op_input.geometry.shape, step.written.geometry.shape, step.position)
        if op_input.saved is not None and (at is None or element(op_input.saved.tensor, at) == 0):
            return True
    return False


def _may_hide(context: Context, operation: Operation) -> bool:
    """Whether an operation may have made 0 of an infinity that it read, or of one that was given."""
    if operation.node is not None or operation.family not in _HIDING:
        return False
    return any(
        op_input.writer is None or any(context.trace.bad_writes_over(op_input.geometry, operation.index))
        for op_input in operation.inputs
    )


def _infinities(again: Operation, first: Operation, step: Step) -> Iterator[BadOutput]:
    """For each input an infinity without which a 0 of the operation would be none."""
    if not can_run_again(again) or not again.bad_inputs:
        return
    probe = Probe(again)
    actual, without = probe.output(probe.bad), probe.output({})
    if actual is None or without is None:
        return
    became_zero = ((actual == 0) & (without != 0)).reshape(-1).nonzero().view(-1)
    if not len(became_zero):
        return
    shape = tuple(actual.shape)
    same_place = shape == step.written.geometry.shape and bool((became_zero == step.position).any())
    zero = step.position if same_place else int(became_zero[0])
    for number, positions in probe.bad.items():
        saved = again.inputs[number].saved
        at = broadcast_position(again.inputs[number].geometry.shape, shape, zero) if is_pointwise(again) else None
        position = int(positions[0]) if at is None else at
        if saved is not None and abs(element(saved.tensor, position)) == math.inf:
            yield BadOutput(first.inputs[number].geometry, position, first, number, step)


def _is_fault(context: Context, root_cause: RootCause) -> bool:
    """Whether an infinity was not asked for: neither written by the program as such, nor the log of a mask."""
    if root_cause.intended or root_cause.joint:
        return False
    if root_cause.initial is not None:
        return context.origin_of(root_cause.initial) is Origin.COMPUTED
    return root_cause.step is not None and root_cause.step.origin is Origin.COMPUTED
