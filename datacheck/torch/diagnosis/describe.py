"""From a root cause to the fields and wording of a diagnosis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from datacheck.text import count, ordinal_list, plain
from datacheck.torch.diagnosis.batch_schema import BatchSchema
from datacheck.torch.diagnosis.causes.rules import INTENDED_INFINITY, classify
from datacheck.torch.diagnosis.diagnosis import PHASE_CODES, ChainLink, Diagnosis
from datacheck.torch.diagnosis.evidence import gather_evidence
from datacheck.torch.diagnosis.fixes.advice import ADVICE
from datacheck.torch.diagnosis.fixes.suggest import suggest_fix
from datacheck.torch.diagnosis.library_calls import find_library_call, result_of_call
from datacheck.torch.diagnosis.lines import find_line_that_changed, find_line_that_made
from datacheck.torch.diagnosis.origin import Origin
from datacheck.torch.diagnosis.sample_attribution import (
    origins_of,
    samples_of_field,
    samples_of_operation,
    samples_of_values,
)
from datacheck.torch.loader.index_tracking import describe_lost_origins
from datacheck.torch.values import bad_positions, element, index_of, is_finite

if TYPE_CHECKING:
    import torch

    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.frames import CodeLocation, SourceLine
    from datacheck.torch.diagnosis.record import Operation
    from datacheck.torch.diagnosis.root_cause import InitialValue, RootCause, Step
    from datacheck.torch.diagnosis.tensor_sources import TensorSource


#: The most operations between a field and what was computed from it alone.
MAX_MAKERS = 16


def describe(context: Context, root_cause: RootCause) -> Diagnosis:
    """The diagnosis of a root cause."""
    if root_cause.initial is None:
        diagnosis = _of_step(context, root_cause)
    else:
        diagnosis = _of_initial(context, root_cause.initial, root_cause.first)
    diagnosis = replace(diagnosis, origins=origins_of(context.batch, diagnosis.samples))
    diagnosis = _with_schema(context, diagnosis)
    lost = describe_lost_origins() if diagnosis.samples and not diagnosis.origins else ""
    return replace(diagnosis, explanation=f"{diagnosis.explanation}\n{lost}") if lost else diagnosis


def _of_initial(context: Context, initial: InitialValue, first: Step | None) -> Diagnosis:
    tensor_source = context.tensor_sources.find(initial.address)
    if tensor_source.kind == "constant" and initial.tensor is not None:
        tensor_source = context.tensor_sources.copied_from(initial.tensor) or tensor_source
    if tensor_source.kind == "input":
        return _of_input(context, tensor_source, initial.reader, first)
    return _of_state(context, tensor_source, initial, first)


def _of_step(context: Context, root_cause: RootCause) -> Diagnosis:
    step = root_cause.step
    if step is None:
        raise LookupError("a root cause has a step or an initial value")
    saved = step.written.saved
    copied = (
        context.tensor_sources.copied_from(saved.tensor) if step.operation.is_constant and saved is not None else None
    )
    if copied is not None:
        # The tensor is only a copy of the field: the first operation to report is the one that read it.
        reader = step.operation if step.then is None else step.then.operation
        return _of_input(context, copied, reader, step)
    origin = root_cause.first or step
    values = origin.written.saved
    if origin.operation.is_constant and origin.origin is Origin.LITERAL and values is not None and not root_cause.joint:
        made = find_line_that_made(context, values.tensor)
        if made is not None:
            return _of_python(context, made, values.tensor, origin.operation, origin)
    op_evidence = gather_evidence(context, step, joint=root_cause.joint, intended=root_cause.intended)
    classification = classify(op_evidence.evidence)
    is_constant = classification.cause == "constant-not-finite" or INTENDED_INFINITY in classification.explanation
    if root_cause.intended and is_constant:
        returned = _of_library_call(context, root_cause.first or step)
        if returned is not None:
            return returned
    phase = "backward" if context.in_gradient else context.phase_of(op_evidence.forward)
    diagnosis = Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=classification.cause,
        explanation=classification.explanation,
        op=op_evidence.forward.name,
        field=_field_read(context, op_evidence.forward),
        samples=samples_of_operation(context, op_evidence),
        chain=context.chain(step),
    )
    diagnosis = _with_line(context, step.operation, diagnosis)
    operations = _operations_at_fault(context, root_cause, step)
    fix = suggest_fix(context, diagnosis.cause, operations, step.written.dtype, op_evidence.evidence.op)
    return replace(diagnosis, remedy=fix.code, remedy_verified=fix.is_verified, remedy_check=fix.check)


def _of_library_call(context: Context, first: Step) -> Diagnosis | None:
    """A constant that a function of a library wrote for what it received; None where the program gave the constant."""
    called = find_library_call(context, first.operation)
    if called is None:
        return None
    step = result_of_call(first)
    found = gather_evidence(context, step, joint=False, intended=True)
    evidence = replace(found.evidence, op=called, ran=called, inputs=(), scalars=(), intended=False, is_returned=True)
    classification = classify(evidence)
    phase = "backward" if context.in_gradient else context.phase_of(first.operation)
    diagnosis = Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=classification.cause,
        explanation=classification.explanation,
        op=called,
        samples=samples_of_operation(context, replace(found, evidence=evidence)),
        chain=context.chain(step),
    )
    fix = suggest_fix(context, diagnosis.cause, [first.operation], step.written.dtype, called)
    diagnosis = replace(diagnosis, remedy=fix.code, remedy_verified=fix.is_verified, remedy_check=fix.check)
    return _with_line(context, first.operation, diagnosis)


def _operations_at_fault(context: Context, root_cause: RootCause, step: Step) -> list[Operation]:
    """The operations of a root cause and of the others; none where one of these is a bad input or parameter."""
    steps = [step]
    if root_cause in context.root_causes:
        others = [other.step for other in context.root_causes if other is not root_cause]
        if None in others:
            return []
        steps.extend(other for other in others if other is not None)
    return [context.forward_of(found.operation) for found in steps]


def _with_line(context: Context, operation: Operation | None, diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis with the module and the line of an operation."""
    if operation is None:
        return diagnosis
    line, module = context.line_of(operation)
    module = diagnosis.module or module
    caller = context.forward_of(operation).where.caller
    if line is not None and caller is not None:
        called = f"called from {plain(caller.filename)}:{caller.lineno}: {plain(caller.source or '', 110)}"
        diagnosis = replace(diagnosis, explanation=f"{diagnosis.explanation}\n{called}")
    return _at_line(replace(diagnosis, module=module), line)


