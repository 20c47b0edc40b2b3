"""From a culprit to the words and fields of a diagnosis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from datacheck.text import count, ordinal_list, plain
from datacheck.torch.diagnosis.causes import judge
from datacheck.torch.diagnosis.diagnosis import PHASE_CODES, ChainLink, Diagnosis
from datacheck.torch.diagnosis.evidence import survey
from datacheck.torch.diagnosis.fixes import remedy_for
from datacheck.torch.diagnosis.lines import line_that_made
from datacheck.torch.diagnosis.sample_attribution import (
    find_violation,
    origins_of,
    samples_of_field,
    samples_of_scene,
    samples_of_values,
)
from datacheck.torch.diagnosis.tensor_sources import is_mask
from datacheck.torch.diagnosis.tensors import bad_positions, element

if TYPE_CHECKING:
    import torch

    from datacheck.torch.diagnosis.context import Case
    from datacheck.torch.diagnosis.frames import Whereabouts
    from datacheck.torch.diagnosis.record import Operation
    from datacheck.torch.diagnosis.tensor_sources import Owner
    from datacheck.torch.diagnosis.trace import Culprit, Source, Step

__all__ = ["describe"]

#: Operations that may lie between a field and what was made of it alone.
MAX_MAKERS = 16


def describe(case: Case, culprit: Culprit) -> Diagnosis:
    """The diagnosis of what is to blame."""
    if culprit.source is None:
        diagnosis = _of_step(case, culprit)
    else:
        diagnosis = _of_source(case, culprit.source, culprit.first)
    diagnosis = replace(diagnosis, origins=origins_of(case.batch, diagnosis.samples))
    return _with_schema(case, diagnosis)


def _of_source(case: Case, source: Source, first: Step | None) -> Diagnosis:
    owner = case.owners.find(source.address)
    if owner.kind == "constant" and source.reader is not None:
        held = source.reader.slots[source.slot].held
        owner = (None if held is None else case.owners.copied_from(held.tensor)) or owner
    if owner.kind == "input":
        return _of_input(case, owner, source.reader, first)
    return _of_state(case, owner, source, first)


def _of_step(case: Case, culprit: Culprit) -> Diagnosis:
    step = culprit.step
    if step is None:
        raise LookupError("a culprit is either a step or a source")
    held = step.written.held
    copied = case.owners.copied_from(held.tensor) if step.operation.is_constant and held is not None else None
    if copied is not None:
        # What made the tensor only copied the field: the operation that read it is the first to name.
        reader = step.operation if step.then is None else step.then.operation
        return _of_input(case, copied, reader, step)
    origin = culprit.first or step
    values = origin.written.held
    if origin.operation.is_constant and values is not None and not culprit.joint and not is_mask(values.tensor):
        made = line_that_made(case, values.tensor)
        if made is not None:
            return _of_python(case, made, values.tensor, origin.operation, origin)
    scene = survey(case, step, joint=culprit.joint, meant=culprit.meant)
    verdict = judge(scene.evidence)
    phase = "backward" if case.in_gradient else case.phase_of(scene.forward)
    diagnosis = Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=verdict.cause,
        explanation=verdict.explanation,
        remedy=verdict.remedy,
        op=scene.forward.name,
        field=_field_read(case, scene.forward),
        samples=samples_of_scene(case, scene),
        chain=case.chain(step),
    )
    placed = _placed(case, step.operation, diagnosis)
    if placed.cause == "fully-masked-softmax" and isinstance(case.names.module(placed.module), nn.MultiheadAttention):
        # The softmax is torch's own: what can be changed is the mask that the layer is given.
        return replace(placed, remedy=remedy_for(placed.cause, "multi_head_attention"))
    return placed


def _placed(case: Case, operation: Operation | None, diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis with the module and the line of an operation."""
    if operation is None:
        return diagnosis
    place, module = case.place_of(operation)
    module = diagnosis.module or module
    if place is None:
        return replace(diagnosis, module=module)
    return replace(diagnosis, module=module, filename=place.filename, lineno=place.lineno, source=place.source)


def _field_read(case: Case, operation: Operation) -> str | None:
    """The field of the batch that an operation reads directly, or the one that all it reads was made of."""
    for slot in operation.slots:
        owner = case.owners.find(slot.geometry.start)
        if owner.kind == "input":
            return owner.name
    return _only_field_behind(case, operation)


def _only_field_behind(case: Case, operation: Operation) -> str | None:
    """The one field of the batch from which alone, in a few operations, everything that an operation reads was made."""
    names: set[str | None] = set()
    pending, seen = [operation], {operation.index}
    while pending:
        for slot in pending.pop().slots:
            owner = case.owners.find(slot.geometry.start)
            if owner.kind == "input":
                names.add(owner.name)
            elif slot.writer is None or len(seen) > MAX_MAKERS:
                return None
            elif slot.writer not in seen:
                seen.add(slot.writer)
                pending.append(case.tape.operations[slot.writer])
    return names.pop() if len(names) == 1 else None


