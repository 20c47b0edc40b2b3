"""The operators of expressions, as functions of Python numbers and of NumPy arrays alike."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
CALCULATE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def _smallest(left: Any, right: Any) -> Any:
    """The smaller of two numbers; NaN if one is NaN, as in NumPy."""
    return left if left != left or left <= right else right


def _largest(left: Any, right: Any) -> Any:
    return left if left != left or left >= right else right


#: ``min`` and ``max`` of Python numbers, of which either may be NaN.
EXTREMES: Final[dict[str, Callable[[Any, Any], Any]]] = {"min": _smallest, "max": _largest}
