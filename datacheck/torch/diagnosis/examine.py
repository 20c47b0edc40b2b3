"""From a replay to a diagnosis."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from datacheck.text import plain
from datacheck.torch import _compat, _private_names
from datacheck.torch.diagnosis.batches import given_storages
from datacheck.torch.diagnosis.context import Context
from datacheck.torch.diagnosis.describe import describe
from datacheck.torch.diagnosis.diagnosis import PHASE_CODES, Diagnosis
from datacheck.torch.diagnosis.frames import ModuleNames
from datacheck.torch.diagnosis.lines import find_line_in_method, find_line_that_made
from datacheck.torch.diagnosis.loss_terms import describe_terms
from datacheck.torch.diagnosis.masked_inf import find_masked_infinity
from datacheck.torch.diagnosis.origin import INTENDED, Origin
from datacheck.torch.diagnosis.precision_loss import find_precision_loss
from datacheck.torch.diagnosis.recorded_replay import Recording, record, reproduces
from datacheck.torch.diagnosis.recorder import MAX_KEPT_BYTES
from datacheck.torch.diagnosis.restore import Restorer
from datacheck.torch.diagnosis.root_cause import InitialValue, RootCause, find_root_causes
from datacheck.torch.diagnosis.tensor_sources import TensorSources

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from datacheck.schema.model import Schema


def examine(
    replay: Callable[[], torch.Tensor],
    *,
    model: nn.Module | None = None,
    batch: Any = None,
    replay_on: Callable[[Any], torch.Tensor] | None = None,
    scale: float = 1.0,
    schema: Schema | None = None,
    note_lost: Callable[[str, str], None] | None = None,
) -> Diagnosis | None:
    """Replay a step under the recorder and diagnose its loss or gradients; None if all are finite.

    ``replay`` runs the forward pass and returns the loss. Random states and buffers must be the step's; both are left
    as they were found, and so are gradients, and tensors that the program overwrites. ``replay_on(batch)`` does the same for
    another batch, so that samples can be named. ``scale`` multiplies the loss before the backward pass, as a GradScaler does.
    With ``schema``, samples that caused the fault and violate the schema make it a fault in the data. ``note_lost`` receives
    what a finite step lost to the range of half precision.
    """
    names = ModuleNames(model)
    restorer = Restorer([] if model is None else [model])
    started = time.monotonic()
    _private_names.warn_missing("diagnosis")
    try:
        problem = _compat.recording_problem()
        if problem is not None:
            return _without_recording(replay, scale, problem)
        recording = _record(replay, names, scale, restorer, given_storages(batch))
        context = Context(
            recording,
            names,
            TensorSources([*names.roots, *names.outside_modules], batch),
            restorer,
            model is not None,
            replay,
            batch,
            replay_on,
            scale,
            time.monotonic() - started,
            schema,
        )
        if not recording.bad_outputs:
            if note_lost is not None:
                for place, detail in find_precision_loss(context):
                    note_lost(place, detail)
            return None
        context.root_causes = [
            _resolve(context, root_cause) for root_cause in find_root_causes(recording.trace, recording.bad_outputs)
        ]
        root_cause = min(context.root_causes, key=lambda root_cause: root_cause.order)
        root_cause = find_masked_infinity(context, root_cause) or root_cause
        _find_line(context, root_cause)
        diagnosis = describe(context, root_cause)
        more = _explain_more(recording)
        return replace(diagnosis, explanation=f"{diagnosis.explanation}\n{more}") if more else diagnosis
    finally:
        restorer.restore()


def _explain_more(recording: Recording) -> str:
    """The error that the bad value made the program raise, or the terms of a non-finite loss."""
    if recording.error is not None:
        return f"it made the program raise {plain(recording.error, 160)}"
    return "" if recording.in_gradient else describe_terms(recording.trace, recording.bad_outputs[0])


def _without_recording(replay: Callable[[], torch.Tensor], scale: float, problem: str) -> Diagnosis | None:
    """The diagnosis from a plain replay, where operations cannot be recorded."""
    for phase, what in (("loss", "the loss is"), ("backward", "a gradient is")):
        if reproduces(replay, phase == "backward", scale):
            return Diagnosis(
                code=PHASE_CODES[phase],
                phase=phase,
                cause="unknown",
                explanation=f"{what} non-finite; the operation that made it so is unknown, because {problem}",
            )
    return None


def _record(
    replay: Callable[[], torch.Tensor], names: ModuleNames, scale: float, restorer: Restorer, given: frozenset[int]
) -> Recording:
    """The recording; one without saved values where the device has no memory for them."""
    room = MAX_KEPT_BYTES
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        room = min(room, torch.cuda.mem_get_info()[0] // 2)
    try:
        return record(replay, names, scale, max_bytes=room, given=given, restorer=restorer)
    except torch.OutOfMemoryError:
        restorer.restore()
        torch.cuda.empty_cache()
    return record(replay, names, scale, max_bytes=0, given=given, restorer=restorer)


def _find_line(context: Context, root_cause: RootCause) -> None:
    """Find the line of a custom backward in which no operation of torch was seen to run."""
    operation = None if root_cause.step is None else root_cause.step.operation
    node = None if operation is None or operation.func is not None else operation.node
    if operation is not None and node is not None and node.function is not None:
        found = find_line_in_method(context, node.function, "backward")
        if found is not None:
            operation.where = replace(operation.where, line=found.line)


def _resolve(context: Context, root_cause: RootCause) -> RootCause:
    """Decide between initial infinities and the operation that turned them into NaN: were they intended?"""
    initial = root_cause.initial
    if initial is None or root_cause.step is None:
        return root_cause
    intended = context.origin_of(initial) in INTENDED and not _was_computed_in_python(context, initial)
    return replace(root_cause, initial=None) if intended or root_cause.joint else replace(root_cause, step=None)


def _was_computed_in_python(context: Context, initial: InitialValue) -> bool:
    """Whether a constant without a mask's values was computed by a line of the program, in NumPy for instance."""
    tensor = initial.tensor
    if context.origin_of(initial) is not Origin.LITERAL or tensor is None:
        return False
    return find_line_that_made(context, tensor) is not None
