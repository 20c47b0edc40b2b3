"""The actions of a guard, and how ``on_trip`` is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datacheck.errors import UsageError, nearest_name
from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.actions.call import Call
from datacheck.torch.guard.actions.clip import Clip
from datacheck.torch.guard.actions.reduce_lr import ReduceLR
from datacheck.torch.guard.actions.rollback import Rollback
from datacheck.torch.guard.actions.skip import Skip
from datacheck.torch.guard.actions.stop import Raise
from datacheck.torch.guard.actions.warn import GuardWarning, Warn
from datacheck.torch.guard.trip import Trip

__all__ = [
    "ACTIONS",
    "Action",
    "Call",
    "Clip",
    "GuardWarning",
    "OnTrip",
    "Outcome",
    "Raise",
    "ReduceLR",
    "Rollback",
    "Skip",
    "Warn",
    "read_actions",
]

#: The names for ``on_trip``.
ACTIONS: dict[str, Callable[[], Action]] = {
    "clip": Clip,
    "raise": Raise,
    "reduce_lr": ReduceLR,
    "rollback": Rollback,
    "skip": Skip,
    "warn": Warn,
}

#: One action or several in order, each a name, an :class:`Action`, or a function of the trip.
OnTrip = str | Action | Callable[[Trip], "str | None"] | Sequence["str | Action | Callable[[Trip], str | None]"]


def read_actions(on_trip: OnTrip, max_skips: int) -> tuple[Action, ...]:
    """The actions for ``on_trip``, in order."""
    given = on_trip if isinstance(on_trip, Sequence) and not isinstance(on_trip, str) else (on_trip,)
    actions = tuple(_read_action(one) for one in given)
    if not actions:
        raise UsageError('on_trip is empty; for warnings only, use on_trip="warn"')
    names = [one for one in given if isinstance(one, str)]
    if len({id(action) for action in actions}) < len(actions) or len(set(names)) < len(names):
        raise UsageError("on_trip: duplicate action")
    for action in actions:
        if isinstance(action, Skip) and action.max_in_row is None:
            action.max_in_row = max_skips
    return actions


def _read_action(given: str | Action | Callable[[Trip], str | None]) -> Action:
    if isinstance(given, Action):
        return given
    if isinstance(given, type):
        raise UsageError(f"on_trip={given.__name__}: expected an action, such as {given.__name__}(), got its class")
    if isinstance(given, str):
        if given not in ACTIONS:
            known = ", ".join(map(repr, ACTIONS))
            raise UsageError(f"on_trip={given!r}: expected one of {known}, or a function{nearest_name(given, ACTIONS)}")
        return ACTIONS[given]()
    if callable(given):
        return Call(given)
    raise UsageError(f"on_trip={given!r}: expected names, actions and functions")
