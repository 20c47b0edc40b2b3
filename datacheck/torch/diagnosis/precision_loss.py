"""What half precision lost although the step is finite: infinities that were divided away, and epsilons that became 0.

``x * rsqrt(mean(x ** 2) + eps)`` in float16 with x = 300: the square is infinite, its inverse root 0, and so are the layer's
output and every gradient through it. Nothing is non-finite at the end, and nothing trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from datacheck.torch.diagnosis.causes.evidence import EDGE_AT_ZERO, show
from datacheck.torch.diagnosis.origin import Origin
from datacheck.torch.diagnosis.probe import Probe, can_run_again
from datacheck.torch.diagnosis.root_cause import BadOutput, find_root_causes
from datacheck.torch.values import bad_positions, dtype_name

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.record import Operation, Trace
    from datacheck.torch.diagnosis.root_cause import Step


_HALF = (torch.float16, torch.bfloat16)
#: Operations that turn an infinity into 0 for good.
_DIVIDING = frozenset({"div", "reciprocal", "rsqrt"})
#: Operations between an epsilon and the one that it should keep away from 0.
MAX_READERS = 3
#: Warnings of one step.
MAX_WARNINGS = 8


class PrecisionWarning(UserWarning):
    """A finite step lost values to the range of half precision."""


def find_precision_loss(context: Context) -> list[tuple[str, str]]:
    """What a finite step lost: the place in the program, and what happened there."""
    trace = context.trace
    if not any(op_input.dtype in _HALF for operation in trace.operations for op_input in operation.inputs):
        return []
    messages = [*_lost_epsilons(context), *_divided_away(context)]
    return list(dict.fromkeys(messages))[:MAX_WARNINGS]


def _lost_epsilons(context: Context) -> Iterator[tuple[str, str]]:
    for operation in context.trace.operations:
        epsilon = operation.lost_epsilon
        if epsilon is not None and operation.node is None and _reaches_edge(context.trace, operation):
            dtype = dtype_name(operation.inputs[0].dtype) if operation.inputs else "float16"
            yield _place(operation), f"eps {epsilon:g} rounds to 0 in {dtype}, so it has no effect"


def _reaches_edge(trace: Trace, operation: Operation) -> bool:
    """Whether the result is soon read by an operation that fails at 0."""
    touched = {operation.index}
    for later in trace.operations[operation.index + 1 :]:
        if len(touched) > MAX_READERS:
            return False
        if later.node is None and any(op_input.writer in touched for op_input in later.inputs):
            if later.family in EDGE_AT_ZERO:
                return True
            touched.add(later.index)
    return False


def _divided_away(context: Context) -> Iterator[tuple[str, str]]:
    trace = context.trace
    readers = [op.index for op in trace.operations if op.node is None and _may_read_infinity(trace, op)]
    kept = context.record_again(frozenset(readers)) if readers else None
    if kept is None:
        return
    for index in readers:
        reader, first = kept.operations[index], trace.operations[index]
        divisor = len(reader.inputs) - 1
        if reader.is_bad or not can_run_again(reader) or divisor not in reader.bad_inputs:
            continue
        saved = reader.inputs[divisor].saved
        position = 0 if saved is None else int(bad_positions(saved.tensor)[0])
        for cause in find_root_causes(trace, [BadOutput(first.inputs[divisor].geometry, position, first, divisor)]):
            step = cause.step
            if step is None or cause.intended or step.origin is not Origin.COMPUTED:
                continue
            value = _value_in_float32(step, reader, divisor)
            if value is not None:
                dtype = dtype_name(step.written.dtype)
                maker, divider = step.operation.family, reader.family
                lost = f"{maker} overflows {dtype} to infinity, and {divider} turns that into 0"
                yield _place(step.operation), f"{lost}, where float32 gives {show(value)}"


def _may_read_infinity(trace: Trace, operation: Operation) -> bool:
    if operation.family not in _DIVIDING or not operation.inputs:
        return False
    written = trace.bad_writes_over(operation.inputs[-1].geometry, operation.index)
    return any(one.dtype in _HALF for one in written)


def _value_in_float32(step: Step, reader: Operation, divisor: int) -> float | None:
    """What the reader would have given in float32, where that is a normal number of the dtype that was 0 instead."""
    wide: torch.Tensor | None = None
    for link in step.path():
        if not can_run_again(link.operation):
            return None
        probe = Probe(link.operation, link.written.output)
        if wide is not None:
            for number in link.operation.bad_inputs:
                probe.replace(number, wide)
        wide = probe.output({}, torch.float32)
        if wide is None or not bool(torch.isfinite(wide).all()):
            return None
    actual = Probe(reader)
    given = actual.output(actual.bad)
    actual.replace(divisor, wide if wide is not None else torch.empty(0))
    better = actual.output({}, torch.float32)
    if given is None or better is None or given.shape != better.shape:
        return None
    lost = (given == 0) & (better.abs() >= torch.finfo(torch.float16).tiny)
    return float(better[lost][0]) if bool(lost.any()) else None


def _place(operation: Operation) -> str:
    line = operation.where.line
    module = f" in {operation.where.module}" if operation.where.module else ""
    return "the step" + module if line is None else f"{line.filename}:{line.lineno}{module}"
