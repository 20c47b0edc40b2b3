"""Errors that a non-finite value makes the user's code raise before the guard sees a loss."""

from __future__ import annotations

import math

from datacheck.torch.diagnosis.diagnosis import Diagnosis, NonFiniteError
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.trip import Signals, Trip

__all__ = ["NUMERIC_ERRORS", "explain_escaped_error", "handle_error"]

#: Errors that code raises when it meets such a value; a check of the user's own is among them.
NUMERIC_ERRORS = (ArithmeticError, AssertionError, RuntimeError, ValueError)
#: Parts of the messages of such errors.
_HINTS = ("nan", "inf", "finite", "converge", "constraint", "probability", "singular", "positive")


def handle_error(runner: StepRunner, error: Exception) -> bool:
    """Make a trip of an error that a non-finite value has caused; returns False for any other error."""
    trip = _trip_of(runner, error)
    found = None if trip is None else runner.explainer.explain_replay(trip)
    if trip is None or found is None:
        return False
    runner.monitor.history.add_step(trip.step, math.nan, None)
    runner.resolve(trip, found)
    return True


def explain_escaped_error(runner: StepRunner, error: BaseException) -> None:
    """Add a diagnosis to an error that ended the user's loop before its update, if a non-finite value has caused it."""
    state = runner.state
    if isinstance(error, NonFiniteError) or not isinstance(error, NUMERIC_ERRORS):
        return
    if not state.awaits_update or not state.parts:
        return
    trip = _trip_of(runner, error)
    if trip is None:
        return
    state.error = error
    found: Diagnosis | None = runner.explainer.explain_replay(trip)
    if found is not None:
        state.trip, state.diagnosis = trip, found
        runner.log.add_trip(trip)
        runner.log.add_diagnosis(found)
        error.add_note(str(NonFiniteError(found, runner.try_write_bundle(trip))))


def _trip_of(runner: StepRunner, error: Exception) -> Trip | None:
    """The trip that an error may be; None where its message hints at no such value, or where ranks train together."""
    if runner.training.rank_group is not None or not any(hint in str(error).lower() for hint in _HINTS):
        return None
    signals = Signals(runner.training.step, math.nan, None)
    return Trip(code="DC450", signals=signals, detail=f"{type(error).__name__} was raised: {error}")
