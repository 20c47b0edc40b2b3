"""Warn, and let training go on."""

from __future__ import annotations

import warnings

from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip


class GuardWarning(UserWarning):
    """A guard found an anomaly in a step."""


class Warn(Action):
    """Warn with :class:`GuardWarning`. Alone it changes nothing: even a non-finite update is made.

    ``on_trip=("warn", "skip")`` warns and skips the update.
    """

    name = "warn"
    is_terminal = False
    handles_late = True

    def act(self, trip: Trip, _training: Training, /) -> tuple[Outcome, str]:
        warnings.warn(f"step {trip.step}: {trip}", GuardWarning, stacklevel=2)
        return Outcome.NO_DECISION, f"{trip.code} at step {trip.step}"
