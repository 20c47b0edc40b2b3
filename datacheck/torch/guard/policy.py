"""From a trip to what is done about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.actions import Action, Call, Outcome, Raise, Warn
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip

__all__ = ["Policy"]

#: Diagnoses a trip.
Explain = Callable[[Trip], Diagnosis]
#: Raises for a trip.
Stop = Callable[[Trip, Diagnosis | None], None]


class Policy:
    """Lets actions act in order.

    Of the actions that settle a step (clip, skip, rollback, raise), the first that suits the trip and is not spent does;
    the others (warn, reduce_lr, a function) all act. Where the only settling actions are spent, or none applies_to, the
    guard raises. An update that is not finite is made only where ``"warn"`` stands alone, or a function says "make".
    """

    def __init__(self, actions: Sequence[Action], training: Training, log: GuardLog, max_diagnoses: int) -> None:
        self.actions = tuple(actions)
        self._training = training
        self._log = log
        self._max_diagnoses = max_diagnoses
        self._num_diagnoses = 0
        # Asked at every step, and most actions have nothing to do there.
        self._before_step = [a.before_step for a in actions if type(a).before_step is not Action.before_step]
        self._after_update = [a.after_update for a in actions if type(a).after_update is not Action.after_update]
        #: Whether the last trip was answered by an action that leaves nothing bad in the gradients.
        self.was_resolved = False

    def resolve(self, trip: Trip, explain: Explain, stop: Stop) -> bool:
        """Act on a trip; whether the update is to be made. ``stop`` raises."""
        self._log.add_trip(trip)
        settler = next((a for a in self.actions if a.is_terminal and a.applies_to(trip) and not a.is_exhausted()), None)
        diagnosis = None
        if self._may_stop(trip, settler) or (not trip.is_spike and self._num_diagnoses < self._max_diagnoses):
            self._num_diagnoses += 1
            diagnosis = explain(trip)
            self._log.add_diagnosis(diagnosis)
        settled = asked = eased = None
        for action in self.actions:
            if action.is_exhausted() or not action.applies_to(trip) or (action.is_terminal and action is not settler):
                continue
            action.num_acts += 1
            outcome, detail = action.act(trip, self._training)
            self._log.add_act(action.name, trip.step, detail)
            if isinstance(action, Raise) or (isinstance(action, Call) and action.answer == "raise"):
                stop(trip, diagnosis)
            if outcome is Outcome.TELL:
                continue
            if action.is_terminal:
                settled = outcome
            elif isinstance(action, Call):
                asked = outcome
            else:
                eased = outcome
        self.was_resolved = settled is not None
        decision = settled or asked or (None if trip.is_late else eased)
        if decision is not None:
            return decision is Outcome.MAKE
        if self._is_told_only or (trip.is_spike and not self._has_settlers):
            return True
        if self._has_settlers or trip.is_late or not any(isinstance(action, Call) for action in self.actions):
            stop(trip, diagnosis)
        self._training.buffers.restore()
        return False

    def _may_stop(self, trip: Trip, settler: Action | None) -> bool:
        """Whether training is going to stop at this trip, unless a function has it otherwise."""
        if settler is not None:
            return isinstance(settler, Raise)
        return not self._is_told_only and (self._has_settlers or not trip.is_spike)

    @property
    def _is_told_only(self) -> bool:
        return all(isinstance(action, Warn) for action in self.actions)

    @property
    def _has_settlers(self) -> bool:
        return any(action.is_terminal for action in self.actions)

    def before_step(self) -> None:
        for prepare in self._before_step:
            prepare(self._training)

    def after_update(self) -> None:
        for follow in self._after_update:
            follow(self._training)
