"""What an action is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar

from datacheck.errors import UsageError
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip


class Outcome(Enum):
    """What an action decides about the update of the step that tripped."""

    MAKE_UPDATE = "make"
    SKIP_UPDATE = "skip"
    NO_DECISION = "none"


class Action(ABC):
    """One way to respond to a :class:`Trip`. Subclass it for a response of your own.

    Attributes:
        name: the name in reports.
        is_terminal: whether it settles the trip. Of the terminal actions of a guard, only the first that applies and is
            not exhausted acts; the others all act.
        handles_late: whether it applies if the update has been made already, so that it can no longer be skipped.
        limit: how many times it may act in a run; None for no limit.
        num_acts: how many times it has acted.
    """

    name: ClassVar[str]
    is_terminal: ClassVar[bool]
    handles_late: ClassVar[bool] = False

    def __init__(self, *, limit: int | None = None) -> None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise UsageError(f"{self.name}: limit={limit!r}: expected an integer of at least 1, or None")
        self.limit = limit
        self.num_acts = 0

    def state_dict(self) -> dict[str, Any]:
        """What the action must remember when training is resumed, as plain values."""
        return {"num_acts": self.num_acts}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self.num_acts = int(state["num_acts"])

    def is_exhausted(self) -> bool:
        """Whether it may not act any more."""
        return self.limit is not None and self.num_acts >= self.limit

    def applies_to(self, trip: Trip) -> bool:
        """Whether it can respond to this trip."""
        return self.handles_late or not (trip.is_late or trip.was_made)

    @abstractmethod
    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        """Respond to a trip. Returns the decision about the update, and what was done, for the report."""

    def before_step(self, training: Training, /) -> None:  # noqa: B027 - few actions need it
        """Called before each step."""

    def after_update(self, training: Training, /) -> None:  # noqa: B027 - few actions need it
        """Called after each update with nothing wrong."""
