"""The order of things in a step: begin, look, act, update, look again; driven by the guard or by hooks in a user's loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datacheck.errors import UsageError
from datacheck.findings import Severity
from datacheck.schema.loading import load_schema
from datacheck.text import join_limited
from datacheck.torch.diagnosis.diagnosis import Diagnosis, NonFiniteError
from datacheck.torch.guard.actions import OnTrip, read_actions
from datacheck.torch.guard.bundle import write_bundle
from datacheck.torch.guard.config import GuardConfig
from datacheck.torch.guard.distributed import is_sharded
from datacheck.torch.guard.explain import Explainer, explain_stale_gradients
from datacheck.torch.guard.layer_monitor import LayerMonitor
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.loop_hooks import LoopHooks, needs_closure
from datacheck.torch.guard.monitor import Monitor
from datacheck.torch.guard.names import NamedParameter, unwrap_model
from datacheck.torch.guard.policy import Policy
from datacheck.torch.guard.step_state import LossFunction, StepState
from datacheck.torch.guard.training_state import Scaler, Stateful, Training
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.guard.update_monitor import BadTensor
from datacheck.torch.values import count_nonfinite

__all__ = ["StepRunner"]

#: A scaler's steps in a row that overflow, as few as its first ones often do, before one is looked at without a scale.
OVERFLOWS_TO_DOUBT = 3
#: Steps of a loop that its scaler left out, of which every one is looked at without a scale.
MAX_DOUBTS = 16
#: What a program raises that has met such a value, a check of the user's own among them.
_ERRORS = (ArithmeticError, AssertionError, RuntimeError, ValueError)
#: What the message of an error that a NaN has caused says.
_HINTS = ("nan", "inf", "finite", "converge", "constraint", "probability", "singular", "positive")


class StepRunner:
    """Everything behind a guard."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        on_trip: OnTrip,
        scaler: Scaler | None,
        schedulers: Sequence[Stateful],
        config: GuardConfig,
    ) -> None:
        self.config = config
        self.training = Training(
            model,
            optimizers,
            scaler if scaler is not None and scaler.is_enabled() else None,
            schedulers,
            synchronize=config.synchronize,
        )
        self.log = GuardLog()
        self.context = StepState()
        self.layers = LayerMonitor(unwrap_model(model)) if config.watch == "layers" else None
        self.monitor = Monitor(self.training, config, self.layers)
        self.response = Policy(read_actions(on_trip, config.max_skips), self.training, self.log, config.max_diagnoses)
        self.last_diagnosis: Diagnosis | None = None
        self._last_trip: Trip | None = None
        self._explainer = Explainer(
            self.training, self.log, None if config.schema is None else load_schema(config.schema)
        )
        self._overflows_in_row = 0
        self._num_doubts = 0
        #: The step, and its diagnosis, whose bad gradients the present step was begun with.
        self._stale: tuple[int, Diagnosis | None] | None = None
        self._is_prepared = False
        self._is_late = False
        self._parameters: Sequence[NamedParameter] = ()
        self.is_driving = False
        self.is_replaying = False
        self._hooks = LoopHooks(self)
        self._hooks.substitutes = self._explainer.substitutes
        self.closure_optimizer = next((optimizer for optimizer in optimizers if needs_closure(optimizer)), None)

    def attach(self) -> None:
        self._hooks.attach()
        self.prepare()
        if self.layers is not None:
            self.layers.attach()

    def detach(self) -> None:
        self._hooks.detach()
        if self.layers is not None:
            self.layers.remove()
        self.context.clear()

    def require_attached(self) -> None:
        if not self._hooks.is_attached:
            raise UsageError("the guard was removed; make a new one, or enter it again: with guard: ...")

    def prepare(self) -> None:
        """Remember what the next step begins from, where only its end will be noticed."""
        self.training.buffers.begin()
        self.training.random.begin()
        if self.layers is not None:
            self.layers.begin()
        self._is_prepared = True

    def begin(self, *, late: bool = False) -> None:
        """Start a step: remember what it begins from. ``late``: its forward pass went by unnoticed."""
        training = self.training
        self.response.before_step()
        if training.parameters is not self._parameters:
            self._take_in_changes()
        if training.step == 0:
            training.state.learn()
        training.step += 1
        if not (late and self._is_prepared):
            self.prepare()
        self._is_prepared = False
        self._is_late = late
        self.context.clear()
        if self._last_trip is not None:
            self._note_stale_gradients(self._last_trip)
            self._last_trip = None
        elif self._stale is not None:
            self._stale = None
        self._hooks.opened()

    def _note_stale_gradients(self, trip: Trip) -> None:
        """Whether gradients of a step that tripped are there still: what is added to them stays bad."""
        gradients = (parameter.tensor.grad for parameter in self.training.parameters)
        if not any(gradient is not None and count_nonfinite(gradient)[0] for gradient in gradients):
            self._stale = None
        elif self._stale is None:
            last = self.last_diagnosis
            self._stale = (trip.step, last if last is not None and last.step == trip.step else None)

    def _take_in_changes(self) -> None:
        """Parameters have come or gone, and with them it may be modules and buffers."""
        is_first, self._parameters = not self._parameters, self.training.parameters
        if is_first:
            return
        self.training.buffers.invalidate()
        if self.layers is not None:
            self.layers.refresh()

    def close(self) -> None:
        """End a step: let go of its batch, unless it tripped and may yet be written to a bundle."""
        if self.layers is not None and self.training.step == 1:
            self._note_blindness(self.layers)
        self.training.random.end()
        self._hooks.closed()
        if self._is_late:
            self.prepare()
        if self._last_trip is None:
            self.context.clear()

    def _note_blindness(self, layers: LayerMonitor) -> None:
        if layers.is_compiled():
            self.log.add_note(
                "the layers",
                "inside torch.compile the outputs of modules are watched, and the gradients with respect to them are not",
                Severity.WARNING,
            )
        if layers.blind_spots:
            shown = join_limited(sorted(layers.blind_spots), 4)
            self.log.add_note("the layers", f"hooks do not see the values of {shown}, under vmap or in TorchScript")
        elif layers.is_blind():
            self.log.add_note(
                "the layers",
                "no module was called through its hooks; make the guard before the first call of a compiled model, and call"
                " modules as model(x), not model.forward(x)",
            )

    def forward(self, loss_fn: LossFunction, batch: Any) -> Tensor | None:
        """The loss; None where a value that is not finite made the code raise, and the actions go on with training."""
        try:
            loss = loss_fn(self.training.model, batch)
        except _ERRORS as error:
            if self._may_be_made_by_nonfinite(error) and self._is_made_by_nonfinite(error):
                return None
            raise
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shown = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(
                f"loss_fn(model, batch) returned {shown}; it must return a tensor with one value, such as loss.mean()"
            )
        return loss

    def explain_escape(self, error: BaseException) -> None:
        """Add to an error that ended a loop of the user's, before its update, what the microscope finds behind it."""
        if isinstance(error, NonFiniteError) or not (isinstance(error, _ERRORS) and self._hooks.is_open):
            return
        if not self.context.parts or not self._may_be_made_by_nonfinite(error):
            return
        trip = self._trip_of(error)
        self.context.error = error
        found = self._explained(trip)
        if found is not None:
            self._last_trip, self.last_diagnosis = trip, found
            self.log.add_trip(trip)
            self.log.add_diagnosis(found)
            bundle = self._bundle_of(trip)
            error.add_note(str(NonFiniteError(found, bundle)))

    def _may_be_made_by_nonfinite(self, error: Exception) -> bool:
        return self.training.rank_group is None and any(hint in str(error).lower() for hint in _HINTS)

    def _trip_of(self, error: Exception) -> Trip:
        signals = Signals(self.training.step, float("nan"), None)
        return Trip(code="DC450", signals=signals, detail=f"{type(error).__name__} was raised: {error}")

    def _is_made_by_nonfinite(self, error: Exception) -> bool:
        """Whether the microscope finds a value that is not finite behind an error; if so it is a trip."""
        trip = self._trip_of(error)
        found = self._explained(trip)
        if found is None:
            return False
        self.monitor.history.add_step(self.training.step, float("nan"), None)
        self._resolve(trip, found)
        return True

    def _explained(self, trip: Trip) -> Diagnosis | None:
        """What the microscope alone says of a step; None where its replay is finite."""
        with self._hooks_off():
            return self._explainer.explain_error(trip, self.context)

    def finish(self) -> None:
        """Check the gradients that are there and, unless the actions have it otherwise, update."""
        training, scaler = self.training, self.training.scaler
        training.refresh()
        scale: Tensor | float = 1.0 if scaler is None else scaler.scale(_one(training))
        reading = self.monitor.look(self.context.losses, training.parameters, scale, may_overflow=scaler is not None)
        self._overflows_in_row = self._overflows_in_row + 1 if reading.is_overflow else 0
        if self._overflows_in_row == OVERFLOWS_TO_DOUBT and self._is_bad_without_scale():
            reading = self.monitor.look(self.context.losses, training.parameters, scale)
        if reading.trip is not None and not self._resolve(reading.trip):
            for optimizer in training.optimizers:
                # A scheduler would warn that it was stepped before its optimizer.
                optimizer._opt_called = True  # type: ignore[attr-defined]
            return
        if self.config.max_grad_norm is not None and not reading.is_overflow:
            for optimizer in training.optimizers:
                if scaler is not None:
                    scaler.unscale_(optimizer)
            tensors = [parameter.tensor for parameter in training.parameters]
            try:
                torch.nn.utils.clip_grad_norm_(tensors, self.config.max_grad_norm)
            except NotImplementedError as error:
                raise UsageError(
                    "max_grad_norm: torch cannot clip sparse gradients; leave it out, or give the embedding sparse=False"
                ) from error
        self.monitor.before_update()
        try:
            for optimizer in training.optimizers:
                if scaler is None:
                    optimizer.step()
                else:
                    scaler.step(optimizer)
        except BaseException:
            # No hook is called after a step that raised.
            self._hooks.put_back()
            raise
        if scaler is not None:
            scaler.update()
        if reading.is_overflow:
            self.check_scale()
        else:
            self.updated()
        self.close()

    def _is_bad_without_scale(self) -> bool:
        """Whether the step's gradients are not finite without a loss scale either: lowering it will not help then."""
        with self._hooks_off():
            is_bad = self._explainer.is_harmed(self.context)
        rank_group = self.training.rank_group
        return is_bad if rank_group is None else rank_group.sum([float(is_bad)])[0] > 0

    def check_before(
        self,
        parameters: Sequence[NamedParameter],
        losses: Sequence[Tensor],
        scale: Tensor | float,
        *,
        may_overflow: bool = False,
        which: int = 0,
    ) -> bool:
        """Check before one optimizer's update in a loop of the user's; whether to make the update."""
        reading = self.monitor.look(losses, parameters, scale, may_overflow=may_overflow, which=which)
        return reading.trip is None or self._resolve(reading.trip)

    def updated(self) -> None:
        """An update was made: look at what it left behind, unless it was made in spite of what was seen."""
        self._overflows_in_row = 0
        self.training.num_updates += 1
        trip = self._last_trip
        is_forced = trip is not None and not trip.is_spike and not self.response.was_resolved
        late = self.monitor.after_update(look=not is_forced)
        if late is not None:
            self._resolve(late)
        elif self._last_trip is None:
            self.response.after_update()

    def left_out_by_scaler(self) -> None:
        """Judge a step of a loop that the scaler left out: an overflow is its own affair, anything else is a trip."""
        self.context.is_past = True
        self._overflows_in_row += 1
        trip, found = self.monitor.look_left_out(self.context.losses), None
        # Each is replayed, which costs a step; where that found nothing so often, only a third in a row still is.
        if trip is None and (self._num_doubts < MAX_DOUBTS or self._overflows_in_row == OVERFLOWS_TO_DOUBT):
            self._num_doubts += 1
            if is_sharded(unwrap_model(self.training.model)):
                self.log.add_note(
                    "what the scaler leaves out",
                    "the model is sharded, so such a step is not replayed; guard.backward(loss) makes its loss known",
                    Severity.WARNING,
                )
            if self._is_bad_without_scale():
                trip = self.monitor.trip_left_out()
                found = self._explained(trip) if self.training.rank_group is None else None
                if found is not None and found.phase == "backward" and found.chain:
                    origin = found.chain[0]
                    bad = BadTensor("gradient", found.module or origin.op, origin.num_bad, origin.num_values)
                    trip = replace(trip, code="DC451", bad=(bad,))
        if trip is not None:
            self._resolve(trip, found)
        else:
            self.check_scale()

    def read_late(self) -> None:
        """Look at what the last update left behind, if that is still to be read."""
        self._hooks.look_back()
        if self.training.rank_group is None:
            late = self.monitor.read_late()
            if late is not None:
                self._resolve(late)

    def check_scale(self) -> None:
        """A loss scale that fell and fell is a trip; one infinity is not."""
        training = self.training
        assert training.scaler is not None
        scale = training.scaler.get_scale()
        if scale < self.config.min_loss_scale:
            signals = Signals(training.step, None, None)
            shown = f"{scale:g}, below {self.config.min_loss_scale:g}"
            self._resolve(Trip(code="DC454", signals=signals, detail=shown))

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        """A replay calls the model, and is no step of the run."""
        self.is_replaying = True
        if self.layers is not None:
            self.layers.is_paused = True
        try:
            yield
        finally:
            self.is_replaying = False
            if self.layers is not None:
                self.layers.is_paused = False

    def _resolve(self, trip: Trip, found: Diagnosis | None = None) -> bool:
        self._last_trip = trip

        def explain(tripped: Trip) -> Diagnosis:
            with self._hooks_off():
                diagnosis = found or self._explainer.explain(tripped, self.context, self.monitor.history.view())
            if self._stale is not None and diagnosis.cause in ("not-reproducible", "unknown"):
                diagnosis = explain_stale_gradients(*self._stale, tripped.step)
            self.last_diagnosis = diagnosis
            return diagnosis

        def stop(tripped: Trip, diagnosis: Diagnosis | None) -> NoReturn:
            if diagnosis is None:
                diagnosis = explain(tripped)
                self.log.add_diagnosis(diagnosis)
            self._hooks.closed()
            self.training.buffers.restore()
            raise NonFiniteError(diagnosis, self._bundle_of(tripped))

        return self.response.resolve(trip, explain, stop)

    def _bundle_of(self, trip: Trip) -> str | None:
        if self.config.bundle_dir is None:
            return None
        rank = "" if self.training.rank_group is None else f"-rank{self.training.rank_group.rank}"
        path = Path(self.config.bundle_dir) / f"step-{trip.step:08d}{rank}"
        try:
            return str(self.bundle(path))
        except (UsageError, OSError) as error:
            # The diagnosis matters more than its bundle.
            self.log.add_note("the bundle", f"it was not written: {error}")
            return None

    def bundle(self, path: Path) -> Path:
        if not self.context.parts:
            raise UsageError(
                "there is no step to write: a bundle holds the step that tripped, until the next one begins; "
                "bundle_dir= writes it at once"
            )
        return write_bundle(
            path, self.training, self.context, self._last_trip, self.last_diagnosis, self.monitor.history
        )

    def note_loss(self, loss: Tensor) -> None:
        self._hooks.note_loss(loss)

    def step_with_closure(self, loss_fn: LossFunction, batch: Any) -> Tensor:
        """A step of an optimizer that evaluates the loss itself, many times: LBFGS."""
        optimizer, config = self.closure_optimizer, self.config
        assert optimizer is not None
        if len(self.training.optimizers) > 1 or config.accumulation_steps > 1 or config.max_grad_norm is not None:
            raise UsageError(
                f"{type(optimizer).__name__} evaluates its loss itself: step takes no second optimizer, "
                "accumulation_steps or max_grad_norm beside it"
            )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.forward(loss_fn, batch)
            if loss is None:
                self._hooks.hold_closure()
                return torch.full((), float("nan"))
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        loss = self._hooks.step_with(optimizer, closure, loss_fn, batch)
        return torch.as_tensor(loss).detach()


def _one(training: Training) -> Tensor:
    device = next(iter(training.devices()), torch.device("cpu"))
    return torch.ones((), device=device)
