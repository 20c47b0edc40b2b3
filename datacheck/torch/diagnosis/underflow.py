"""Whether a 0 in half precision would have been something else in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from datacheck.torch.diagnosis.probe import Probe, can_run_again

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.context import Case
    from datacheck.torch.diagnosis.record import Operation
    from datacheck.torch.diagnosis.trace import Step

__all__ = ["lost_epsilon", "lost_value", "writers_of"]

#: How many writers back the number that became 0 is looked for.
MAX_DEPTH = 4

_HALF = (torch.float16, torch.bfloat16)


def lost_epsilon(case: Case, operation: Operation) -> float | None:
    """An epsilon that was rounded to 0 on the way to one of the inputs."""
    found = (case.tape.operations[index].lost_epsilon for index in writers_of(case, operation))
    return next((epsilon for epsilon in found if epsilon is not None), operation.lost_epsilon)


def lost_value(case: Case, step: Step) -> str | None:
    """The operation, on the way to the step, whose result is 0 in half precision and is not in float32."""
    operation = step.operation
    if all(slot.dtype not in _HALF for slot in operation.slots):
        return None
    tape = case.record_again(frozenset(writers_of(case, operation)))
    if tape is None:
        return None
    for index in writers_of(case, operation):
        writer = tape.operations[index]
        if not can_run_again(writer) or writer.bad_slots:
            continue
        probe = Probe(writer, 0, (), 0, whole=True)
        narrow, wide = probe.output({}), probe.output({}, torch.float32)
        if narrow is None or wide is None or narrow.dtype not in _HALF or narrow.shape != wide.shape:
            continue
        lost = ((narrow == 0) & (wide != 0)).reshape(-1)
        at = step.position if narrow.shape == step.written.geometry.shape else None
        if bool(lost[at] if at is not None else lost.any()):
            return writer.name
    return None


def writers_of(case: Case, operation: Operation) -> list[int]:
    """The operations that the inputs come from, nearest first."""
    found: list[int] = []
    level = [operation]
    for _ in range(MAX_DEPTH):
        writers = [slot.writer for current in level for slot in current.slots if slot.writer is not None]
        level = [case.tape.operations[index] for index in dict.fromkeys(writers) if index not in found]
        found.extend(current.index for current in level)
    return found
