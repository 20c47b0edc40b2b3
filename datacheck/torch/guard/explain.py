"""From a trip to its diagnosis: the step is replayed under the microscope, and the history has its say."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from datacheck.schema.model import Schema
from datacheck.text import join_limited
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.diagnosis.dynamics import Divergence, History, classify_dynamics
from datacheck.torch.guard.distributed import is_sharded
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.loss_replay import find_loss_replay
from datacheck.torch.guard.names import unwrap_model
from datacheck.torch.guard.step_state import Part, StepState
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip
from datacheck.torch.guard.unsharded import unsharded_copy
from datacheck.torch.guard.update_fault import explain_update
from datacheck.torch.replay_state import RandomState, draws_same_values
from datacheck.torch.structure import tensors_in

__all__ = ["Explainer", "examine_part", "explain_stale_gradients"]

#: The scale that a GradScaler begins with.
INITIAL_SCALE = 2.0**16

#: Causes that are an effect of diverged weights as often as a defect of the operation: the history decides.
SHARED_WITH_DIVERGENCE = frozenset({"exp-overflow", "float16-overflow", "overflow", "parameter-not-finite", "unknown"})

#: Causes that lie in the steps before, and in no sample of this one.
DIVERGENCE = frozenset({"exploding-gradient", "learning-rate-too-high", "optimizer-epsilon"})


class Explainer:
    """Explains trips of one training run."""

    def __init__(self, training: Training, log: GuardLog, schema: Schema | None = None) -> None:
        #: Arguments that the loop's hooks put into calls of the model, while a loss is made again.
        self.substitutes: list[Any] = []
        self._training = training
        self._log = log
        self._schema = schema
        #: Whether the loop's code for the loss was run once more, and was finite.
        self._ran_clean = False

    def explain(self, trip: Trip, context: StepState, history: History) -> Diagnosis:
        """The diagnosis of a trip; where ranks train together, that of the first rank that has one of its own."""
        verdict = classify_dynamics(history)
        self._ran_clean = False
        if trip.is_spike:
            return _explain_spike(trip, verdict)
        training = self._training
        if trip.is_late:
            found: Diagnosis | None = explain_update(
                trip.bad, training.parameters, training.optimizers, verdict, trip.step
            )
        else:
            found = self._replay(trip, context)
            if found is not None:
                found = _without_scapegoats(_with_history(found, verdict)).at_step(trip.step)
        if training.rank_group is not None:
            found = self._shared(found)
        return found or self._not_repeated(trip, context, verdict)

    def explain_error(self, trip: Trip, context: StepState) -> Diagnosis | None:
        """The diagnosis of a step whose code raised; None where no value that is not finite is behind it."""
        found = self._replay(trip, context)
        return None if found is None else found.at_step(trip.step)

    def is_harmed(self, context: StepState) -> bool:
        """Whether the step has a bad loss or gradient without a loss scale too; False where that cannot be told."""
        from datacheck.torch.diagnosis.recorded_replay import reproduces

        training = self._training
        model = unwrap_model(training.model)
        if is_sharded(model):
            return False
        trained = frozenset(id(parameter.tensor) for parameter in training.parameters)
        with training.buffers.replay():
            for part in context.parts:
                replay = partial(part.loss_fn, model, part.batch)
                for in_gradient in (False, True):
                    with training.random.replay_from(part.random):
                        if reproduces(replay, in_gradient, 1.0, trained):
                            return True
        return False

    def _replay(self, trip: Trip, context: StepState) -> Diagnosis | None:
        training = self._training
        model: nn.Module | None = unwrap_model(training.model)
        assert model is not None
        if is_sharded(model):
            # Gathers the weights: a collective, so all ranks are here.
            model = unsharded_copy(model)
            if model is None:
                self._log.add_note("the replay", "the model is sharded and too large to be gathered on one rank")
                return None
        own = training.rank_group is None or training.rank_group.rank in trip.ranks
        if not own:
            return None
        if context.num_left_out:
            self._log.add_note("the replay", f"{context.num_left_out} of the step's parts were not kept")
        with training.buffers.replay() as lost:
            if lost:
                self._log.add_note("the replay", f"{join_limited(lost)} had not been kept as they were before the step")
            found = None if context.is_past else self._rerun(context, model)
            found = found or self._examine_parts(context, model, 1.0)
            if found is not None or trip.code != "DC454":
                return found
            # What makes a scale collapse is wrong with every batch, so the code may run on what the loop holds by now. Only
            # what is finite without a scale is the scale's fault.
            return self._rerun(context, model) or self._examine_parts(context, model, INITIAL_SCALE)

    def _examine_parts(self, context: StepState, model: nn.Module, scale: float) -> Diagnosis | None:
        for part in context.parts:
            try:
                with self._training.random.replay_from(part.random):
                    found = examine_part(part, model, scale, self._schema)
            except Exception as error:  # the user's code, out of place: what tripped must be told all the same
                self._log.add_note("the replay", f"it raised {type(error).__name__}: {error}")
                continue
            if found is not None:
                return found
        return None

    def _rerun(self, context: StepState, model: nn.Module) -> Diagnosis | None:
        """The diagnosis of a loop of the user's, whose code for the loss is run once more."""
        from datacheck.torch.diagnosis.examine import examine

        if context.parts and context.parts[-1].is_whole:
            return None
        training = self._training
        calls = [part.sites for part in context.parts]
        replaced = {id(training.model): model}
        found = find_loss_replay(
            calls, context.closure, replaced, must_replace=training.rank_group is not None, error=context.error
        )
        if found is None:
            return None
        rerun, num_calls = found
        parts = context.parts[len(context.parts) - num_calls :]
        given = [part.batch for part in parts]

        def replay() -> Tensor:
            self.substitutes[:] = given
            try:
                return rerun.run()
            finally:
                self.substitutes.clear()

        data = [tensor for tensor in tensors_in(given) if not tensor.requires_grad]
        replay_on = rerun.run_on if rerun.reads(data) else None

        def examine_from(random: RandomState) -> Diagnosis | None:
            with training.random.replay_from(random):
                return examine(replay, model=model, batch=rerun.batch, replay_on=replay_on, schema=self._schema)

        found_again: Diagnosis | None = None
        random = parts[0].random if parts else training.random.state
        try:
            found_again = examine_from(random)
            is_unclear = found_again is None or found_again.cause == "constant-not-finite"
            if is_unclear and not draws_same_values(random, training.random.after_last_step):
                # It may come of numbers that were drawn before the model was called, where the step is noticed.
                earlier = examine_from(training.random.after_last_step)
                if earlier is not None and earlier.cause != "constant-not-finite":
                    found_again = earlier
        except Exception as error:  # the user's code, out of place: the model alone is replayed then
            self._log.add_note(
                "the loop's loss", f"its code raised when it was run again: {type(error).__name__}: {error}"
            )
            return found_again
        self._ran_clean = found_again is None
        return found_again

    def _shared(self, found: Diagnosis | None) -> Diagnosis | None:
        rank_group = self._training.rank_group
        assert rank_group is not None
        records = rank_group.gather(None if found is None else found.to_dict())
        if found is not None:
            return found
        for rank, record in enumerate(records):
            if record is not None:
                theirs = Diagnosis.from_dict(record)
                return replace(theirs, explanation=f"on rank {rank}: {theirs.explanation}")
        return None

    def _not_repeated(self, trip: Trip, context: StepState, verdict: Divergence | None) -> Diagnosis:
        if verdict is not None:
            return verdict.to_diagnosis(step=trip.step)
        if trip.code == "DC454":
            return _collapsed(trip)
        seen = _seen(trip)
        if not self._ran_clean and not (context.parts and all(part.is_whole for part in context.parts)):
            phase = "loss" if trip.code == "DC450" else "backward"
            return Diagnosis(
                code="DC401" if phase == "loss" else "DC403",
                phase=phase,
                cause="unknown",
                explanation=(
                    f"{seen}; the model replayed with its inputs is finite, forward and backward, and the code that makes "
                    "the loss of its outputs is not known to the guard"
                ),
                remedy="guard.step(loss_fn, batch)  # or, for this batch: diagnose(loss_fn, model, batch)",
                step=trip.step,
            )
        return Diagnosis(
            code="DC409",
            phase="loss" if trip.code == "DC450" else "backward",
            cause="not-reproducible",
            explanation=(
                f"{seen}; replayed from the same weights, buffers, random states and batch, the loss and all gradients "
                f"are finite{_replayed_loss(self._training, context)}. Nondeterministic code, data that the step changed in "
                "place, a random generator of its own, or hardware"
            ),
            remedy="torch.use_deterministic_algorithms(True)  # and see whether it repeats; else test the memory",
            step=trip.step,
        )


