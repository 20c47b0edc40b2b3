"""From a trip to its diagnosis: the step is replayed with every operation recorded, and its history is read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from datacheck.findings import Severity
from datacheck.schema.model import Schema
from datacheck.text import join_limited
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.diagnosis.dynamics import History, blamed_update, classify_dynamics
from datacheck.torch.guard.accumulation import explain_sum
from datacheck.torch.guard.call_stack import frames_above, frames_of_error
from datacheck.torch.guard.distributed import CollectiveInReplayError, is_sharded, without_collectives
from datacheck.torch.guard.divergence import (
    DIVERGENCE,
    SHARED_WITH_DIVERGENCE,
    explain_with_history,
    with_history,
    with_scaler,
    with_update,
    without_samples,
)
from datacheck.torch.guard.grad_scaler import INITIAL_SCALE
from datacheck.torch.guard.last_update import undo_last_update
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.loop_explainer import LoopExplainer, rests_on_overwritten
from datacheck.torch.guard.loop_replay import Autocast, LoopCall
from datacheck.torch.guard.names import unwrap_model
from datacheck.torch.guard.step_parts import Part
from datacheck.torch.guard.step_state import Phase, Source, StepState
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip
from datacheck.torch.guard.unreplayed import (
    explain_collapse,
    explain_no_repeat,
    explain_overwritten,
    explain_spike,
    explain_unreplayed,
)
from datacheck.torch.guard.unsharded import unsharded_copy
from datacheck.torch.guard.update_fault import explain_update
from datacheck.torch.guard.update_monitor import UpdateSample


class Explainer:
    """Explains the trips of one training run."""

    def __init__(
        self,
        training: Training,
        state: StepState,
        log: GuardLog,
        schema: Schema | None = None,
    ) -> None:
        self._training = training
        self._state = state
        self._log = log
        self._schema = schema
        self._loop = LoopExplainer(training, log, schema)
        #: What ended the last replay early.
        self._problem = ""

    def explain(self, trip: Trip, history: History, sample: UpdateSample | None = None) -> Diagnosis:
        """The diagnosis of a trip; where ranks train together, the diagnosis of the first rank that has one.

        ``sample`` is the one by which the updates in the history were measured.
        """
        verdict = classify_dynamics(history)
        back = None if verdict is None else blamed_update(history, verdict)
        if trip.is_spike:
            return explain_with_history(partial(explain_spike, trip), verdict, back)
        training, state = self._training, self._state
        found: Diagnosis | None
        is_exact = False
        with state.during(Phase.DIAGNOSE):
            if trip.is_late:
                found = explain_update(trip.bad, training.parameters, training.optimizers, verdict, trip.step)
            else:
                found, is_exact = self._replay(trip)
                if found is not None:
                    if verdict is not None and back is not None and found.cause in SHARED_WITH_DIVERGENCE:
                        is_finite = self._is_finite_before(trip, history, sample) if back == 1 else None
                        found = with_update(found, verdict, is_finite)
                    else:
                        found = with_history(found, verdict)
                    found = without_samples(found).at_step(trip.step)
            if found is not None and found.cause in DIVERGENCE:
                found = with_scaler(found, training.scaler)
            if training.rank_group is not None:
                found = self._share(found)
            if found is not None:
                return found
            return explain_with_history(partial(self._explain_finite_replay, trip, is_exact=is_exact), verdict, back)

    def _is_finite_before(self, trip: Trip, history: History, sample: UpdateSample | None) -> bool | None:
        """Whether the step is finite with the weights from before the last update; None if that is unknown."""
        state = self._state
        if self._whole_model() is None:
            return None
        kept = state.bad_part, self._problem
        with undo_last_update(self._training, history, sample) as is_undone:
            found, is_exact = self._replay(trip) if is_undone else (None, False)
        state.bad_part, self._problem = kept
        return False if found is not None else True if is_exact else None

    def explain_replay(self, trip: Trip) -> Diagnosis | None:
        """The diagnosis from the replay alone; None if the replay is finite."""
        with self._state.during(Phase.DIAGNOSE):
            found, _ = self._replay(trip)
        return None if found is None else found.at_step(trip.step)

    def explain_error(self, trip: Trip, error: BaseException) -> Diagnosis | None:
        """The diagnosis of an error in a step: from the code that raised it, else from the step up to there."""
        state = self._state
        frames = frames_of_error(error)
        found: Diagnosis | None = None
        if frames and not (state.parts and state.parts[-1].is_whole):
            call = LoopCall(
                frames,
                state.new_parts,
                state.random_after_call,
                self._autocast_of_calls(),
                began_after=state.began_after,
            )
            found = self.explain_unused_loss(call, is_error=True)
        return self.explain_replay(trip) if found is None else found.at_step(trip.step)

    def _autocast_of_calls(self) -> Autocast:
        """The autocast state of the loop, which an error has left: the state at its last call of backward."""
        return self._state.calls[-1].autocast if self._state.calls else ()

    def explain_unused_loss(self, call: LoopCall, *, is_error: bool = False) -> Diagnosis | None:
        """The diagnosis of a loss that was computed but never backpropagated; None if it is finite."""
        model = self._whole_model()
        if model is None:
            return None
        with self._state.during(Phase.DIAGNOSE), self._training.buffers.replay():
            if is_error:
                return self._loop.explain_error(call, model)
            return self._loop.explain([call], model)[0]

    def note_what_is_lost(self) -> None:
        """Report what half precision loses in a finite step: infinities that are divided away, epsilons that are 0."""
        training, state, model = self._training, self._state, self._whole_model()
        if model is None:
            return

        def note(place: str, detail: str) -> None:
            self._log.add_note(place, detail, Severity.WARNING)

        with state.during(Phase.DIAGNOSE), training.buffers.replay(), without_collectives(training.rank_group):
            if state.calls and not all(part.is_whole for part in state.parts):
                self._loop.note_what_is_lost(state.calls, model, note)
                return
            for part in state.parts:
                # The user's code, run again: nothing is wrong with the step, so an error here is no finding.
                with suppress(Exception), training.random.replay_from(part.random):
                    replay_part(part, model, note_lost=note)

    def is_bad_without_scale(self) -> bool:
        """Whether the step has a non-finite loss or gradient without a loss scale too; False if that is unknown."""
        from datacheck.torch.diagnosis.recorded_replay import reproduces

        training, state, model = self._training, self._state, self._whole_model()
        if model is None:
            return False
        trained = frozenset(id(parameter.tensor) for parameter in training.parameters)
        with state.during(Phase.DIAGNOSE), training.buffers.replay(), without_collectives(training.rank_group):
            if state.calls:
                return self._loop.is_bad(state.calls, model, trained)
            for part in state.parts:
                replay = partial(part.loss_fn, model, part.batch)
                for in_gradient in (False, True):
                    with training.random.replay_from(part.random):
                        if reproduces(replay, in_gradient, 1.0, trained):
                            return True
        return False

    def _replay(self, trip: Trip) -> tuple[Diagnosis | None, bool]:
        """The diagnosis from the replay, and whether all of the step was replayed as it ran."""
        training, state = self._training, self._state
        self._problem = ""
        model = self._model_to_replay()
        group = training.rank_group
        if model is None or (group is not None and group.rank not in trip.ranks):
            return None, False
        if state.num_dropped_parts:
            self._log.add_note("the replay", f"{state.num_dropped_parts} of the step's parts were not kept")
        with training.buffers.replay() as lost, without_collectives(group):
            if lost:
                self._log.add_note("the replay", f"the values of {join_limited(lost)} before the step were not kept")
            found, is_exact = None, False
            # Only what is finite without a scale is the scale's fault.
            for scale in (1.0, INITIAL_SCALE) if trip.code == "DC454" else (1.0,):
                found, is_exact = self._replay_step(model, scale)
                if found is not None:
                    break
        return found, is_exact

    def _replay_step(self, model: nn.Module, scale: float) -> tuple[Diagnosis | None, bool]:
        state = self._state
        is_whole = bool(state.parts) and all(part.is_whole for part in state.parts)
        if state.calls and not is_whole:
            found, is_exact, call = self._loop.explain(state.calls, model, scale)
            if found is not None and call is not None:
                state.bad_part = call.parts[-1] if call.parts else None
                # Several gradients may be taken of one batch.
                new = [bool(one.parts) for one in state.calls]
                new = new if any(new) else [True] * len(new)
                position = sum(new[: state.calls.index(call) + 1]) - 1
                return _with_micro_batch(found, max(position, 0), sum(new)), True
            if is_exact:
                return None, True
        found = self._replay_parts(model, scale)
        return found, is_whole and not self._problem

    def _whole_model(self) -> nn.Module | None:
        """The model without wrappers; None if it is sharded, so that this rank has a part of it only."""
        model = unwrap_model(self._training.model)
        return None if is_sharded(model) else model

    def _model_to_replay(self) -> nn.Module | None:
        model = self._whole_model()
        if model is not None:
            return model
        # Gathers the weights: a collective that all ranks take part in.
        copy = unsharded_copy(unwrap_model(self._training.model))
        if copy is None:
            self._log.add_note("the replay", "the model is sharded and too large to be gathered on one rank")
        return copy

    def _replay_parts(self, model: nn.Module, scale: float) -> Diagnosis | None:
        """The diagnosis of the first part whose replay is non-finite."""
        state = self._state
        for position, part in enumerate(state.parts):
            try:
                with self._training.random.replay_from(part.random):
                    found = replay_part(part, model, scale, self._schema)
            except (
                Exception
            ) as error:  # the user's code, run out of its context: the trip must be reported all the same
                is_refused = isinstance(error, CollectiveInReplayError)
                self._problem = str(error) if is_refused else f"it raised {type(error).__name__}: {error}"
                self._log.add_note("the replay", self._problem)
                continue
            if found is not None:
                state.bad_part = part
                num_lost = state.num_dropped_parts if part.is_whole else 0
                num_parts = len(state.parts) + num_lost if part.is_whole else 1
                return _with_micro_batch(found, position + num_lost, num_parts)
        return None

    def _share(self, found: Diagnosis | None) -> Diagnosis | None:
        group = self._training.rank_group
        assert group is not None
        records = group.gather(None if found is None else found.to_dict())
        if found is not None:
            return found
        for rank, record in enumerate(records):
            if record is not None:
                theirs = Diagnosis.from_dict(record)
                return replace(theirs, explanation=f"on rank {rank}: {theirs.explanation}")
        return None

    def _explain_finite_replay(self, trip: Trip, verdict: Diagnosis | None, *, is_exact: bool) -> Diagnosis:
        """The diagnosis of a trip that the replay does not repeat."""
        if verdict is not None:
            return verdict.at_step(trip.step)
        if trip.code == "DC454":
            return explain_collapse(trip, is_exact=is_exact)
        if is_exact:
            found = self._explain_changed_gradients(trip) or self._explain_sum(trip)
            return found or explain_no_repeat(trip, self._describe_replayed_loss())
        return explain_unreplayed(trip, self._problem)

    def _explain_changed_gradients(self, trip: Trip) -> Diagnosis | None:
        """The diagnosis of gradients that the loop has made non-finite between its gradients and its update."""
        training, state = self._training, self._state
        model = unwrap_model(training.model)
        if trip.code != "DC451" or not state.calls or training.rank_group is not None or is_sharded(model):
            return None
        # The loop is still at its update.
        at_update = frames_above(sys._getframe(1), state.outside)
        with training.buffers.replay():
            found = self._loop.explain_gradients(state.calls, state.parts, at_update, model)
        return None if found is None else found.at_step(trip.step)

    def _explain_sum(self, trip: Trip) -> Diagnosis | None:
        """The diagnosis of gradients that overflow only as the sum over several micro-batches."""
        training, state = self._training, self._state
        is_several = max(len(state.calls), len(state.parts)) > 1 and not state.num_dropped_parts
        if trip.code != "DC451" or not is_several or training.rank_group is not None:
            return None
        model = unwrap_model(training.model)
        losses = self._loop.losses_of(state.calls, model) if state.calls else self._losses_of_parts(model)
        with training.buffers.replay():
            try:
                return explain_sum(losses, training.parameters, trip.step)
            except (Exception, SystemExit) as error:  # the user's code, run out of its context
                self._log.add_note("the sum of the gradients", f"{type(error).__name__}: {error}")
                return None

    def _losses_of_parts(self, model: nn.Module) -> Iterator[Callable[[], Tensor]]:
        parts = self._state.parts

        def compute(part: Part) -> Tensor:
            with self._training.random.replay_from(part.random):
                return part.loss_fn(model, part.batch) * (1 / len(parts) if is_trainer else part.weight)

        # A trainer does not say how it weighs them: their mean never overflows where none of them does.
        is_trainer = self._state.source is Source.TRAINER
        for part in parts:
            yield partial(compute, part)

    def _describe_replayed_loss(self) -> str:
        """The loss of the replay, to compare with the run's."""
        training, parts, model = self._training, self._state.parts, self._whole_model()
        if len(parts) != 1 or not parts[0].is_whole or model is None:
            return ""
        part = parts[0]
        try:
            with training.buffers.replay(), training.random.replay_from(part.random), torch.no_grad():
                return f" (the loss is {float(part.loss_fn(model, part.batch)):.6g})"
        except RuntimeError:
            # Code that computes gradients inside the loss does not run without them.
            return ""


