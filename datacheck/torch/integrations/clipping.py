"""Methods of a trainer's objects, with a check of the guard before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from datacheck.torch.guard.guard import Guard


def check_before(
    guard: Guard, owner: Any, check: Callable[[], bool], *names: str, if_refused: Mapping[str, Any] | None = None
) -> None:
    """Call ``check`` before each call of these methods of one object, until ``guard`` is removed.

    Gradients are checked before a trainer clips them, since clipping by a NaN norm makes everything NaN. ``if_refused``
    are arguments for the method where ``check`` says that the update must not be made.
    """

    def check_and_call(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs) if check() else method(*args, **{**kwargs, **(if_refused or {})})

    for name in names:
        guard.on_remove(wrap_method(owner, name, check_and_call))


def wrap_method(owner: Any, name: str, wrapper: Callable[..., Any]) -> Callable[[], None]:
    """Let a method of one object be ``wrapper(method, *args, **kwargs)``; returns what undoes it."""
    method, own = getattr(owner, name), vars(owner).get(name)

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return wrapper(method, *args, **kwargs)

    def put_back() -> None:
        if own is None:
            vars(owner).pop(name, None)
        else:
            setattr(owner, name, own)

    setattr(owner, name, call)
    return put_back
