"""What ``Guard.begin``, ``Guard.check`` and ``Guard.finished`` do: a trainer runs the step and reports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from datacheck.errors import UsageError
from datacheck.torch.guard.batch_values import BatchKeeper
from datacheck.torch.guard.decision import Decision
from datacheck.torch.guard.step_parts import LossFunction, Part
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.step_state import Phase, Source
from datacheck.torch.guard.trip import Trip


class TrainerStep:
    """Passes what a trainer reports to the runner."""

    def __init__(self, runner: StepRunner) -> None:
        self._runner = runner
        self._state = runner.state
        self._batches = BatchKeeper()

    @property
    def is_replaying(self) -> bool:
        """Whether the trainer's code runs again, for a diagnosis: nothing that it reports counts."""
        return self._state.phase is Phase.DIAGNOSE

    def begin(self, batch: Any, loss_fn: LossFunction | None) -> None:
        """Begin a step or, in one that awaits its update, the next micro-batch."""
        runner, state = self._runner, self._state
        if self.is_replaying or runner.is_off:
            return
        if not state.awaits_update:
            runner.begin()
        state.is_reported = True
        if loss_fn is not None:
            state.source = Source.TRAINER
            random = runner.training.random
            start = random.read() if state.parts else random.state
            runner.add_part(Part(loss_fn, batch, start, kept=self._batches.keep(batch)))
        elif runner.schema is not None:
            runner.schema.add_fetched(batch)

    def check(
        self,
        losses: Sequence[Tensor] | None,
        grad_norm: Tensor | float | None,
        optimizer: Optimizer | None,
    ) -> Decision:
        """Check the step before ``optimizer`` (None: all of them) updates, and decide about the update."""
        runner, state, training = self._runner, self._state, self._runner.training
        if self.is_replaying or runner.is_off:
            return Decision(True)
        training.refresh()
        if not state.is_open:
            runner.begin(late=True)
        self._batches.review([part.kept for part in state.parts])
        chosen = training.optimizers if optimizer is None else (self._find(optimizer),)
        reading = runner.check_unmade_update(
            training.parameters_of(chosen), state.known_losses if losses is None else losses, chosen[0], grad_norm
        )
        makes_update = runner.decide(reading)
        for one in chosen:
            state.decisions[id(one)] = makes_update
        return Decision(makes_update, reading.trip, self._diagnosis_of(reading.trip))

    def _find(self, optimizer: Optimizer) -> Optimizer:
        found = next((own for own in self._runner.training.optimizers if own is optimizer), None)
        if found is None:
            raise UsageError(f"check: this {type(optimizer).__name__} is not one of the guard's optimizers")
        return found

    def _diagnosis_of(self, trip: Trip | None) -> Any:
        found = self._state.diagnosis
        return found if trip is not None and found is not None and found.step == trip.step else None
