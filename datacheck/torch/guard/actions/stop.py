"""Stop training with a diagnosis."""

from __future__ import annotations

from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip


class Raise(Action):
    """Raise :class:`~datacheck.torch.NonFiniteError` with the diagnosis, before anything is harmed.

    Buffers go back to the start of the step; random states are those after it.
    """

    name = "raise"
    is_terminal = True
    handles_late = True

    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        training.buffers.restore()
        return Outcome.SKIP_UPDATE, f"training stopped at step {trip.step}"