def _at_line(diagnosis: Diagnosis, line: SourceLine | None) -> Diagnosis:
    if line is None:
        return diagnosis
    return replace(diagnosis, filename=line.filename, lineno=line.lineno, source=line.source)


def _field_read(context: Context, operation: Operation) -> str | None:
    """The field of the batch that an operation reads, directly or through a few operations on that field alone."""
    for op_input in operation.inputs:
        tensor_source = context.tensor_sources.find(op_input.geometry.start)
        if tensor_source.kind == "input":
            return tensor_source.name
    return _only_field_behind(context, operation)


def _only_field_behind(context: Context, operation: Operation) -> str | None:
    """The one field from which all inputs of an operation were computed in a few operations; None if there are several."""
    names: set[str | None] = set()
    pending, seen = [operation], {operation.index}
    while pending:
        for op_input in pending.pop().inputs:
            tensor_source = context.tensor_sources.find(op_input.geometry.start)
            if tensor_source.kind == "input":
                names.add(tensor_source.name)
            elif op_input.writer is None or len(seen) > MAX_MAKERS:
                return None
            elif op_input.writer not in seen:
                seen.add(op_input.writer)
                pending.append(context.trace.operations[op_input.writer])
    return names.pop() if len(names) == 1 else None


def _of_input(context: Context, tensor_source: TensorSource, reader: Operation | None, first: Step | None) -> Diagnosis:
    tensor = tensor_source.tensor
    if tensor is None:
        raise LookupError("a field of the batch has values")
    num_bad, num_values, counted = _counted(tensor)
    samples = samples_of_field(context, tensor_source, bad_positions(tensor))
    name = "the batch" if tensor_source.name is None else f"'{plain(tensor_source.name)}'"
    named = f"; {ordinal_list('sample', samples[:8], len(samples) > 8)}" if samples else ""
    diagnosis = Diagnosis(
        code=PHASE_CODES["input"],
        phase="input",
        cause="input-not-finite",
        explanation=counted.format(name=name, were="are non-finite") + named,
        remedy=ADVICE["input-not-finite"],
        op=None if reader is None else reader.name,
        field=tensor_source.name,
        samples=samples,
        chain=(ChainLink(f"input {name}", "input", num_bad=num_bad, num_values=num_values), *context.chain(first)),
    )
    return _with_line(context, reader, diagnosis)


