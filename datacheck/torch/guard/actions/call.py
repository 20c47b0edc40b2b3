"""Ask the user's function."""

from __future__ import annotations

from collections.abc import Callable

from datacheck.errors import UsageError, nearest_name
from datacheck.text import plain
from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip

#: Answers besides None, from the mildest to the strictest.
ANSWERS = ("make", "skip", "raise")


class Call(Action):
    """Call ``function(trip)``.

    It answers ``"make"`` (make the update as it is), ``"skip"``, ``"raise"``, or None, which leaves the decision to the
    other actions. Without other actions, None skips a non-finite update. Under ``torch.distributed`` every rank follows
    the strictest answer.
    """

    name = "call"
    is_terminal = False
    handles_late = True

    def __init__(self, function: Callable[[Trip], str | None], *, limit: int | None = None) -> None:
        super().__init__(limit=limit)
        self.function = function
        self.answer: str | None = None

    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        answer = self.function(trip)
        if answer is not None and answer not in ANSWERS:
            raise UsageError(
                f"on_trip: expected the function to answer None, {', '.join(map(repr, ANSWERS))}, got {answer!r}"
                + nearest_name(str(answer), ANSWERS)
            )
        if training.rank_group is not None:
            answer = self._strictest(answer, training)
        self.answer = answer
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        outcome = Outcome.NO_DECISION
        if answer is not None:
            outcome = Outcome.MAKE_UPDATE if answer == "make" else Outcome.SKIP_UPDATE
        if outcome is Outcome.SKIP_UPDATE:
            training.buffers.restore()
        return outcome, f"{plain(name, 80)} answered {answer!r} at step {trip.step}"

    @staticmethod
    def _strictest(answer: str | None, training: Training) -> str | None:
        assert training.rank_group is not None
        votes = training.rank_group.sum([1.0 if answer == known else 0.0 for known in ANSWERS])
        chosen = [known for known, count in zip(ANSWERS, votes, strict=True) if count]
        return chosen[-1] if chosen else None
