"""Lower the learning rate for a while."""

from __future__ import annotations

from datacheck.errors import UsageError
from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip


class ReduceLR(Action):
    """Multiply every learning rate by ``factor``, and let it recover over ``recovery_steps`` good updates.

    Repeated reductions multiply, down to ``min_factor``. The factor applies during updates only, so schedulers do not see
    it. A non-finite update is skipped; after a spike the update is made at the lower rate.
    """

    name = "reduce_lr"
    is_terminal = False
    handles_late = True

    def __init__(
        self,
        factor: float = 0.5,
        *,
        recovery_steps: int | None = 100,
        min_factor: float = 1e-3,
        limit: int | None = None,
    ) -> None:
        super().__init__(limit=limit)
        if not 0 < factor < 1:
            raise UsageError(f"reduce_lr: factor={factor!r}: expected a number between 0 and 1")
        if recovery_steps is not None and recovery_steps < 1:
            raise UsageError(f"reduce_lr: recovery_steps={recovery_steps!r}: expected at least 1, or None for never")
        if not 0 < min_factor <= 1:
            raise UsageError(f"reduce_lr: min_factor={min_factor!r}: expected a number above 0 and at most 1")
        self.factor = factor
        self.recovery_steps = recovery_steps
        self.min_factor = min_factor

    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        before = training.lr_factor
        training.lr_factor = max(before * self.factor, self.min_factor)
        recovers = "" if self.recovery_steps is None else f", back within {self.recovery_steps} good updates"
        done = f"learning rates multiplied by {training.lr_factor:.4g} (before: {before:.4g}){recovers}"
        if trip.is_spike:
            return Outcome.MAKE_UPDATE, done
        training.buffers.restore()
        return Outcome.SKIP_UPDATE, f"{done}; the update of step {trip.step} was skipped"

    def after_update(self, training: Training, /) -> None:
        if self.recovery_steps is not None and training.lr_factor < 1.0:
            # One reduction recovers within recovery_steps, however many reductions there were.
            grown = training.lr_factor * (1 / self.factor) ** (1 / self.recovery_steps)
            training.lr_factor = 1.0 if grown > 1.0 - 1e-9 else grown
