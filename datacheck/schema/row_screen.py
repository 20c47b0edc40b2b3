"""Expressions as screens of one row: compiled once, and run on its NumPy arrays in microseconds.

A screen is true only for rows that :func:`datacheck.schema.evaluate.evaluate` is true for. Whatever it does not know
(a null, a text of other letters, an integer that may overflow, lists of different lengths) it leaves to that one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from datacheck.schema.evaluate import prepared_tree
from datacheck.schema.expression import REDUCTIONS, ParsedExpression, fold
from datacheck.schema.list_functions import IMAGE_SIZES
from datacheck.schema.operators import CALCULATE, COMPARE
from datacheck.schema.reductions import distinct_of, is_sorted, reduce_numbers

if TYPE_CHECKING:
    from datacheck.schema.axes import Index


#: Gives the value of a part of an expression, by the values of its names: NumPy arrays, Python numbers, or strings.
Code: TypeAlias = "Callable[[Mapping[str, Any]], Any]"

_EXACT_FLOAT: Final = 2**53
_SAFE_INT: Final = 2**62
_MANY: Final = (np.minimum, np.maximum)


class UncertainError(Exception):
    """A screen cannot tell whether a row breaks the rule."""


def compile_screen(expression: ParsedExpression, dtypes: Sequence[str | None]) -> Code:
    """A function of the values of a row, by name, that is true only if the row does not break the rule.

    ``dtypes`` has the dtype of each name that is a narrower float than float64. Raises :class:`UncertainError`, here or when
    called, and NumPy's errors for values that do not fit.
    """
    code = fold(prepared_tree(expression, tuple(dtypes)), _Compiler())
    return lambda row: _is_true(code(row))


def _is_true(verdict: Any) -> bool:
    return bool(_truth(verdict).all())


class _Compiler:
    """The operations of the language as functions of a row."""

    def name(self, name: str) -> Code:
        return operator.itemgetter(name)

    def constant(self, value: bool | int | float | str) -> Code:
        if isinstance(value, int) and abs(value) >= _EXACT_FLOAT:
            raise UncertainError
        constant = np.bool_(value) if isinstance(value, bool) else value
        return lambda _: constant

    def compare(self, symbol: str, left: Code, right: Code) -> Code:
        function = COMPARE[symbol]
        return lambda row: _compared(symbol, function, left(row), right(row))

    def arithmetic(self, symbol: str, left: Code, right: Code) -> Code:
        return lambda row: _calculated(symbol, left(row), right(row))

    def negative(self, value: Code) -> Code:
        return lambda row: _negated(value(row))

    def conjunction(self, values: Sequence[Code]) -> Code:
        return lambda row: reduce(np.logical_and, _together([_truth(value(row)) for value in values]))

    def disjunction(self, values: Sequence[Code]) -> Code:
        return lambda row: reduce(np.logical_or, _together([_truth(value(row)) for value in values]))

    def negation(self, value: Code) -> Code:
        return lambda row: np.logical_not(_truth(value(row)))

    def member(self, value: Code, members: Sequence[bool | int | float | str]) -> Code:
        return self.disjunction([self.compare("==", value, self.constant(member)) for member in members])

    def item(self, value: Code, indexes: Sequence[Index]) -> Code:
        index = tuple(indexes)
        return lambda row: _array(value(row))[index]

    def call(self, function: str, arguments: Sequence[Code], axis: int | None) -> Code:
        if len(arguments) > 1 and function in ("min", "max"):
            extreme = _MANY[function == "max"]
            return lambda row: reduce(partial(_extreme, extreme), [argument(row) for argument in arguments])
        value = arguments[0]
        if function in REDUCTIONS:
            return lambda row: _reduced(function, value(row), axis)
        simple = _FUNCTIONS.get(function)
        if simple is None:
            raise UncertainError
        return lambda row: simple(value(row)) if axis is None else _array(value(row)).shape[axis]


def _array(value: Any) -> Any:
    """The value, which has axes."""
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        raise UncertainError
    return value


def _truth(value: Any) -> Any:
    if getattr(value, "dtype", None) != np.bool_:
        raise UncertainError
    return value


def _number(value: Any) -> Any:
    """A number as a Python one or as int64 or float64."""
    if isinstance(value, np.ndarray | np.generic):
        kind = value.dtype.kind
        if kind == "f" and value.dtype.itemsize <= 8:
            return value.astype(np.float64, copy=False)
        if kind in "bi" or (kind == "u" and value.dtype.itemsize < 8):
            return value.astype(np.int64, copy=False)
        raise UncertainError
    if type(value) not in (int, float):
        raise UncertainError
    return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) or getattr(getattr(value, "dtype", None), "kind", "f") in "biu"


def _together(values: Sequence[Any]) -> Sequence[Any]:
    """Values of one shape, or one of the row beside others."""
    if len({value.shape for value in values if getattr(value, "ndim", 0)}) > 1:
        raise UncertainError
    return values


def _require_below(limit: int, *values: Any) -> None:
    """Integers may not be so large that the result is not exact."""
    for value in values:
        if type(value) is int:
            is_below = -limit < value < limit
        else:
            is_below = not _is_integer(value) or not np.size(value) or -limit < np.min(value) <= np.max(value) < limit
        if not is_below:
            raise UncertainError


def _pair(left: Any, right: Any) -> tuple[Any, Any]:
    if type(left) is float and type(right) is float:
        return left, right
    left, right = _together([_number(left), _number(right)])
    if _is_integer(left) is not _is_integer(right):
        _require_below(_EXACT_FLOAT, left, right)
    return left, right


def _compared(symbol: str, function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str) and symbol in ("==", "!="):
        return np.bool_(function(left, right))
    left, right = _pair(left, right)
    return np.asarray(function(left, right))


def _calculated(symbol: str, left: Any, right: Any) -> Any:
    left, right = _pair(left, right)
    if type(left) is float and type(right) is float and symbol in ("+", "-", "*"):
        return CALCULATE[symbol](left, right)
    if symbol == "**" or not (_is_integer(left) and _is_integer(right)):
        return CALCULATE[symbol](np.asarray(left, np.float64), np.asarray(right, np.float64))
    if symbol == "/":
        _require_below(_EXACT_FLOAT, left, right)
    elif symbol in ("//", "%"):
        if not np.all(right):
            raise UncertainError
        _require_below(_SAFE_INT, left)
    else:
        estimate = CALCULATE[symbol](np.asarray(left, np.float64), np.asarray(right, np.float64))
        if not (np.abs(estimate) < _SAFE_INT).all():
            raise UncertainError
    return CALCULATE[symbol](np.asarray(left), np.asarray(right))


def _negated(value: Any) -> Any:
    return _calculated("-", 0, value) if _is_integer(value) else -_number(value)


def _extreme(function: np.ufunc, left: Any, right: Any) -> Any:
    return function(*_pair(left, right))


def _reduced(function: str, value: Any, axis: int | None) -> Any:
    if function in ("any", "all"):
        if value.ndim == 0 or axis is None:
            return getattr(_truth(value), function)()
        return getattr(_truth(value), function)(axis=axis)
    values = _array(value)
    rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, -1)
    if function == "count":
        counted = rows if rows.dtype == np.bool_ else np.ones(rows.shape, np.bool_)
        return np.count_nonzero(counted, axis=-1).reshape(rows.shape[:-1])[0 if axis is None else ...]
    flat, length = _number(rows).reshape(-1), rows.shape[-1]
    count = rows.size // length if length else 0
    if not count:
        raise UncertainError
    if function in ("nunique", "is_sorted"):
        found = (distinct_of if function == "nunique" else is_sorted)(flat, length, count)
    else:
        if function in ("sum", "mean", "norm", "std"):
            _require_below(_EXACT_FLOAT // length, flat)
        found, _ = reduce_numbers(function, flat, length, count)
    return found.reshape(rows.shape[:-1])[0 if axis is None else ...]


def _absolute(value: Any) -> Any:
    number = _number(value)
    _require_below(_SAFE_INT, number)
    return abs(number)


def _image_size(function: str, value: Any) -> int:
    shape: tuple[int, ...] = _array(value).shape
    if len(shape) == 2:
        height, width, channels = *shape, 1
    else:
        first, middle, last = shape
        height, width, channels = (middle, last, first) if first <= last else (first, middle, last)
    return {"height": height, "width": width, "channels": channels}[function]


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return int(_array(value).shape[0])


_FUNCTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "abs": _absolute,
    "is_nan": lambda value: np.isnan(np.asarray(_number(value), np.float64)),
    "is_finite": lambda value: np.isfinite(np.asarray(_number(value), np.float64)),
    "is_null": lambda _: np.bool_(False),
    "len": _length,
    "ndim": np.ndim,
    "num_rows": lambda value: _array(value).shape[0],
    "size": lambda value: _array(value).size,
    **{name: partial(_image_size, name) for name in IMAGE_SIZES},
}
