"""Infinities that a division hid: ``x / inf`` is 0, and what fails is the logarithm after it, or the next division."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from datacheck.torch.diagnosis.causes import EDGE_AT_ZERO
from datacheck.torch.diagnosis.evidence import family_of
from datacheck.torch.diagnosis.probe import Probe, can_run_again, is_pointwise
from datacheck.torch.diagnosis.tensors import broadcast_position, element
from datacheck.torch.diagnosis.trace import Harm, trace
from datacheck.torch.diagnosis.underflow import writers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacheck.torch.diagnosis.context import Case
    from datacheck.torch.diagnosis.record import Operation
    from datacheck.torch.diagnosis.trace import Culprit, Step

__all__ = ["behind_a_zero"]

#: Operations that make 0 of an infinite input.
_HIDING = frozenset({"div", "reciprocal", "rsqrt", "exp", "exp2", "sigmoid", "pow", "mul", "softmax"})
#: Operations that fail where weights are 0.
_WEIGHTED = frozenset({"nll_loss_forward", "nll_loss2d_forward"})


def behind_a_zero(case: Case, culprit: Culprit) -> Culprit | None:
    """What made the infinity that became the 0 on which an operation went bad; None where nothing did.

    Only infinities that nobody asked for count: the probability of what a mask of -inf leaves out is 0, and rightly.
    """
    step = culprit.step
    if step is None or culprit.joint or culprit.meant or not _met_a_zero(case, step):
        return None
    tape = case.tape
    operation = case.forward_of(step.operation)
    hiding = [index for index in writers_of(case, operation) if _may_hide(case, tape.operations[index])]
    kept = case.record_again(frozenset(hiding)) if hiding else None
    if kept is None:
        return None
    for index in hiding:
        harms = list(_infinities(kept.operations[index], tape.operations[index], step))
        found = [other for other in trace(tape, harms) if _is_fault(case, other)] if harms else []
        if found:
            return min(found, key=lambda other: other.order)
    return None


def _met_a_zero(case: Case, step: Step) -> bool:
    family = family_of(case.forward_of(step.operation).name)
    if family in _WEIGHTED or step.operation.node is not None:
        return True
    if family not in EDGE_AT_ZERO:
        return False
    for slot in step.operation.slots:
        place = broadcast_position(slot.geometry.shape, step.written.geometry.shape, step.position)
        if slot.held is not None and (place is None or element(slot.held.tensor, place) == 0):
            return True
    return False


def _may_hide(case: Case, operation: Operation) -> bool:
    """Whether an operation may have made 0 of an infinity that it read, or of one that was given."""
    if operation.node is not None or family_of(operation.name) not in _HIDING:
        return False
    for slot in operation.slots:
        if slot.writer is None:
            return True
        for index, number in case.tape.writes.get(slot.geometry.key, ()):
            written = case.tape.operations[index].written[number]
            if index < operation.index and written.geometry.overlaps(slot.geometry):
                return True
    return False


def _infinities(again: Operation, first: Operation, step: Step) -> Iterator[Harm]:
    """For each input an infinity without which a 0 of the operation would be none."""
    if not can_run_again(again) or not again.bad_slots:
        return
    probe = Probe(again, 0, (), 0, whole=True)
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
        held = again.slots[number].held
        place = broadcast_position(again.slots[number].geometry.shape, shape, zero) if is_pointwise(again) else None
        position = int(positions[0]) if place is None else place
        if held is not None and abs(element(held.tensor, position)) == math.inf:
            yield Harm(first.slots[number].geometry, position, first, number, step)


def _is_fault(case: Case, culprit: Culprit) -> bool:
    """Whether an infinity was not asked for: neither written by the program as such, nor the log of a mask."""
    if culprit.meant or culprit.joint:
        return False
    if culprit.source is not None:
        owner = case.owners.find(culprit.source.address)
        return owner.kind != "constant" and not owner.is_mask
    step = culprit.step
    return step is not None and not (
        family_of(step.operation.name) in ("log", "log2", "log10") and step.value == -math.inf
    )
