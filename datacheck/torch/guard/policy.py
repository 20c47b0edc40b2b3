"""Which actions act on a trip, and what that means for the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datacheck.torch.guard.actions import Action, Call, Clip, Outcome, Raise, Skip, Warn
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip


@dataclass(frozen=True, slots=True)
class ActionPlan:
    """The actions that act on a trip, in order, and whether it must be diagnosed first."""

    actions: tuple[Action, ...]
    needs_diagnosis: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from the actions. ``is_resolved``: one of them left nothing non-finite in the gradients."""

    makes_update: bool = False
    stops: bool = False
    is_resolved: bool = False


class Policy:
    """Lets actions act in order.

    Of the terminal actions (clip, skip, rollback, raise), only the first acts that applies to the trip and is not
    exhausted; of the others (warn, reduce_lr, a function) all do. Where every terminal action is exhausted or none
    applies, training stops. A non-finite update is made only with ``"warn"`` alone, or where a function answers "make".
    """

    def __init__(self, actions: Sequence[Action], training: Training, log: GuardLog, max_diagnoses: int) -> None:
        self._actions = tuple(actions)
        self._training = training
        self._log = log
        self._max_diagnoses = max_diagnoses
        self._num_diagnoses = 0
        #: Acts on batches that were bad before, whatever the user's actions do about new ones.
        self._skip_known = Skip()
        self._only_warns = all(isinstance(action, Warn) for action in actions)
        self._has_terminal = any(action.is_terminal for action in actions)
        # Called at every step, where most actions have nothing to do.
        self._before_step = [a.before_step for a in actions if type(a).before_step is not Action.before_step]
        self._after_update = [a.after_update for a in actions if type(a).after_update is not Action.after_update]

    @property
    def can_follow(self) -> bool:
        """Whether the actions can act on a step whose bad update was skipped before they run."""
        return self._has_terminal and not any(isinstance(action, Call | Clip) for action in self._actions)

    def state_dict(self) -> dict[str, Any]:
        """What the actions must remember, in their order, and how many trips were diagnosed."""
        states = [{"name": action.name, **action.state_dict()} for action in self._actions]
        return {"num_diagnoses": self._num_diagnoses, "states": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned. Other actions start from scratch."""
        self._num_diagnoses = int(state["num_diagnoses"])
        for action, kept in zip(self._actions, state["states"], strict=False):
            if kept["name"] == action.name:
                action.load_state_dict(kept)

    def before_step(self) -> None:
        for prepare in self._before_step:
            prepare(self._training)

    def after_update(self) -> None:
        for follow in self._after_update:
            follow(self._training)

    def decide(self, trip: Trip) -> ActionPlan:
        """Choose the actions for a trip."""
        if trip.is_known:
            return ActionPlan((self._skip_known,), needs_diagnosis=False)
        candidates = [action for action in self._actions if action.applies_to(trip) and not action.is_exhausted()]
        terminal = next((action for action in candidates if action.is_terminal), None)
        chosen = tuple(action for action in candidates if not action.is_terminal or action is terminal)
        is_affordable = not trip.is_spike and self._num_diagnoses < self._max_diagnoses
        needs_diagnosis = self._may_stop(trip, terminal) or is_affordable
        self._num_diagnoses += needs_diagnosis
        return ActionPlan(chosen, needs_diagnosis)

    def _may_stop(self, trip: Trip, terminal: Action | None) -> bool:
        """Whether training will stop at this trip, unless a function answers otherwise."""
        if terminal is not None:
            return isinstance(terminal, Raise)
        return not self._only_warns and (self._has_terminal or not trip.is_spike)

    def act(self, trip: Trip, plan: ActionPlan) -> Verdict:
        """Let the chosen actions act."""
        terminal: Outcome | None = None
        answered: Outcome | None = None
        other: Outcome | None = None
        for action in plan.actions:
            action.num_acts += 1
            outcome, detail = action.act(trip, self._training)
            self._log.add_act(action.name, trip.step, detail)
            if isinstance(action, Raise) or (isinstance(action, Call) and action.answer == "raise"):
                return Verdict(stops=True, is_resolved=terminal is not None)
            if outcome is Outcome.NO_DECISION:
                continue
            if action.is_terminal:
                terminal = outcome
            elif isinstance(action, Call):
                answered = outcome
            else:
                other = outcome
        # A terminal action overrules a function, and a function the others, which cannot undo an update.
        decided = terminal or answered or (None if trip.is_late else other)
        if decided is not None:
            return Verdict(makes_update=decided is Outcome.MAKE_UPDATE, is_resolved=terminal is not None)
        return self._decide_by_default(trip)

    def _decide_by_default(self, trip: Trip) -> Verdict:
        """What happens to a trip that no action has decided about."""
        if self._only_warns or (trip.is_spike and not self._has_terminal):
            return Verdict(makes_update=True)
        if self._has_terminal or trip.is_late or not any(isinstance(action, Call) for action in self._actions):
            return Verdict(stops=True)
        self._training.buffers.restore()
        return Verdict(makes_update=False)
