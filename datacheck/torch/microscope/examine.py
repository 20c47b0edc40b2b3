"""From a replay to a diagnosis."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from datacheck.text import count, ordinal_list, plain
from datacheck.torch.causes import judge
from datacheck.torch.diagnosis import PHASE_CODES, ChainLink, Diagnosis
from datacheck.torch.microscope.batches import num_samples, sample_of, take
from datacheck.torch.microscope.evidence import Scene, survey
from datacheck.torch.microscope.frames import ModuleNames
from datacheck.torch.microscope.owners import Owner, Owners
from datacheck.torch.microscope.replay import Recording, is_harmed, record
from datacheck.torch.microscope.samples import blame_samples
from datacheck.torch.microscope.state import Restorer
from datacheck.torch.microscope.tensors import bad_positions, element
from datacheck.torch.microscope.trace import Culprit, Source, Step, trace
from datacheck.torch.remedies import remedy_for

if TYPE_CHECKING:
    from datacheck.torch.microscope.record import Operation, Tape

__all__ = ["examine"]

#: Replays of parts of the batch may take this many times as long as the recorded replay.
SAMPLE_TIME = 6.0

Replay = Callable[[], torch.Tensor]


@dataclass(slots=True)
class _Case:
    """What an examination knows."""

    recording: Recording
    names: ModuleNames
    owners: Owners
    has_model: bool
    last_in_model: int
    batch: Any
    replay_on: Callable[[Any], torch.Tensor] | None
    restorer: Restorer
    scale: float
    seconds: float

    @property
    def tape(self) -> Tape:
        return self.recording.tape


def examine(
    replay: Replay,
    *,
    model: nn.Module | None = None,
    batch: Any = None,
    replay_on: Callable[[Any], torch.Tensor] | None = None,
    scale: float = 1.0,
    observed: str | None = None,
) -> Diagnosis | None:
    """Replay a step under the microscope and say what harmed it; None if nothing did.

    ``replay`` runs the forward pass and returns the loss. The random state and the buffers must be those of the step; both
    are left as they were found, and so are gradients. ``replay_on(batch)`` does the same for another batch, and lets samples
    be named. ``scale`` multiplies the loss before the backward pass, as a GradScaler does. ``observed`` says what went wrong
    in training: then a clean replay is a diagnosis of its own, ``not-reproducible``.
    """
    names = ModuleNames(model)
    restorer = Restorer([] if model is None else [model])
    started = time.monotonic()
    try:
        recording = record(replay, names, scale)
        seconds = time.monotonic() - started
        if not recording.harms:
            return None if observed is None else _not_reproducible(observed)
        restorer.restore()
        owners = Owners(_modules(model, names), batch)
        last = max((op.index for op in recording.tape.operations if op.where.in_model and op.node is None), default=-1)
        case = _Case(recording, names, owners, model is not None, last, batch, replay_on, restorer, scale, seconds)
        return _conclude(case)
    finally:
        restorer.restore()


def _modules(model: nn.Module | None, names: ModuleNames) -> list[nn.Module]:
    return [*names.roots, *names.strangers] if model is None else [model, *names.strangers]


def _not_reproducible(observed: str) -> Diagnosis:
    return Diagnosis(
        code="DC409",
        phase="forward",
        cause="not-reproducible",
        explanation=f"{observed} in training, but not in a replay from the same weights, buffers, batch and random state",
        remedy=remedy_for("not-reproducible", ""),
    )


def _conclude(case: _Case) -> Diagnosis:
    culprits = trace(case.tape, case.recording.harms)
    resolved = sorted((_resolve(case, culprit) for culprit in culprits), key=lambda culprit: culprit.order)
    first = resolved[0]
    diagnosis = _from_source(case, first) if first.source is not None else _from_step(case, first)
    if case.recording.error is not None:
        diagnosis = replace(
            diagnosis,
            explanation=f"{diagnosis.explanation}\nit made the program raise {plain(case.recording.error, 160)}",
        )
    return diagnosis


def _resolve(case: _Case, culprit: Culprit) -> Culprit:
    """Decide between a source of infinities and the operation that made NaN of them: were they meant?"""
    source = culprit.source
    if source is None or culprit.step is None:
        return culprit
    owner = case.owners.find(source.address)
    if owner.kind == "constant" or culprit.joint or (owner.kind != "parameter" and owner.is_mask):
        return replace(culprit, source=None)
    return replace(culprit, step=None)


def _from_step(case: _Case, culprit: Culprit) -> Diagnosis:
    step = culprit.step
    if step is None:
        raise LookupError("a culprit is either a step or a source")
    copied = _copied_input(case, step)
    if copied is not None:
        return _of_input(case, copied, step.operation, step)
    scene = survey(
        case.tape,
        step,
        case.owners,
        joint=culprit.joint,
        meant=culprit.meant,
        in_gradient=case.recording.in_gradient,
    )
    verdict = judge(scene.evidence)
    forward = scene.forward
    place, module = _place_of(case, step.operation, forward)
    phase = "backward" if case.recording.in_gradient else _phase_of(case, forward)
    return Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=verdict.cause,
        explanation=verdict.explanation,
        remedy=verdict.remedy,
        module=module,
        op=forward.name,
        filename=None if place is None else place.filename,
        lineno=None if place is None else place.lineno,
        source=None if place is None else place.source,
        field=_field_read(case, forward),
        samples=_samples(case, _guesses(case, scene), everything=len(scene.born) == scene.evidence.num_values),
        chain=_chain(case, step),
    )


def _place_of(case: _Case, operation: Operation, forward: Operation) -> tuple[Any, str | None]:
    """The user's line, and the module: of a custom backward the line in it, and the module that called it forward."""
    if operation.where.place is not None and operation.node is not None:
        origin = case.tape.forward_of(operation.node)
        module = operation.where.module or (None if origin is None else origin.where.module)
        return operation.where.place, module
    return forward.where.place, forward.where.module


