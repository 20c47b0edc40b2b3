"""Errors that a non-finite value makes the user's code raise before the guard sees a loss."""

from __future__ import annotations

import dis
import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from datacheck.torch._compat import is_transformed
from datacheck.torch.diagnosis.diagnosis import Diagnosis, NonFiniteError
from datacheck.torch.diagnosis.preflight import note_arguments
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.structure import parts_of
from datacheck.torch.values import can_be_nonfinite, is_finite

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

#: Containers and objects with more parts are not looked into.
MAX_PARTS = 64


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
    note_arguments(error)
    if runner.training.rank_group is not None:
        return None
    hinted = any(hint in str(error).lower() for hint in _HINTS)
    if not hinted and not any(map(_is_bad, _variables(error))) and not _checks_infinity(error):
        return None
    signals = Signals(runner.training.step, math.nan, None)
    return Trip(code="DC450", signals=signals, detail=f"{type(error).__name__} was raised: {error}")


def _variables(error: BaseException) -> Iterator[Any]:
    """The variables of the functions that an error went through, and what is in their containers and objects."""
    entry = error.__traceback__
    while entry is not None:
        for value in entry.tb_frame.f_locals.values():
            yield value
            if isinstance(value, (dict, list, tuple)) and len(value) <= MAX_PARTS:
                yield from (part for _, part in parts_of(value) or ())
            elif not isinstance(value, (Tensor, type)):
                own = getattr(value, "__dict__", {})
                yield from own.values() if len(own) <= MAX_PARTS else ()
        entry = entry.tb_next


def _checks_infinity(error: BaseException) -> bool:
    """Whether the function that raised an error itself, as a check does, holds an infinite value."""
    entry = error.__traceback__
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    if entry is None or not isinstance(error, (AssertionError, ArithmeticError, ValueError, RuntimeError)):
        return False
    # Torch raises its own errors from C++, below a call; a mask may be among the arguments.
    is_raised = next(
        (found for found in dis.get_instructions(entry.tb_frame.f_code) if found.offset == entry.tb_lasti), None
    )
    if is_raised is None or is_raised.opname != "RAISE_VARARGS":
        return False
    values = entry.tb_frame.f_locals.values()
    return any(_is_readable(value) and not is_finite(value) for value in values)


def _is_bad(value: Any) -> bool:
    """Whether a value is a NaN or a tensor with one, or an infinite tensor of one value: elsewhere infinities are masks."""
    if isinstance(value, float):
        return math.isnan(value)
    if not _is_readable(value) or isinstance(value, nn.Parameter) or value.dtype.itemsize == 1:
        return False
    return bool(value.isnan().any()) or (value.numel() == 1 and not bool(value.isfinite().all()))


def _is_readable(value: Any) -> bool:
    """Whether a value is a tensor that may be non-finite: not what a ``vmap`` or a ``grad`` that has ended has left."""
    return isinstance(value, Tensor) and not is_transformed(value) and can_be_nonfinite(value)
