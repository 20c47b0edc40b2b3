"""Errors that a non-finite value makes the user's code raise before the guard sees a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor, nn

from datacheck.torch.diagnosis.diagnosis import Diagnosis, NonFiniteError
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.structure import parts_of

__all__ = ["explain_escaped_error", "handle_error"]

#: Parts of the messages of errors that non-finite values cause. The number is what NaN becomes as an integer.
_HINTS = (
    "nan",
    "inf",
    "finite",
    "converge",
    "constraint",
    "probability",
    "singular",
    "positive",
    "9223372036854775808",
)


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
    if isinstance(error, NonFiniteError) or not isinstance(error, (Exception, SystemExit)) or not state.awaits_update:
        return
    trip = _trip_of(runner, error)
    if trip is None:
        return
    found: Diagnosis | None = runner.explainer.explain_error(trip, error)
    if found is not None:
        state.trip, state.diagnosis = trip, found
        runner.log.add_trip(trip)
        runner.log.add_diagnosis(found)
        error.add_note(str(NonFiniteError(found, runner.try_write_bundle(trip))))


def _trip_of(runner: StepRunner, error: BaseException) -> Trip | None:
    """The trip that an error may be; None where no value is non-finite, or where ranks train together."""
    if runner.training.rank_group is not None:
        return None
    hinted = any(hint in str(error).lower() for hint in _HINTS)
    if not hinted and not any(map(_is_bad, _variables(error))):
        return None
    signals = Signals(runner.training.step, math.nan, None)
    return Trip(code="DC450", signals=signals, detail=f"{type(error).__name__} was raised: {error}")


def _variables(error: BaseException) -> Iterator[Tensor]:
    """The tensors in variables of the functions that an error went through."""
    entry = error.__traceback__
    while entry is not None:
        for value in entry.tb_frame.f_locals.values():
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, (dict, list, tuple)) and len(value) <= 64:
                yield from (part for _, part in parts_of(value) or () if isinstance(part, Tensor))
        entry = entry.tb_next


def _is_bad(tensor: Tensor) -> bool:
    """Whether a tensor holds NaN, or as a scalar is infinite: elsewhere infinities may be masks."""
    if isinstance(tensor, nn.Parameter) or not tensor.is_floating_point():
        return False
    return bool(tensor.isnan().any()) or (tensor.numel() == 1 and not bool(tensor.isfinite().all()))