def _of_input(case: Case, owner: Owner, reader: Operation | None, first: Step | None) -> Diagnosis:
    tensor = owner.tensor
    if tensor is None:
        raise LookupError("a field of the batch has values")
    bad = bad_positions(tensor)
    samples = samples_of_field(case, owner, bad)
    index = [int(digit) for digit in np.unravel_index(int(bad[0]), tensor.shape)]
    name = "the batch" if owner.name is None else f"'{plain(owner.name)}'"
    named = f"; {ordinal_list('sample', samples[:8], len(samples) > 8)}" if samples else ""
    diagnosis = Diagnosis(
        code=PHASE_CODES["input"],
        phase="input",
        cause="input-not-finite",
        explanation=f"{count(len(bad))} of {count(tensor.numel())} values of {name} are not finite:"
        f" {element(tensor, int(bad[0]))} at {index}{named}",
        remedy=remedy_for("input-not-finite", ""),
        op=None if reader is None else reader.name,
        field=owner.name,
        samples=samples,
        chain=(ChainLink(f"input {name}", "input", num_bad=len(bad), num_values=tensor.numel()), *case.chain(first)),
    )
    return _placed(case, reader, diagnosis)


def _of_state(case: Case, owner: Owner, source: Source, first: Step | None) -> Diagnosis:
    """A parameter, a buffer or a constant that was not finite before the step."""
    reader = source.reader
    tensor = owner.tensor
    if tensor is None and reader is not None:
        held = reader.slots[source.slot].held
        tensor = None if held is None else held.tensor
        made = None if tensor is None else line_that_made(case, tensor)
        if tensor is not None and made is not None:
            return _of_python(case, made, tensor, reader, first)
    cause = {"parameter": "parameter-not-finite", "buffer": "buffer-not-finite"}.get(owner.kind, "constant-not-finite")
    phase = owner.kind if owner.kind in ("parameter", "buffer") else "forward"
    if phase == "forward" and reader is not None:
        phase = "backward" if case.in_gradient else case.phase_of(reader)
    name = f"{owner.kind} '{plain(owner.name)}'" if owner.name else "a tensor from outside the replay"
    num_bad, num_values, counted = _counted(tensor)
    diagnosis = Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=cause,
        explanation=counted.format(name=name, were="were not finite before the step"),
        remedy=remedy_for(cause, _kind_of_state(owner, tensor)),
        op=None if reader is None else reader.name,
        module=owner.name.rpartition(".")[0] or None if owner.name else None,
        chain=(ChainLink(name, phase, num_bad=num_bad, num_values=num_values), *case.chain(first)),
    )
    return _placed(case, reader, diagnosis)


def _kind_of_state(owner: Owner, tensor: torch.Tensor | None) -> str:
    """What tells remedies of one cause apart, in the place of an operation."""
    if owner.kind == "constant":
        return "nan" if tensor is not None and bool(tensor.isnan().any()) else ""
    return "running" if "running_" in (owner.name or "") else ""


def _counted(tensor: torch.Tensor | None) -> tuple[int, int, str]:
    """How many values of a tensor are not finite, how many it has, and a sentence that says so of a ``name``."""
    if tensor is None:
        return 0, 0, "values of {name} {were}"
    bad = bad_positions(tensor)
    value = ""
    if len(bad):
        index = [int(digit) for digit in np.unravel_index(int(bad[0]), tensor.shape)] if tensor.dim() else []
        value = f": {element(tensor, int(bad[0]))}{f' at {index}' if index else ''}"
    return len(bad), tensor.numel(), f"{count(len(bad))} of {count(tensor.numel())} values of {{name}} {{were}}{value}"


def _of_python(case: Case, made: Whereabouts, tensor: torch.Tensor, reader: Operation, first: Step | None) -> Diagnosis:
    """Values that Python code of the program made, in NumPy for instance, where torch sees no operation."""
    is_backward = reader.is_custom
    phase = "backward" if case.in_gradient else "forward" if made.in_model else case.phase_of(reader)
    cause = "bad-custom-backward" if is_backward else "constant-not-finite"
    num_bad, num_values, counted = _counted(tensor)
    diagnosis = Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=cause,
        explanation=counted.format(name="an array that the program made", were="are not finite"),
        remedy=remedy_for(cause, ""),
        op=reader.name,
        module=made.module,
        samples=samples_of_values(case, tensor),
        chain=(ChainLink("an array", phase, num_bad=num_bad, num_values=num_values), *case.chain(first)),
    )
    place = made.place
    if place is None:
        return diagnosis
    return replace(diagnosis, filename=place.filename, lineno=place.lineno, source=place.source)


def _with_schema(case: Case, diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis as one of the data, where the samples to blame break the schema."""
    if case.schema is None or diagnosis.phase in ("parameter", "buffer", "input"):
        return diagnosis
    violation = find_violation(case.batch, case.schema, diagnosis.samples)
    if violation is None:
        return diagnosis
    name = "the batch" if violation.field is None else f"'{plain(violation.field)}'"
    link = ChainLink(f"input {name}", "input", num_bad=violation.num_violations, num_values=violation.num_checked)
    samples = diagnosis.samples or violation.rows
    return replace(
        diagnosis,
        code=PHASE_CODES["input"],
        phase="input",
        cause="input-out-of-schema",
        explanation=f"{violation.message}\nso that {diagnosis.explanation}",
        remedy=f"{remedy_for('input-out-of-schema', '')}\n{diagnosis.remedy}",
        field=violation.field,
        samples=samples,
        origins=origins_of(case.batch, samples),
        chain=(link, *diagnosis.chain),
    )
