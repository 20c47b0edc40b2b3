"""The order of a step: observe, confirm, decide, diagnose, act. Hooks in the user's loop and ``Guard.step`` feed it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from torch import Tensor, nn
from torch.optim import Optimizer

from datacheck.errors import UsageError
from datacheck.storage.documents import load_schema
from datacheck.torch.diagnosis.diagnosis import Diagnosis, NonFiniteError
from datacheck.torch.diagnosis.preflight import check_settings
from datacheck.torch.guard.actions import OnTrip, read_actions
from datacheck.torch.guard.bad_batches import BadBatches
from datacheck.torch.guard.bundle import write_bundle
from datacheck.torch.guard.call_stack import place_of
from datacheck.torch.guard.config import GuardConfig
from datacheck.torch.guard.deferred import DeferredNumbers, can_be_deferred
from datacheck.torch.guard.explain import Explainer
from datacheck.torch.guard.grad_scaler import GradScaler, LossScaler
from datacheck.torch.guard.held_update import HeldUpdates
from datacheck.torch.guard.layer_monitor import LayerMonitor
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.loop_replay import LoopCall
from datacheck.torch.guard.monitor import Monitor, Reading
from datacheck.torch.guard.names import NamedParameter, unwrap_model
from datacheck.torch.guard.overflow import OverflowMonitor
from datacheck.torch.guard.policy import Policy
from datacheck.torch.guard.schema_check import SchemaCheck
from datacheck.torch.guard.step_parts import Part
from datacheck.torch.guard.step_state import Phase, Source, StepState
from datacheck.torch.guard.training_state import Stateful, Training
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.guard.unreplayed import explain_stale_gradients
from datacheck.torch.values import count_nonfinite


class StepRunner:
    """Takes steps from one phase to the next. The state of the current step is in ``state`` and nowhere else."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        on_trip: OnTrip,
        scaler: GradScaler | None,
        schedulers: Sequence[Stateful],
        config: GuardConfig,
    ) -> None:
        self.config = config
        #: Whether ``DATACHECK_GUARD=off`` has switched every guard off: steps run, and nothing is checked.
        self.is_off = os.environ.get("DATACHECK_GUARD", "").lower() in ("off", "0", "false", "no")
        self.training = Training(model, optimizers, LossScaler(scaler), schedulers, synchronize=config.synchronize)
        self.state = StepState()
        self.log = GuardLog()
        self.held = HeldUpdates()
        self.layers = LayerMonitor(unwrap_model(model), self.state) if config.watch == "layers" else None
        self.monitor = Monitor(self.training, config, self.layers)
        self.policy = Policy(read_actions(on_trip, config.max_skips), self.training, self.log, config.max_diagnoses)
        schema = None if config.schema is None else load_schema(config.schema)
        self.explainer = Explainer(self.training, self.state, self.log, schema)
        self.schema = None if schema is None else SchemaCheck(schema, self.training, self.state, self.log)
        self._overflows = OverflowMonitor(self.training, self.state, self.monitor, self.explainer, self.log, config)
        self.bad_batches = BadBatches()
        self._known_parameters: Sequence[NamedParameter] = ()

    # Beginning and ending a step.

    def keep_start(self) -> None:
        """Keep the start of the next step, in case only its end will be noticed."""
        self.training.buffers.begin()
        self.training.random.begin()
        if self.layers is not None:
            self.layers.begin()
        self.state.is_start_kept = True

    def begin(self, *, late: bool = False) -> None:
        """Begin a step. ``late``: its forward pass went by unnoticed."""
        training, state = self.training, self.state
        self.policy.before_step()
        if training.parameters is not self._known_parameters:
            self._follow_changed_parameters()
        if training.step == 0:
            training.state.learn()
            for finding in check_settings(training.optimizers, training.scaler.given):
                self.log.add_finding(finding)
        training.step += 1
        if not (late and state.is_start_kept):
            self.keep_start()
        state.is_start_kept = False
        state.began_late = late
        if self.monitor.deferred is not None and state.parts:
            state.set_aside()
        state.clear()
        if state.trip is not None:
            self._find_stale_gradients(state.trip)
            state.trip = None
            state.is_unresolved = False
        elif state.stale_gradients is not None:
            state.stale_gradients = None
        state.open(training.random.after_last_step or training.random.state)

    def _find_stale_gradients(self, trip: Trip) -> None:
        """Find out whether gradients of a step that tripped are still there: whatever is added to them stays bad."""
        state = self.state
        gradients = (parameter.tensor.grad for parameter in self.training.parameters)
        if not any(gradient is not None and count_nonfinite(gradient)[0] for gradient in gradients):
            state.stale_gradients = None
        elif state.stale_gradients is None:
            last = state.diagnosis
            state.stale_gradients = (trip.step, last if last is not None and last.step == trip.step else None)

    def _follow_changed_parameters(self) -> None:
        """Parameters were added or removed, and with them perhaps modules and buffers."""
        is_first, self._known_parameters = not self._known_parameters, self.training.parameters
        if is_first:
            self._choose_when_to_read()
            return
        self.training.buffers.invalidate()
        if self.layers is not None:
            self.layers.refresh()

    def _choose_when_to_read(self) -> None:
        """Whether the numbers of a step are read one step later, so that the host does not wait for the device."""
        config, training = self.config, self.training
        watches_spikes = config.loss_spike is not None or config.grad_spike is not None
        is_possible = can_be_deferred(training) and self.policy.can_follow and not watches_spikes
        if config.defer and not is_possible:
            raise UsageError(
                "defer=True needs one optimizer with fused=True, parameters that are not sharded, no active GradScaler, no"
                " loss_spike or grad_spike, and on_trip of 'raise', 'skip' or 'rollback'"
            )
        if is_possible and (config.defer or (config.defer is None and training.devices())):
            self.monitor.deferred = DeferredNumbers()
            training.buffers.keeps_two = self.monitor.updates.reads_late = True

    def close(self) -> None:
        """End a step. Its batch is freed, unless the step tripped and may yet be written to a bundle."""
        if self.layers is not None and self.training.step == 1:
            for detail, severity in self.layers.limitations():
                self.log.add_note("the layers", detail, severity)
        state = self.state
        # What Guard.step runs need not be found in the user's code.
        is_loop = state.source is not Source.GUARD
        self.training.random.end(keep=is_loop)
        self._end_step()
        state.close()
        state.began_after = place_of(sys._getframe(1), state.outside) if is_loop else ()
        if state.began_late:
            self.keep_start()
        if self.monitor.deferred is not None:
            state.set_aside()
        elif state.trip is None:
            state.clear()

    # Observing.

    def add_part(self, part: Part) -> None:
        """Add a micro-batch, or a call of the model."""
        self.state.add_part(part)
        if self.state.known_bad is None:
            self.state.known_bad = self.bad_batches.recall(part.batch)

    def check(
        self,
        parameters: Sequence[NamedParameter],
        losses: Sequence[Tensor],
        scale: Tensor | float,
        *,
        may_overflow: bool = False,
        optimizer: int = 0,
    ) -> bool:
        """Check a step before an optimizer updates; returns whether to make the update."""
        if not self._resolve_deferred():
            return False
        reading = self._recall() or self.monitor.check(
            losses, parameters, scale, may_overflow=may_overflow, optimizer=optimizer
        )
        return self.decide(self._judged(reading))

    def decide(self, reading: Reading) -> bool:
        """Decide about a step that was checked; returns whether to make the update."""
        if reading.is_held:
            return False
        return reading.trip is None or self.resolve(reading.trip, reading.diagnosis)

    def _judged(self, reading: Reading) -> Reading:
        """The reading of a step, with what breaks the schema if nothing else is wrong."""
        if reading.trip is not None or reading.is_overflow:
            return reading
        if self.layers is not None and self.layers.may_have_lost(is_first=self.training.step == 1):
            self.explainer.note_what_is_lost()
        found = None if self.schema is None else self.schema.find()
        return reading if found is None else Reading(found[0], diagnosis=found[1])

    def check_scaled(self) -> Reading:
        """Check a step of ``Guard.step`` before the update, with what the loss scaler has to say."""
        training = self.training
        training.refresh()
        return self.check_unmade_update(training.parameters, self.state.known_losses, training.optimizers[0])

    def check_unmade_update(
        self,
        parameters: Sequence[NamedParameter],
        losses: Sequence[Tensor],
        optimizer: Optimizer,
        grad_norm: Tensor | float | None = None,
    ) -> Reading:
        """Check a step before the scaler, if there is one, has had its say about the update of ``optimizer``."""
        if not self._resolve_deferred():
            return Reading(is_held=True)
        known = self._recall()
        if known is not None:
            return known
        training, scaler = self.training, self.training.scaler
        scale = 1.0 if grad_norm is not None else scaler.scale_in_gradients(training.model, optimizer)
        position = training.optimizers.index(optimizer)

        def read(*, may_overflow: bool) -> Reading:
            return self.monitor.check(
                losses, parameters, scale, may_overflow=may_overflow, optimizer=position, grad_norm=grad_norm
            )

        reading = read(may_overflow=scaler.is_active)
        reading = read(may_overflow=False) if self._overflows.is_doubtful(reading) else reading
        return self._judged(reading)

    def _resolve_deferred(self, *, is_last: bool = False) -> bool:
        """Resolve what the numbers of the step before show; returns whether the current update may be made."""
        trip = self.monitor.read_deferred()
        if trip is None:
            return True
        if trip.is_late:
            return self.resolve(trip)
        if not is_last:
            self.training.buffers.go_back()
        num_updates = self.training.num_updates
        with self.state.as_before():
            self.resolve(trip)
        if self.training.num_updates != num_updates:
            # Rolled back: the gradients of the current step belong to weights that are gone.
            return False
        self.training.num_updates -= trip.is_gated
        return True

    def prepare_update(self, optimizer: Optimizer) -> None:
        """Let the optimizer leave out an update that the device finds to be bad, and apply a reduced learning rate."""
        if self.monitor.deferred is not None:
            flag = self.monitor.deferred.take_flag()
            if flag is not None:
                self.held.gate(optimizer, flag)
        if self.training.lr_factor != 1.0:
            self.held.scale_rates(optimizer, self.training.lr_factor)

    def _recall(self) -> Reading | None:
        """The reading of a step with a batch that was bad in a run before, on any rank."""
        training = self.training
        if self.state.known_bad is None and training.rank_group is None:
            return None
        trip = self.bad_batches.trip(training.step, self.state.known_bad, training.rank_group)
        return None if trip is None else Reading(trip)

    def after_update(self) -> None:
        """Check what an update left behind, unless it was made in spite of a trip."""
        self._overflows.num_in_row = 0
        self.training.num_updates += 1
        late = self.monitor.updates.after_update(check=not self.state.is_unresolved)
        if late is not None:
            self.resolve(late)
        elif self.state.trip is None:
            self.policy.after_update()

    def after_overflow(self) -> None:
        """Check the loss scale after a step that overflowed."""
        self._resolve_if_any(self._overflows.find_collapse())

    def adopt_scaler(self, scaler: GradScaler) -> None:
        """Follow a GradScaler that the loop uses and the guard was not given."""
        self.training.scaler = LossScaler(scaler)
        detail = "the loop uses a GradScaler that was not passed to the guard; the guard follows it"
        self.log.add_act("scaler", self.training.step, detail)

    def judge_skipped_update(self, optimizer: Optimizer, *, is_judged: bool) -> None:
        """Judge a step whose update the scaler has skipped: an overflow, or a step that is bad at any scale."""
        self.state.updated.add(id(optimizer))
        self.state.is_skipped_by_scaler = True
        if not is_judged:
            trip, diagnosis = self._overflows.judge_skipped_step()
            if trip is not None:
                self.resolve(trip, diagnosis)

    def after_scale_update(self) -> None:
        """Check the loss scale after a step that the scaler skipped, and end the step."""
        if self.state.is_skipped_by_scaler:
            self.state.is_skipped_by_scaler = False
            if self.state.trip is None:
                self.after_overflow()
            self.close()

    def judge_unused_loss(self, call: LoopCall | None) -> None:
        """Judge a loss that the loop has computed and not used: if it is non-finite, that is why."""
        if call is None or self.training.rank_group is not None:
            return
        found = self.explainer.explain_unused_loss(call)
        if found is not None and found.phase != "backward":
            signals = Signals(self.training.step, math.nan, None)
            trip = Trip(code="DC450", signals=signals, detail="the loop computed it and did not run backward from it")
            self.monitor.history.add_step(trip.step, math.nan, None)
            self.resolve(trip, found.at_step(trip.step))

    def check_last_update(self) -> None:
        """Check what is still unchecked when training ends."""
        self._resolve_deferred(is_last=True)
        if self.training.rank_group is None:
            self._resolve_if_any(self.monitor.updates.read_late())

    # Deciding and acting.

    def _resolve_if_any(self, trip: Trip | None) -> None:
        if trip is not None:
            self.resolve(trip)

    def resolve(self, trip: Trip, diagnosis: Diagnosis | None = None) -> bool:
        """Decide about a trip, diagnose it, and act; returns whether to make the update.

        Raises :class:`NonFiniteError` where the policy stops training.
        """
        state, policy = self.state, self.policy
        state.trip = trip
        self.log.add_trip(trip)
        with state.during(Phase.DECIDE):
            plan = policy.decide(trip)
        if plan.needs_diagnosis:
            diagnosis = self._diagnose(trip, diagnosis)
            self.log.add_diagnosis(diagnosis)
        self._note_bad_batches(trip, diagnosis)
        with state.during(Phase.ACT):
            verdict = policy.act(trip, plan)
        if self.training.went_back_to is not None:
            self.monitor.history.forget_after(self.training.went_back_to)
            self.training.went_back_to = None
        state.is_unresolved = not (trip.is_spike or trip.breaks_schema or verdict.is_resolved)
        if verdict.stops:
            if not plan.needs_diagnosis:
                diagnosis = self._diagnose(trip, diagnosis)
                self.log.add_diagnosis(diagnosis)
            assert diagnosis is not None
            self._stop(trip, diagnosis)
        if not verdict.makes_update:
            self._end_step()
        return verdict.makes_update

    def _end_step(self) -> None:
        """Report the numbers of the step, once."""
        training = self.training
        if training.scaler.is_active:
            scale = training.scaler.known_scale(is_on_host=not training.devices())
            self.monitor.history.add_scale(training.step, scale)
        if self.log.tracker is not None:
            self.log.tracker.end_step()

    def _note_bad_batches(self, trip: Trip, diagnosis: Diagnosis | None) -> None:
        group, parts = self.training.rank_group, self.state.parts
        if group is not None and group.rank not in trip.ranks and not trip.is_spike:
            return
        guilty = parts if self.state.bad_part is None else [self.state.bad_part]
        new = self.bad_batches.add(trip, diagnosis or self.state.diagnosis, [part.batch for part in guilty])
        if self.log.tracker is not None:
            self.log.tracker.add_bad_batches(new)

    def _diagnose(self, trip: Trip, diagnosis: Diagnosis | None) -> Diagnosis:
        state = self.state
        found = diagnosis or self.explainer.explain(trip, self.monitor.history.view(), self.monitor.updates.sample)
        if state.stale_gradients is not None and found.cause in ("not-reproducible", "unknown"):
            found = explain_stale_gradients(*state.stale_gradients, trip.step)
        state.diagnosis = found
        return found

    def _stop(self, trip: Trip, diagnosis: Diagnosis) -> NoReturn:
        self.state.close()
        self.training.buffers.restore()
        raise NonFiniteError(diagnosis, self.try_write_bundle(trip))

    def release_updates(self) -> None:
        """Give back what was taken for an update that never returned."""
        for optimizer in self.training.optimizers:
            self.held.release(optimizer)

    # Writing bundles.

    def try_write_bundle(self, trip: Trip) -> str | None:
        """Write a bundle where the configuration has a folder for it; returns its path."""
        if self.config.bundle_dir is None:
            return None
        group = self.training.rank_group
        rank = "" if group is None else f"-rank{group.rank}"
        path = Path(self.config.bundle_dir) / f"step-{trip.step:08d}{rank}"
        try:
            return str(self.write_bundle(path))
        except (UsageError, OSError) as error:
            # The diagnosis matters more than its bundle.
            self.log.add_note("the bundle", f"not written: {error}")
            return None

    def write_bundle(self, path: Path) -> Path:
        if not self.state.parts:
            raise UsageError(
                "no step to write: a bundle holds the step that tripped, until the next one begins; bundle_dir= writes "
                "it at once"
            )
        return write_bundle(path, self.training, self.state, self.monitor.history)