def _of_state(context: Context, tensor_source: TensorSource, initial: InitialValue, first: Step | None) -> Diagnosis:
    """A parameter, a buffer or a constant that was non-finite before the step."""
    reader = initial.reader
    tensor = tensor_source.tensor
    if tensor is None and reader is not None:
        tensor = initial.tensor
        made = None if tensor is None else find_line_that_made(context, tensor)
        if tensor is not None and made is not None:
            return _of_python(context, made, tensor, reader, first)
    kind, own_name = tensor_source.kind, tensor_source.name
    phase = kind if kind in ("parameter", "buffer") else "forward"
    cause = f"{'constant' if phase == 'forward' else kind}-not-finite"
    if phase == "forward" and reader is not None:
        phase = "backward" if context.in_gradient else context.phase_of(reader)
    is_made_here = not own_name and reader is not None and "lift_fresh" in reader.name
    returned = _of_library_call(context, first) if is_made_here and first is not None else None
    if returned is not None:
        return returned
    name = "the numbers that this line turns into a tensor" if is_made_here else "a tensor from outside the step"
    name = f"{kind} '{plain(own_name)}'" if own_name else name
    num_bad, num_values, counted = _counted(tensor if initial.tensor is None else initial.tensor)
    made_in_step = kind == "buffer" and tensor is not None and _was_finite_before(context, tensor)
    were = "are non-finite" if is_made_here else "were non-finite before the step"
    were = "became non-finite in the step, by no operation of torch" if made_in_step else were
    diagnosis = Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=cause,
        explanation=counted.format(name=name, were=were),
        remedy=ADVICE[cause],
        op=None if reader is None else reader.name,
        module=(own_name or "").rpartition(".")[0] or None,
        chain=(ChainLink(name, phase, num_bad=num_bad, num_values=num_values), *context.chain(first)),
    )
    made = find_line_that_changed(context, tensor) if made_in_step and tensor is not None else None
    if made is not None and made.line is not None:
        return _at_line(diagnosis, made.line)
    return _with_line(context, reader, diagnosis)


def _was_finite_before(context: Context, tensor: torch.Tensor) -> bool:
    """Whether a buffer is finite when what the replay changed is put back."""
    context.restorer.restore()
    return is_finite(tensor)


def _counted(tensor: torch.Tensor | None) -> tuple[int, int, str]:
    """How many values of a tensor are non-finite, how many it has, and a sentence with ``name`` that says so."""
    if tensor is None:
        return 0, 0, "values of {name} {were}"
    bad = bad_positions(tensor)
    value = ""
    if len(bad):
        index = list(index_of(int(bad[0]), tensor.shape))
        value = f": {element(tensor, int(bad[0]))}{f' at {index}' if index else ''}"
    return len(bad), tensor.numel(), f"{count(len(bad))} of {count(tensor.numel())} values of {{name}} {{were}}{value}"


def _of_python(
    context: Context, made: CodeLocation, tensor: torch.Tensor, reader: Operation, first: Step | None
) -> Diagnosis:
    """Values computed by Python code outside torch, in NumPy for instance."""
    is_backward = reader.is_custom
    phase = "backward" if context.in_gradient else "forward" if made.in_model else context.phase_of(reader)
    cause = "bad-custom-backward" if is_backward else "constant-not-finite"
    num_bad, num_values, counted = _counted(tensor)
    diagnosis = Diagnosis(
        code=PHASE_CODES[phase],
        phase=phase,
        cause=cause,
        explanation=counted.format(name="an array computed in Python", were="are non-finite"),
        remedy=ADVICE[cause],
        op=reader.name,
        module=made.module,
        samples=samples_of_values(context, tensor),
        chain=(ChainLink("an array", phase, num_bad=num_bad, num_values=num_values), *context.chain(first)),
    )
    return _at_line(diagnosis, made.line)


def _with_schema(context: Context, diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis as a fault in the data, where the samples that caused it violate the schema."""
    if context.schema is None or diagnosis.phase in ("parameter", "buffer", "input"):
        return diagnosis
    violations = BatchSchema(context.schema, may_wait=True).judge(context.batch, "the batch")
    suspects = set(diagnosis.samples)
    violation = next((one for one in violations if (suspects & set(one.samples) if suspects else one.samples)), None)
    if violation is None:
        return diagnosis
    finding = violation.finding
    samples = diagnosis.samples or violation.samples
    return replace(
        diagnosis,
        code=PHASE_CODES["input"],
        phase="input",
        cause="input-out-of-schema",
        explanation=f"{finding.message}\nas a result, {diagnosis.explanation}",
        remedy=f"{ADVICE['input-out-of-schema']}\n{diagnosis.remedy}",
        field=finding.field,
        samples=samples,
        origins=origins_of(context.batch, samples),
        chain=(violation.link, *diagnosis.chain),
    )
