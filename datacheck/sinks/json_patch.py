"""Values of JSON after repairs: what was not repaired stays the same object, so that it can be written as it was."""

from __future__ import annotations

import math
from typing import Any

#: Stands for what a record lacks.
ABSENT: Any = object()


def patched(before: Any, after: Any) -> Any:
    """The value after repairs: the same object where nothing in it was repaired. What a record lacks, it lacks still."""
    if after is None:
        return before
    if isinstance(before, dict) and isinstance(after, dict):
        inner = {key: patched(before.get(key, ABSENT), value) for key, value in after.items()}
        inner = {key: value for key, value in inner.items() if value is not ABSENT}
        is_same = all(value is before.get(key, ABSENT) for key, value in inner.items())
        return before if is_same else {**before, **inner}
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        items = [patched(*pair) for pair in zip(before, after, strict=True)]
        return before if all(new is old for new, old in zip(items, before, strict=True)) else items
    is_nan = isinstance(before, float) and isinstance(after, float) and math.isnan(before) and math.isnan(after)
    return before if is_nan or (before == after and isinstance(before, bool) == isinstance(after, bool)) else after
