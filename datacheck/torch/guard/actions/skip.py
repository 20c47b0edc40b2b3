"""Leave the update out."""

from __future__ import annotations

from datacheck.errors import UsageError
from datacheck.text import join_limited
from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip

__all__ = ["Skip"]


class Skip(Action):
    """Leave the update out: weights and optimizer state stay as they are, buffers go back to the start of the step.

    After ``max_in_row`` skipped steps in a row (the guard's ``max_skips`` unless given) the next action is asked, and
    the guard raises where there is none.
    """

    name = "skip"
    is_terminal = True

    def __init__(self, max_in_row: int | None = None, *, limit: int | None = None) -> None:
        super().__init__(limit=limit)
        if max_in_row is not None and max_in_row < 0:
            raise UsageError(f"skip: max_in_row={max_in_row!r}: it must be at least 0")
        self.max_in_row = max_in_row
        self.num_in_row = 0

    def is_exhausted(self) -> bool:
        return super().is_exhausted() or (self.max_in_row is not None and self.num_in_row >= self.max_in_row)

    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        self.num_in_row += 1
        lost = training.buffers.restore()
        detail = f"the update of step {trip.step} was not made"
        if lost:
            detail += f"; {join_limited(lost)} had not been kept and could not be put back"
        return Outcome.HOLD, detail

    def after_update(self, _training: Training, /) -> None:
        self.num_in_row = 0
