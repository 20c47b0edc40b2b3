"""A hook that stays behind when its module or optimizer is copied or saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Hook"]


def _inert(*_: Any) -> None:
    return None


class Hook:
    """Calls ``function``.

    A copy of it does nothing: a model that is copied for an average of its weights, or pickled, must not take the guard
    along.
    """

    __slots__ = ("__weakref__", "function")

    def __init__(self, function: Callable[..., Any] = _inert) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook()

    def __reduce__(self) -> tuple[type[Hook], tuple[()]]:
        return Hook, ()
