"""Work on files that can crash a library, done in a child process: a crash costs that file, and not the caller's process.

A child is an interpreter that imports datacheck and nothing of the caller's script, so that a script needs no
``if __name__ == "__main__":``. It does one item at a time, stays a while for the next one, and ends with its parent. What
cannot be sent to it, such as a function of that script, is done in this process. One that reads nothing for minutes is ended.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from datacheck.errors import DatacheckError
from datacheck.formats import find_format, format_of_name
from datacheck.sources.detect import format_of
from datacheck.storage.registry import is_built_in

if TYPE_CHECKING:
    from datacheck.jobs.executors.children import Child

T = TypeVar("T")
R = TypeVar("R")

_NUM_TRIES = 2


class Isolated(Generic[T, R]):
    """A function that is called in a child process for items with a file that can crash a library.

    ``lost`` gives the result for an item whose process ended each time.
    """

    def __init__(self, function: Callable[[T], R], lost: Callable[[T], R]) -> None:
        self._function, self._lost = function, lost
        self._content: bytes | None = None
        self._busy: set[Child] = set()
        self._is_over = False

    def __call__(self, item: T) -> R:
        if not may_crash(item) or _has_registered_checks():
            return self._function(item)
        try:
            if self._content is None:
                self._content = _pickle(self._function)
            content = _pickle(item)
        except (pickle.PicklingError, AttributeError, TypeError):
            return self._function(item)
        # Few jobs have such files.
        from datacheck.jobs.executors.children import HungError, LostError, call_in_child

        for _ in range(_NUM_TRIES):
            try:
                how, result = call_in_child(self._content, content, self._begun)
            except LostError as error:
                if self._is_over:
                    raise
                if isinstance(error, HungError):
                    break
                continue
            if how == "raised":
                raise result
            return result if how == "returned" else self._function(item)
        return self._lost(item)

    def end(self) -> None:
        """End the calls that other threads make, with an error, because nobody wants their results any more."""
        self._is_over = True
        for child in tuple(self._busy):
            child.kill()

    @contextmanager
    def _begun(self, child: Child) -> Iterator[None]:
        self._busy.add(child)
        try:
            if self._is_over:
                child.kill()
            yield
        finally:
            self._busy.discard(child)


def may_crash(item: object) -> bool:
    """Whether an item of work has a file whose library may end the process."""
    item = getattr(item, "unit", item)
    if isinstance(item, list | tuple):
        return any(map(may_crash, item))
    uri, name = getattr(item, "uri", None), getattr(item, "format", None)
    if not isinstance(uri, str) or not isinstance(name, str) or not is_built_in(uri):
        return False
    try:
        record = find_format(name) if name else format_of_name(uri) or format_of(uri)
    except DatacheckError:
        return False
    return record is not None and record.may_crash


def _has_registered_checks() -> bool:
    """Whether the user registered checks with pandera, which only this process has."""
    pandera = sys.modules.get("pandera.api.checks")
    return pandera is not None and bool(pandera.Check.REGISTERED_CUSTOM_CHECKS)


def _pickle(value: object) -> bytes:
    content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    if b"__main__" in content:
        raise pickle.PicklingError("it is defined in the caller's script")
    return content