def examine_part(part: Part, model: nn.Module, scale: float = 1.0, schema: Schema | None = None) -> Diagnosis | None:
    """Replay one part of a step under the microscope. Random states and buffers must be those of the step."""
    from datacheck.torch.diagnosis.examine import examine

    def replay_on(batch: Any) -> Tensor:
        return part.loss_fn(model, batch)

    if part.is_whole:
        return examine(
            lambda: replay_on(part.batch),
            model=model,
            batch=part.batch,
            replay_on=replay_on,
            scale=scale,
            schema=schema,
        )
    args, kwargs = part.batch
    # The loss is made up, so samples cannot be told by their share in it.
    batch = args[0] if len(args) == 1 and not kwargs else {**dict(enumerate(args)), **kwargs}
    return examine(lambda: replay_on(part.batch), model=model, batch=batch, scale=scale, schema=schema)


def _seen(trip: Trip) -> str:
    """What the run itself showed."""
    seen = f"in the run the loss was not finite: {trip.detail}"
    if trip.code == "DC451":
        seen = f"in the run gradients were not finite, {trip.detail}"
    if trip.layers:
        seen += f"; the first module whose output was not finite was '{trip.layers[0]}'"
    return seen


def _replayed_loss(training: Training, context: StepState) -> str:
    """The loss of the replay, to be held against the one of the run."""
    if len(context.parts) != 1 or not context.parts[0].is_whole or is_sharded(training.model):
        return ""
    part = context.parts[0]
    model = unwrap_model(training.model)
    try:
        with training.buffers.replay(), training.random.replay_from(part.random), torch.no_grad():
            return f" (the loss is {float(part.loss_fn(model, part.batch)):.6g})"
    except RuntimeError:
        # Code that asks for gradients inside the loss does not run without them.
        return ""