def _phase_of(case: _Case, operation: Operation) -> str:
    """Forward is what the model does and what it is given; the loss is what is made of its output."""
    if operation.where.in_model or not case.has_model:
        return "forward"
    return "forward" if case.tape.reaches(operation, case.last_in_model) else "loss"


def _field_read(case: _Case, operation: Operation) -> str | None:
    """The field of the batch that an operation reads directly."""
    for slot in operation.slots:
        owner = case.owners.find(slot.geometry.start)
        if owner.kind == "input":
            return owner.name
    return None


def _copied_input(case: _Case, step: Step) -> Owner | None:
    held = step.written.held
    return case.owners.copied_from(held.tensor) if step.operation.is_constant and held is not None else None


def _from_source(case: _Case, culprit: Culprit) -> Diagnosis:
    source = culprit.source
    if source is None:
        raise LookupError("a culprit is either a step or a source")
    owner = case.owners.find(source.address)
    if owner.kind == "input":
        return _of_input(case, owner, source.reader, culprit.first)
    return _of_state(case, owner, source, culprit)


def _of_input(case: _Case, owner: Owner, reader: Operation | None, first: Step | None) -> Diagnosis:
    tensor = owner.tensor if owner.tensor is not None else torch.empty(0)
    bad = bad_positions(tensor)
    samples = _samples_of_input(case, owner, tensor, bad)
    value = element(tensor, int(bad[0]))
    index = [int(digit) for digit in np.unravel_index(int(bad[0]), tensor.shape)]
    name = "the batch" if owner.name is None else f"'{plain(owner.name)}'"
    place = None if reader is None else reader.where.place
    return Diagnosis(
        code=PHASE_CODES["input"],
        phase="input",
        cause="input-not-finite",
        explanation=f"{count(len(bad))} of {count(tensor.numel())} values of {name} are not finite: {value} at {index}"
        + (f"; {ordinal_list('sample', samples[:8], len(samples) > 8)}" if samples else ""),
        remedy=remedy_for("input-not-finite", ""),
        module=None if reader is None else reader.where.module,
        op=None if reader is None else reader.name,
        filename=None if place is None else place.filename,
        lineno=None if place is None else place.lineno,
        source=None if place is None else place.source,
        field=owner.name,
        samples=samples,
        chain=(ChainLink(f"input {name}", "input", num_bad=len(bad), num_values=tensor.numel()), *_chain(case, first)),
    )


