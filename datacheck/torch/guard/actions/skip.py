"""Skip the update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datacheck.errors import UsageError
from datacheck.text import join_limited
from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip


class Skip(Action):
    """Skip the update: weights and optimizer state stay, buffers go back to the start of the step.

    After ``max_in_row`` skipped steps in a row (default: the guard's ``max_skips``) the next terminal action takes over;
    without one, the guard raises.
    """

    name = "skip"
    is_terminal = True

    def __init__(self, max_in_row: int | None = None, *, limit: int | None = None) -> None:
        super().__init__(limit=limit)
        if max_in_row is not None and max_in_row < 0:
            raise UsageError(f"skip: max_in_row={max_in_row!r}: expected at least 0")
        self.max_in_row = max_in_row
        self.num_in_row = 0

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "num_in_row": self.num_in_row}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        super().load_state_dict(state)
        self.num_in_row = int(state["num_in_row"])

    def is_exhausted(self) -> bool:
        return super().is_exhausted() or (self.max_in_row is not None and self.num_in_row >= self.max_in_row)

    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        self.num_in_row += 1
        lost = training.buffers.restore()
        detail = f"the update of step {trip.step} was skipped"
        if lost:
            detail += f"; {join_limited(lost)} could not be restored, since no copy was kept"
        return Outcome.SKIP_UPDATE, detail

    def after_update(self, _training: Training, /) -> None:
        self.num_in_row = 0
