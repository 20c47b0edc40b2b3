"""Say it, and let training go on."""

from __future__ import annotations

import warnings

from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip

__all__ = ["GuardWarning", "Warn"]


class GuardWarning(UserWarning):
    """A step tripped a guard."""


class Warn(Action):
    """Warn with :class:`GuardWarning`. By itself it changes nothing: the update is made, not finite as it may be.

    ``on_trip=("warn", "skip")`` warns and keeps the update from the weights.
    """

    name = "warn"
    is_terminal = False
    handles_late = True

    def act(self, trip: Trip, _training: Training, /) -> tuple[Outcome, str]:
        warnings.warn(f"step {trip.step}: {trip}", GuardWarning, stacklevel=2)
        return Outcome.TELL, f"{trip.code} at step {trip.step}"
