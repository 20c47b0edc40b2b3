"""A hook that does nothing in a copy of its module or optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

#: Takes any arguments and does nothing. It is pickled by names of the standard library, so that a model that was saved
#: whole loads where datacheck is not installed.
_inert: Callable[..., None] = nullcontext().__exit__


class Hook(partial[Any]):
    """Calls its function; a copy of it does nothing.

    A model that is pickled, or copied to average its weights, must not take the guard along. It is a ``partial``, which
    calls without a frame of its own, since a step calls many hooks.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook(_inert)

    def __copy__(self) -> Hook:
        return Hook(_inert)

    def __reduce__(self) -> tuple[type[partial[Any]], tuple[Any]]:
        return partial, (_inert,)
