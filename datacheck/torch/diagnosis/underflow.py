"""Finds zeros in half precision that float32 would not have rounded to 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from datacheck.torch.diagnosis.probe import Probe, can_run_again

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.record import Operation
    from datacheck.torch.diagnosis.root_cause import Step


#: How many operations back a number that became 0 is searched.
MAX_DEPTH = 4

_HALF = (torch.float16, torch.bfloat16)


def lost_epsilon(context: Context, operation: Operation) -> float | None:
    """An epsilon that was rounded to 0 on the path to one of the inputs."""
    found = (context.trace.operations[index].lost_epsilon for index in writers_of(context, operation))
    return next((epsilon for epsilon in found if epsilon is not None), operation.lost_epsilon)


def lost_value(context: Context, step: Step) -> str | None:
    """The operation before the step whose result is 0 in half precision but not in float32."""
    operation = step.operation
    if all(op_input.dtype not in _HALF for op_input in operation.inputs):
        return None
    trace = context.record_again(frozenset(writers_of(context, operation)))
    if trace is None:
        return None
    for index in writers_of(context, operation):
        writer = trace.operations[index]
        if not can_run_again(writer) or writer.bad_inputs:
            continue
        probe = Probe(writer)
        narrow, wide = probe.output({}), probe.output({}, torch.float32)
        if narrow is None or wide is None or narrow.dtype not in _HALF or narrow.shape != wide.shape:
            continue
        lost = ((narrow == 0) & (wide != 0)).reshape(-1)
        at = step.position if narrow.shape == step.written.geometry.shape else None
        if bool(lost[at] if at is not None else lost.any()):
            return writer.name
    return None


def writers_of(context: Context, operation: Operation) -> list[int]:
    """The operations that the inputs come from, nearest first."""
    found: list[int] = []
    level = [operation]
    for _ in range(MAX_DEPTH):
        writers = [op_input.writer for current in level for op_input in current.inputs if op_input.writer is not None]
        level = [context.trace.operations[index] for index in dict.fromkeys(writers) if index not in found]
        found.extend(current.index for current in level)
    return found
