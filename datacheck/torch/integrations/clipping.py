"""Checking gradients before a trainer clips them: what is clipped by a NaN norm is NaN everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from datacheck.torch.guard.guard import Guard

__all__ = ["check_before"]


def check_before(
    guard: Guard, owner: Any, check: Callable[[], bool], *names: str, if_refused: Mapping[str, Any] | None = None
) -> None:
    """Call ``check`` before each call of these methods of one object, until ``guard`` is removed.

    ``if_refused`` are arguments for the method where ``check`` says that the update must not be made.
    """
    for name in names:
        _wrap(guard, owner, check, name, if_refused or {})


def _wrap(guard: Guard, owner: Any, check: Callable[[], bool], name: str, if_refused: Mapping[str, Any]) -> None:
    method = getattr(owner, name)
    own = vars(owner).get(name)

    @wraps(method)
    def check_and_call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs) if check() else method(*args, **{**kwargs, **if_refused})

    def put_back() -> None:
        if own is None:
            vars(owner).pop(name, None)
        else:
            setattr(owner, name, own)

    setattr(owner, name, check_and_call)
    guard.on_remove(put_back)