def _samples_of_input(case: _Case, owner: Owner, tensor: torch.Tensor, bad: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """The samples that a field's bad values belong to, less those whose bad values do no harm."""
    size = num_samples(case.batch)
    own = sample_of(case.batch, owner.name)
    rows = _rows(tensor, bad) if own is None else [own]
    if size is None or (own is None and (not tensor.dim() or tensor.shape[0] != size)):
        return ()
    found = _samples(case, [rows], everything=False)
    return found or (tuple(rows) if size == len(rows) or case.replay_on is None else ())


def _of_state(case: _Case, owner: Owner, source: Source, culprit: Culprit) -> Diagnosis:
    """A parameter, a buffer or a constant that was not finite before the step."""
    reader = source.reader
    tensor = owner.tensor
    if tensor is None and reader is not None and reader.slots[source.slot].held is not None:
        held = reader.slots[source.slot].held
        tensor = None if held is None else held.tensor
    bad = np.empty(0, np.int64) if tensor is None else bad_positions(tensor)
    num_values = 0 if tensor is None else tensor.numel()
    value = "" if tensor is None or not len(bad) else f": {element(tensor, int(bad[0]))} at flat position {bad[0]}"
    cause = {"parameter": "parameter-not-finite", "buffer": "buffer-not-finite"}.get(owner.kind, "constant-not-finite")
    phase = owner.kind if owner.kind in ("parameter", "buffer") else "forward"
    if phase == "forward" and reader is not None:
        phase = "backward" if case.recording.in_gradient else _phase_of(case, reader)
    name = f"{owner.kind} '{plain(owner.name)}'" if owner.name else "a constant of the program"
    module = owner.name.rpartition(".")[0] if owner.name else None
    place = None if reader is None else reader.where.place
    return Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=cause,
        explanation=f"{count(len(bad))} of {count(num_values)} values of {name} were not finite before the step{value}",
        remedy=remedy_for(cause, ""),
        module=module or (None if reader is None else reader.where.module),
        op=None if reader is None else reader.name,
        filename=None if place is None else place.filename,
        lineno=None if place is None else place.lineno,
        source=None if place is None else place.source,
        chain=(ChainLink(name, phase, module, num_bad=len(bad), num_values=num_values), *_chain(case, culprit.first)),
    )


def _chain(case: _Case, step: Step | None) -> tuple[ChainLink, ...]:
    links: list[ChainLink] = []
    for passed in [] if step is None else step.path():
        operation = passed.operation
        forward = operation
        if operation.node is not None and operation.where.place is None:
            forward = case.tape.forward_of(operation.node) or operation
        place, module = _place_of(case, operation, forward)
        is_backward = operation.in_backward and operation.node is not None
        links.append(
            ChainLink(
                operation.name,
                "backward" if is_backward else _phase_of(case, forward),
                module,
                None if place is None else place.filename,
                None if place is None else place.lineno,
                passed.written.num_bad,
                passed.written.geometry.num_values,
            )
        )
    links.append(
        ChainLink(
            "gradient" if case.recording.in_gradient else "loss", "backward" if case.recording.in_gradient else "loss"
        )
    )
    return tuple(links)


def _rows(tensor: torch.Tensor, bad: np.ndarray[Any, Any]) -> list[int]:
    if not tensor.dim() or not len(bad):
        return []
    return [int(row) for row in np.unique(bad // max(tensor[0].numel(), 1))]


def _guesses(case: _Case, scene: Scene) -> list[list[int]]:
    """Samples that positions in the culprit's output may stand for: along each dimension of the batch's length."""
    size = num_samples(case.batch)
    if size is None or not scene.shape or not len(scene.born):
        return []
    coordinates = np.unravel_index(scene.born, scene.shape)
    guesses: list[list[int]] = []
    for dim, length in enumerate(scene.shape):
        if length == size:
            guesses.append([int(row) for row in np.unique(coordinates[dim])])
        elif length > size and length % size == 0:
            guesses.append([int(row) for row in np.unique(coordinates[dim] // (length // size))])
            guesses.append([int(row) for row in np.unique(coordinates[dim] % size)])
    return guesses


def _samples(case: _Case, guesses: Sequence[Sequence[int]], *, everything: bool) -> tuple[int, ...]:
    """The samples to blame. All of them are only named where the operation went bad in some of its values only."""
    size = num_samples(case.batch)
    replay_on = case.replay_on
    if size is None or replay_on is None:
        return ()
    in_gradient = case.recording.in_gradient

    def harmed(positions: Sequence[int]) -> bool | None:
        case.restorer.restore()
        try:
            part = take(case.batch, positions, size)
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError):
            return None
        return is_harmed(lambda: replay_on(part), in_gradient, case.scale)

    found = blame_samples(size, harmed, guesses, max(case.seconds * SAMPLE_TIME, 0.5))
    return () if len(found) == size and everything else found
