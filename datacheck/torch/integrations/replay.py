"""Replaying the step of a trainer without its traces: a replay must not log, and must leave no entries behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

#: What torch keeps about a module, and restores itself.
_OF_TORCH = frozenset(vars(nn.Module()))


@contextmanager
def attributes_kept(objects: Iterable[object]) -> Iterator[None]:
    """Run the block, and give lists, dicts and sets in the attributes of the objects their entries of before."""
    kept = [
        (value, _copied(value))
        for one in objects
        for name, value in list(vars(one).items())
        if name not in _OF_TORCH and isinstance(value, list | dict | set | deque)
    ]
    try:
        yield
    finally:
        for value, before in kept:
            value.clear()
            (value.extend if isinstance(value, list | deque) else value.update)(before)


@contextmanager
def replaced(owner: object, **attributes: Any) -> Iterator[None]:
    """Run the block with attributes of one object, not of its class, replaced."""
    own = vars(owner)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            own.pop(name, None)
        own.update(before)


def _copied(value: Any) -> Any:
    """A copy of a collection and of the collections in it, but of nothing else."""
    if isinstance(value, dict):
        # A copy keeps the factory of a defaultdict.
        entries = value.copy()
        entries.update({key: _copied(item) for key, item in value.items()})
        return entries
    if isinstance(value, list | deque):
        return type(value)(map(_copied, value))
    return value.copy() if isinstance(value, set) else value