def replay_part(
    part: Part,
    model: nn.Module,
    scale: float = 1.0,
    schema: Schema | None = None,
    note_lost: Callable[[str, str], None] | None = None,
) -> Diagnosis | None:
    """Replay one part of a step and diagnose it; None if it is finite. ``note_lost`` gets what a finite one lost.

    The random states and buffers must be those from the start of the part.
    """
    from datacheck.torch.diagnosis.examine import examine

    def replay_on(batch: Any) -> Tensor:
        return part.loss_fn(model, batch)

    batch = part.batch if part.kept is None else part.kept.restored()

    def replay() -> Tensor:
        return replay_on(batch)

    if part.is_whole:
        found = examine(
            replay,
            model=model,
            batch=batch,
            replay_on=replay_on,
            scale=scale * part.weight,
            schema=schema,
            note_lost=note_lost,
        )
        if found is None or part.kept is None:
            return found
        lost = [one for one in part.kept.changed if one.copy is None]
        return explain_overwritten(found) if rests_on_overwritten([one.tensor for one in lost], found) else found
    # The loss is not the run's, so samples cannot be attributed by their share of it.
    return examine(replay, model=model, batch=part.inputs, scale=scale, schema=schema, note_lost=note_lost)


def _with_micro_batch(found: Diagnosis, position: int, num_parts: int) -> Diagnosis:
    """The diagnosis with the micro-batch that it is about, where a step has several."""
    if num_parts == 1:
        return found
    return replace(found, explanation=f"in micro-batch {position + 1} of {num_parts}: {found.explanation}")
