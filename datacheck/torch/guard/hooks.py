"""A hook that stays behind when its module or optimizer is copied or saved."""

from __future__ import annotations

from functools import partial
from typing import Any

__all__ = ["Hook"]


def _inert(*_: Any) -> None:
    return None


class Hook(partial[Any]):
    """Calls the function that it was made with.

    A copy of it does nothing: a model that is copied for an average of its weights, or pickled, must not take the guard
    along. It is a ``partial`` since that calls without a frame of its own, and a step calls many hooks.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook(_inert)

    def __copy__(self) -> Hook:
        return Hook(_inert)

    def __reduce__(self) -> tuple[type[Hook], tuple[Any]]:
        return Hook, (_inert,)
