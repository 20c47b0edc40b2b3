"""Evaluates an expression for one row with Python's integers: slow and exact, otherwise as the vectors do."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from datacheck.schema.operands import Instant
from datacheck.schema.operators import CALCULATE, COMPARE
from datacheck.schema.times import parse_clock, parse_moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ExactAlgebra"]


class ExactAlgebra:
    """Operations on the values of one row; None is null. The vectors have already checked the types."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row

    def name(self, name: str) -> Any:
        return self._row[name]

    def constant(self, value: bool | int | float | str) -> Any:
        return value

    def compare(self, operator: str, left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        if isinstance(left, Instant) and isinstance(right, str):
            right = _instant(right)
        elif isinstance(right, Instant) and isinstance(left, str):
            left = _instant(left)
        elif isinstance(left, Decimal) or isinstance(right, Decimal):
            left, right = _decimal(left), _decimal(right)
        return COMPARE[operator](left, right)

    def arithmetic(self, operator: str, left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        if isinstance(left, Instant):
            return (left.nanoseconds - right.nanoseconds) / 10**9
        if isinstance(left, int) and isinstance(right, int) and operator != "**":
            if operator != "/":
                is_undefined = operator in ("//", "%") and right == 0
                return float("nan") if is_undefined else CALCULATE[operator](int(left), int(right))
            if right != 0:
                return _quotient(left, right)
        return float(CALCULATE[operator](_float(left), _float(right)))

    def negative(self, value: Any) -> Any:
        return None if value is None else -value

    def conjunction(self, values: Sequence[Any]) -> Any:
        if any(value is not None and not value for value in values):
            return False
        return None if any(value is None for value in values) else True

    def disjunction(self, values: Sequence[Any]) -> Any:
        return self.negation(self.conjunction([self.negation(value) for value in values]))

    def negation(self, value: Any) -> Any:
        return None if value is None else not value

    def member(self, value: Any, members: Sequence[Any]) -> Any:
        return self.disjunction([self.compare("==", value, member) for member in members])

    def call(self, function: str, arguments: Sequence[Any]) -> Any:
        if function == "is_null":
            return arguments[0] is None
        if any(argument is None for argument in arguments):
            return None
        if function in ("min", "max"):
            return self._extreme(function, arguments)
        value = arguments[0]
        if function == "len":
            return len(value) if isinstance(value, str) else value
        if function == "abs":
            return abs(value)
        test = np.isnan if function == "is_nan" else np.isfinite
        return bool(test(_float(value)))

    def _extreme(self, function: str, arguments: Sequence[Any]) -> Any:
        """The smallest or largest argument; NaN if any argument is NaN, as in NumPy."""
        unordered = [value for value in arguments if isinstance(value, float) and np.isnan(value)]
        if unordered:
            return unordered[0]
        return min(arguments) if function == "min" else max(arguments)


def _decimal(value: Any) -> Any:
    """A float that is compared with a decimal, as the decimal that it is written as."""
    return Decimal(repr(value)) if type(value) is float and math.isfinite(value) else value


def _float(value: Any) -> np.float64:
    try:
        return np.float64(value)
    except OverflowError:
        return np.float64(np.inf if value > 0 else -np.inf)


def _quotient(left: int, right: int) -> float:
    try:
        return left / right
    except OverflowError:
        return float("inf") if (left > 0) == (right > 0) else float("-inf")


def _instant(text: str) -> Instant | None:
    moment = parse_moment(text) or parse_clock(text)
    return None if moment is None else Instant(moment.nanoseconds)
