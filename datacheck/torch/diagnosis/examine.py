"""From a replay to a diagnosis."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from datacheck.text import plain
from datacheck.torch import _compat
from datacheck.torch.diagnosis.batches import given_storages
from datacheck.torch.diagnosis.context import Case
from datacheck.torch.diagnosis.describe import describe
from datacheck.torch.diagnosis.diagnosis import PHASE_CODES, Diagnosis
from datacheck.torch.diagnosis.frames import ModuleNames
from datacheck.torch.diagnosis.lines import line_in_method, line_that_made
from datacheck.torch.diagnosis.masked_inf import behind_a_zero
from datacheck.torch.diagnosis.recorded_replay import Recording, is_harmed, record
from datacheck.torch.diagnosis.recorder import MAX_KEPT_BYTES
from datacheck.torch.diagnosis.restore import Restorer
from datacheck.torch.diagnosis.tensor_sources import Owners, is_mask
from datacheck.torch.diagnosis.trace import Culprit, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from datacheck.schema.model import Schema
    from datacheck.torch.diagnosis.trace import Source

__all__ = ["examine"]


def examine(
    replay: Callable[[], torch.Tensor],
    *,
    model: nn.Module | None = None,
    batch: Any = None,
    replay_on: Callable[[Any], torch.Tensor] | None = None,
    scale: float = 1.0,
    schema: Schema | None = None,
) -> Diagnosis | None:
    """Replay a step under the microscope and say what harmed it; None if nothing did.

    ``replay`` runs the forward pass and returns the loss. Random states and buffers must be those of the step; both are left
    as they were found, and so are gradients, and tensors that the program overwrites. ``replay_on(batch)`` does the same for
    another batch, and lets samples be named. ``scale`` multiplies the loss before the backward pass, as a GradScaler does.
    With ``schema``, samples to blame that break it make it a fault of the data.
    """
    names = ModuleNames(model)
    restorer = Restorer([] if model is None else [model])
    started = time.monotonic()
    _compat.warn_missing("diagnosis")
    try:
        problem = _compat.recording_problem()
        if problem is not None:
            return _without_recording(replay, scale, problem)
        recording = _record(replay, names, scale, restorer, given_storages(batch))
        if not recording.harms:
            return None
        seconds = time.monotonic() - started
        modules = [*names.roots, *names.strangers]
        owners = Owners(modules, batch)
        case = Case(
            recording, names, owners, restorer, model is not None, replay, batch, replay_on, scale, seconds, schema
        )
        culprits = [_resolve(case, culprit) for culprit in trace(recording.tape, recording.harms)]
        culprit = min(culprits, key=lambda culprit: culprit.order)
        culprit = behind_a_zero(case, culprit) or culprit
        _find_line(case, culprit)
        diagnosis = describe(case, culprit)
        if recording.error is None:
            return diagnosis
        raised = f"it made the program raise {plain(recording.error, 160)}"
        return replace(diagnosis, explanation=f"{diagnosis.explanation}\n{raised}")
    finally:
        restorer.restore()


def _without_recording(replay: Callable[[], torch.Tensor], scale: float, problem: str) -> Diagnosis | None:
    """What one plain replay tells, where operations cannot be recorded."""
    for phase, what in (("loss", "the loss is"), ("backward", "a gradient is")):
        if is_harmed(replay, phase == "backward", scale):
            return Diagnosis(
                code=PHASE_CODES[phase],
                phase=phase,
                cause="unknown",
                explanation=f"{what} non-finite; the operation that made it so is not known, for {problem}",
            )
    return None


def _record(
    replay: Callable[[], torch.Tensor], names: ModuleNames, scale: float, restorer: Restorer, given: frozenset[int]
) -> Recording:
    """The recording; where the device has no room for the values it keeps, one that keeps none."""
    room = MAX_KEPT_BYTES
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        room = min(room, torch.cuda.mem_get_info()[0] // 2)
    try:
        return record(replay, names, scale, room, given=given, restorer=restorer)
    except torch.OutOfMemoryError:
        restorer.restore()
        torch.cuda.empty_cache()
    return record(replay, names, scale, 0, given=given, restorer=restorer)


def _find_line(case: Case, culprit: Culprit) -> None:
    """Name the line in a backward of the user's that no operation of torch's was seen to run in."""
    operation = None if culprit.step is None else culprit.step.operation
    if (
        operation is not None
        and operation.func is None
        and operation.node is not None
        and operation.node.owner is not None
    ):
        found = line_in_method(case, operation.node.owner, "backward")
        if found is not None:
            operation.where = replace(operation.where, place=found.place)


def _resolve(case: Case, culprit: Culprit) -> Culprit:
    """Decide between a source of infinities and the operation that made NaN of them: were they meant?"""
    source = culprit.source
    if source is None or culprit.step is None:
        return culprit
    owner = case.owners.find(source.address)
    meant = (
        _is_meant_constant(case, source) if owner.kind == "constant" else owner.kind != "parameter" and owner.is_mask
    )
    return replace(culprit, source=None) if meant or culprit.joint else replace(culprit, step=None)


def _is_meant_constant(case: Case, source: Source) -> bool:
    """Whether a constant looks like a mask, or comes from where it cannot be seen being made."""
    held = None if source.reader is None else source.reader.slots[source.slot].held
    return held is None or is_mask(held.tensor) or line_that_made(case, held.tensor) is None
