"""Diagnoses of trips that no replay explains: what is known of each."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from dataclasses import replace

from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.batch_values import BatchTensor
from datacheck.torch.guard.trip import Trip


def explain_stale_gradients(origin: int, known: Diagnosis | None, step: int) -> Diagnosis:
    """The diagnosis of a sound step that began with the non-finite gradients of the step ``origin``."""
    explanation = (
        f"the gradients were already non-finite when the step began: step {origin} left them, and they were not cleared, and"
        " whatever is added to a NaN is NaN; the step's own loss and gradients are finite"
    )
    remedy = "optimizer.zero_grad()  # in every step, also after a skipped one"
    if known is None:
        return Diagnosis(
            code="DC403", phase="backward", cause="unknown", explanation=explanation, remedy=remedy, step=step
        )
    full = f"{explanation}\nIn step {origin}: {known.explanation}"
    return replace(known, explanation=full, remedy=f"{remedy}\n{known.remedy}", step=step)


def explain_spike(trip: Trip, verdict: Diagnosis | None) -> Diagnosis:
    if verdict is not None:
        return verdict.at_step(trip.step)
    is_loss = trip.code == "DC452"
    return Diagnosis(
        code="DC408",
        phase="loss" if is_loss else "backward",
        cause="unknown" if is_loss else "exploding-gradient",
        explanation=f"{'the loss' if is_loss else 'the gradient norm'} jumped to {trip.detail}; every value is finite",
        remedy="torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()",
        step=trip.step,
    )


def explain_collapse(trip: Trip, *, is_exact: bool) -> Diagnosis:
    known = (
        "the step replays with finite gradients without a scale, so they overflow or underflow float16 only under the scale"
        if is_exact
        else "whether the step is finite without a scale is not verified, since no replay of it did what the run did"
    )
    return Diagnosis(
        code="DC403",
        phase="backward",
        cause="float16-overflow" if is_exact else "unknown",
        explanation=f"the loss scale fell to {trip.detail}; {known}",
        remedy="with torch.autocast(device, dtype=torch.bfloat16): ...  # needs no GradScaler",
        step=trip.step,
    )


def explain_unreplayed(trip: Trip, problem: str) -> Diagnosis:
    """The diagnosis where no replay did what the run did: ``problem`` ended it or, if empty, its loss is unknown."""
    is_loss = trip.code == "DC450"
    known = (
        "the model is finite when replayed with its inputs, forward and backward, and the guard does not know the code that"
        " computes the loss from its outputs"
    )
    remedy = "guard.step(loss_fn, batch)  # or, for this batch: diagnose(loss_fn, model, batch)"
    if problem:
        known = f"the replay of the step ended early: {problem}. So the cause is not verified"
        remedy = "diagnose(loss_fn, model, batch)  # for this batch, with a loss_fn that runs in one process"
    return Diagnosis(
        code="DC401" if is_loss else "DC403",
        phase="loss" if is_loss else "backward",
        cause="unknown",
        explanation=f"{_describe_run(trip)}; {known}",
        remedy=remedy,
        step=trip.step,
    )


def explain_no_repeat(trip: Trip, replayed_loss: str) -> Diagnosis:
    return Diagnosis(
        code="DC409",
        phase="loss" if trip.code == "DC450" else "backward",
        cause="not-reproducible",
        explanation=(
            f"{_describe_run(trip)}; replayed from the same weights, buffers, random states and batch, the loss and all "
            f"gradients are finite{replayed_loss}. Possible reasons: nondeterministic code, data that the step changed in "
            "place, a random generator of its own, code that changes gradients before the update, or faulty hardware"
        ),
        remedy="torch.use_deterministic_algorithms(True)  # and see whether it repeats; otherwise test the memory",
        step=trip.step,
    )


def _describe_run(trip: Trip) -> str:
    """What the run itself showed."""
    shown = f"in the run the loss was non-finite: {trip.detail}"
    if trip.code == "DC451":
        shown = f"in the run gradients were non-finite, {trip.detail}"
    if trip.layers:
        shown += f"; the first module with a non-finite output was '{trip.layers[0]}'"
    return shown


def explain_overwritten(found: Diagnosis | None, filename: str = "", lines: Sequence[int] = ()) -> Diagnosis:
    """What is known where the step has overwritten the values that its loss is computed from, in these lines of a file."""
    sources = [f"line {line}: {linecache.getline(filename, line).strip()}" for line in lines[:3]]
    where = f" ({'; '.join(sources)})" if sources else ""
    shown = "a tensor that the loss is computed from is non-finite"
    # What an operation that overwrites its argument reads in a replay is not what it read in the run.
    if found is not None and "_." not in (found.op or ""):
        shown = found.explanation
    return _unknown(
        found or Diagnosis(code="DC401", phase="loss", cause="unknown", explanation=""),
        f"{shown}. The loop changes it in place before it computes the loss{where}, and its values from before are gone:"
        " whether they were non-finite, or what the loop computes made them so, is not verified",
    )


def explain_made_bad(found: Diagnosis, changed: Sequence[BatchTensor]) -> Diagnosis:
    """What is known where a step blames values of its batch that have been changed in place since it was fetched."""
    known = (
        "They were finite when the batch was fetched, and were changed in place since; no replay of that ends as the run did"
        if all(one.copy is not None for one in changed)
        else "They were changed in place after the batch was fetched, and their values from before were not kept"
    )
    return _unknown(found, f"{found.explanation}. {known}, so what made them non-finite is not verified")


def _unknown(found: Diagnosis, explanation: str) -> Diagnosis:
    return replace(
        found,
        code="DC401",
        phase="loss",
        cause="unknown",
        explanation=explanation,
        op=None,
        filename=None,
        lineno=None,
        source=None,
        chain=(),
        remedy="x = x.clone()  # of what the loop changes in place, before that: then the step can be run again",
        remedy_verified=False,
        remedy_check="",
    )
