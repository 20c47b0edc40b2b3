"""The operations of the language with Python's numbers of any size, for the rows that vectors of 64 bits cannot judge."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from datacheck.schema.operands import Operand
from datacheck.schema.operators import CALCULATE, COMPARE, EXTREMES
from datacheck.schema.vector_algebra import VectorAlgebra

if TYPE_CHECKING:
    from collections.abc import Callable


class ExactAlgebra(VectorAlgebra):
    """The operations of :class:`VectorAlgebra` on vectors of Python objects, one by one: slow and exact."""

    def name(self, name: str) -> Operand:
        """A column that :meth:`Operand.exactly` made."""
        return self._columns[name]

    def constant(self, value: bool | int | float | str) -> Operand:
        if isinstance(value, str | bool):
            return super().constant(value)
        return Operand("number", np.array(value, object))

    def _compared(self, symbol: str, first: Any, second: Any, *_: object) -> Any:
        return _each(lambda left, right: _compare(symbol, left, right), first, second).astype(np.bool_)

    def _calculated(self, symbol: str, first: Any, second: Any, *_: object) -> Any:
        return _each(lambda left, right: _calculate(symbol, left, right), first, second)

    def _chosen(self, function: str, first: Any, second: Any, *_: object) -> Any:
        return _each(EXTREMES[function], first, second)

    def _applied(self, function: Callable[[Any], Any], values: Any) -> Any:
        return _each(function, values)

    def _floats(self, values: Any) -> Any:
        return _each(_float, values).astype(np.float64)

    def _mark_inexact(self, *_: object) -> None:
        """Nothing is inexact here."""


def _each(function: Callable[..., Any], *values: Any) -> Any:
    return np.asarray(np.frompyfunc(function, len(values), 1)(*values), object)


def _compare(operator: str, left: Any, right: Any) -> bool:
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        left, right = _decimal(left), _decimal(right)
    return bool(COMPARE[operator](left, right))


def _calculate(operator: str, left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and operator != "**":
        if operator != "/":
            is_undefined = operator in ("//", "%") and right == 0
            return float("nan") if is_undefined else CALCULATE[operator](int(left), int(right))
        if right != 0:
            return _quotient(left, right)
    return float(CALCULATE[operator](_float(left), _float(right)))


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