def _with_history(found: Diagnosis, verdict: Divergence | None) -> Diagnosis:
    if verdict is None or (verdict.cause == "exploding-gradient" and found.phase not in ("backward", "optimizer")):
        # A loss that is not finite has a gradient norm that is not: its effect, and no second fault.
        return found
    if found.cause not in SHARED_WITH_DIVERGENCE:
        return replace(found, explanation=f"{found.explanation}\nBefore that, {verdict.explanation}")
    return replace(
        found,
        code="DC408",
        cause=verdict.cause,
        explanation=f"{verdict.explanation}. Then: {found.explanation}",
        remedy=verdict.remedy,
    )


def _without_scapegoats(found: Diagnosis) -> Diagnosis:
    """No sample is to blame for weights that have diverged, whichever was the first to overflow."""
    if found.cause not in DIVERGENCE:
        return found
    return replace(found, field=None, samples=(), origins=())


def explain_stale_gradients(origin: int, known: Diagnosis | None, step: int) -> Diagnosis:
    """The diagnosis of a step that is sound, and was begun with the bad gradients of the step ``origin``."""
    explanation = (
        f"the gradients were not finite when the step began: those of step {origin} are in them still, and whatever is added"
        " to a NaN is NaN; the step's own loss and gradients are finite"
    )
    remedy = "optimizer.zero_grad()  # in every step, after one that was skipped too"
    if known is None:
        return Diagnosis(
            code="DC403", phase="backward", cause="unknown", explanation=explanation, remedy=remedy, step=step
        )
    told = f"{explanation}\nIn step {origin}: {known.explanation}"
    return replace(known, explanation=told, remedy=f"{remedy}\n{known.remedy}", step=step)


def _explain_spike(trip: Trip, verdict: Divergence | None) -> Diagnosis:
    if verdict is not None:
        return verdict.to_diagnosis(step=trip.step)
    is_loss = trip.code == "DC452"
    return Diagnosis(
        code="DC408",
        phase="loss" if is_loss else "backward",
        cause="unknown" if is_loss else "exploding-gradient",
        explanation=f"{'the loss' if is_loss else 'the gradient norm'} jumped to {trip.detail}; every value is finite",
        remedy="torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()",
        step=trip.step,
    )


def _collapsed(trip: Trip) -> Diagnosis:
    return Diagnosis(
        code="DC403",
        phase="backward",
        cause="float16-overflow",
        explanation=(
            f"the loss scale fell to {trip.detail}; unscaled, the step replays with finite gradients, so they overflow or "
            "underflow float16 only under the scale"
        ),
        remedy="with torch.autocast(device, dtype=torch.bfloat16): ...  # which needs no GradScaler",
        step=trip.step,
    )
