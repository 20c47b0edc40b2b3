"""What an action is: something that a guard does about a step that it stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from datacheck.errors import UsageError

if TYPE_CHECKING:
    from datacheck.torch.guard.training_state import Training
    from datacheck.torch.guard.trip import Trip

__all__ = ["Action", "Outcome"]


class Outcome(Enum):
    """What an action left of the update: to be made, not to be made, or not its business."""

    MAKE = "make"
    HOLD = "hold"
    TELL = "tell"


class Action(ABC):
    """One thing to do about a trip.

    Of the actions that ``is_terminal`` is true for, the first that is not spent decides about the update; the others all
    act. ``limit`` is how many times it acts in a run, None for no limit.
    """

    name: ClassVar[str]
    is_terminal: ClassVar[bool]
    #: Whether it has an answer where the update has been made already: that cannot be skipped any more.
    handles_late: ClassVar[bool] = False

    def __init__(self, *, limit: int | None = None) -> None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise UsageError(f"{self.name}: limit={limit!r}: it must be a whole number of at least 1, or None")
        self.limit = limit
        self.num_acts = 0

    def is_exhausted(self) -> bool:
        """Whether it may act no more."""
        return self.limit is not None and self.num_acts >= self.limit

    def applies_to(self, trip: Trip) -> bool:
        """Whether it has an answer to this trip."""
        return self.handles_late or not trip.is_late

    @abstractmethod
    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        """Do it; what is left of the update, and what was done in words."""

    def before_step(self, training: Training, /) -> None:  # noqa: B027 - few actions need it
        """Called before each step."""

    def after_update(self, training: Training, /) -> None:  # noqa: B027 - few actions need it
        """Called after each update that was made with nothing wrong."""
