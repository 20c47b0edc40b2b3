"""The operations of the language on whole columns, and on the values of all their lists at once."""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.schema.expression import REDUCTIONS
from datacheck.schema.list_functions import IMAGE_SIZES, image_size, pair_lists, reduce_lists, size_of, take_item
from datacheck.schema.operands import TIMES, ExpressionTypeError, Operand, both_valid, described, numbers
from datacheck.schema.operators import CALCULATE, COMPARE
from datacheck.schema.times import parse_clock, parse_moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from datacheck.leaves import BoolArray
    from datacheck.schema.axes import Axes, Index


_COMPARE_TEXT: Final = {
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "==": "equal",
    "!=": "not_equal",
}
#: From here on float64 does not represent every integer.
_EXACT_FLOAT: Final = 2**53
#: Below the limits of int64 by more than the rounding error of a float64 estimate.
_SAFE_INT: Final = 9.2e18


def require_truth(value: Operand, problem: str) -> None:
    """Raise :class:`ExpressionTypeError` if the values are not true or false."""
    if value.kind != "bool":
        raise ExpressionTypeError(f"{described(value)} {problem}")


class VectorAlgebra:
    """Operations on whole columns.

    Attributes:
        inexact: the rows that need exact evaluation.
        unmatched: the rows in which an index is beyond the end of a list, or lists of different lengths meet.
    """

    def __init__(self, columns: Mapping[str, Operand], num_rows: int) -> None:
        self._columns = columns
        self.inexact = np.zeros(num_rows, np.bool_)
        self.unmatched = np.zeros(num_rows, np.bool_)

    def name(self, name: str) -> Operand:
        """A column."""
        column = self._columns[name]
        if column.inexact is not None:
            self._mark_inexact(column.inexact, column.valid, column.axes)
        return column

    def constant(self, value: bool | int | float | str) -> Operand:
        if isinstance(value, str):
            return Operand("text", value)
        if isinstance(value, bool):
            return Operand("bool", np.bool_(value))
        if isinstance(value, int) and -(2**63) <= value < 2**63:
            return Operand("number", np.int64(value))
        return Operand("number", np.float64(value))

    def compare(self, symbol: str, left: Operand, right: Operand) -> Operand:
        if "null" in (left.kind, right.kind):
            return self._of_nulls("bool", left, right)
        left, right = _as_times(left, right), _as_times(right, left)
        problem = f"{described(left)} cannot be compared with {described(right)}"
        left, right, axes = self._pair(left, right)
        valid = both_valid(left.valid, right.valid)
        if left.kind == right.kind == "text":
            return replace(_compare_text(symbol, left, right, valid), axes=axes)
        if left.kind == right.kind and left.kind in TIMES:
            first, second = left.values, right.values
        else:
            first, second = numbers(left, problem), numbers(right, problem)
        return Operand("bool", self._compared(symbol, first, second, valid, axes), valid, axes=axes)

    def arithmetic(self, symbol: str, left: Operand, right: Operand) -> Operand:
        if "null" in (left.kind, right.kind):
            return self._of_nulls("number", left, right)
        problem = f"{described(left)} {symbol} {described(right)} is undefined; both must be numbers"
        left, right, axes = self._pair(left, right)
        valid = both_valid(left.valid, right.valid)
        if symbol == "-" and left.kind == right.kind and left.kind in TIMES:
            difference = self._calculated("-", left.values, right.values, valid, axes)
            return Operand("number", self._calculated("/", difference, np.int64(10**9), valid, axes), valid, axes=axes)
        first, second = numbers(left, problem), numbers(right, problem)
        return Operand("number", self._calculated(symbol, first, second, valid, axes), valid, axes=axes)

    def negative(self, value: Operand) -> Operand:
        if value.kind == "bool" or (value.kind == "number" and value.values.dtype.kind in "iu"):
            return self.arithmetic("-", Operand("number", np.int64(0)), value)
        if value.kind == "null":
            return value
        negated = self._applied(operator.neg, numbers(value, f"-({described(value)}) is undefined"))
        return Operand("number", negated, value.valid, axes=value.axes)

    def conjunction(self, values: Sequence[Operand]) -> Operand:
        """Three-valued: false wins over unknown, unknown over true."""
        return reduce(self._both, values)

    def disjunction(self, values: Sequence[Operand]) -> Operand:
        return self.negation(self.conjunction([self.negation(value) for value in values]))

    def negation(self, value: Operand) -> Operand:
        if value.kind == "null":
            return value
        require_truth(value, "is used as true or false; compare it with something")
        return Operand("bool", ~value.values, value.valid, axes=value.axes)

    def member(self, value: Operand, members: Sequence[bool | int | float | str]) -> Operand:
        if value.kind == "text" and all(isinstance(member, str) for member in members):
            array = value.values if isinstance(value.values, pa.Array) else pa.array([value.values])
            found = pc.is_in(array, pa.array(members, array.type)).to_numpy(zero_copy_only=False)
            if len(found) == 1 and value.axes is None:
                found = np.broadcast_to(found, self.inexact.shape)
            return Operand("bool", found, value.valid, axes=value.axes)
        return self.disjunction([self.compare("==", value, self.constant(member)) for member in members])

    def item(self, value: Operand, indexes: Sequence[Index]) -> Operand:
        return self._matched(take_item(value, indexes))

    def call(self, function: str, arguments: Sequence[Operand], axis: int | None) -> Operand:
        first, enough = arguments[0], None
        if function == "nunique" and len(arguments) > 1:
            arguments, enough = [first], int(arguments[1].values)
        if function == "is_null":
            valid = first.valid if first.axes is None else first.axes.present
            return Operand("bool", np.bool_(False) if valid is None else ~valid)
        if function in ("len", "num_rows", "size", "ndim", *IMAGE_SIZES):
            return self._size(function, first, axis)
        if any(argument.kind == "null" for argument in arguments):
            kind = "bool" if function in ("any", "all", "is_nan", "is_finite") else "number"
            first = reduce(partial(self._of_nulls, kind), [*arguments, first])
            if first.axes is None or function not in REDUCTIONS or len(arguments) > 1:
                return first
        if function in REDUCTIONS and len(arguments) == 1:
            found, inexact = reduce_lists(function, first, axis, enough)
            if inexact is not None:
                self._mark_inexact(inexact, found.valid, found.axes)
            return found
        if function in ("min", "max"):
            return reduce(lambda left, right: self._extreme(function, left, right), arguments)
        values = numbers(first, f"{function}() expects a number, got {described(first)}")
        if function == "abs":
            if values.dtype.kind == "i":
                self._mark_inexact(values == np.iinfo(np.int64).min, first.valid, first.axes)
            return Operand("number", self._applied(abs, values), first.valid, axes=first.axes)
        test = {"is_nan": np.isnan, "is_finite": np.isfinite}[function]
        return Operand("bool", test(self._floats(values)), first.valid, axes=first.axes)

    def _size(self, function: str, value: Operand, axis: int | None) -> Operand:
        if value.kind == "null" and value.axes is None:
            return self._null()
        if value.axes is None:
            return Operand("number", np.int64(0)) if function == "ndim" else _length(function, value)
        if function == "ndim":
            return Operand("number", np.int64(value.axes.ndim))
        if function in IMAGE_SIZES:
            return self._matched(image_size(function, value))
        return self._matched(size_of(value, axis if function == "size" else 0))

    def _both(self, left: Operand, right: Operand) -> Operand:
        for value in (left, right):
            if value.kind != "null":
                require_truth(value, "is used as true or false; compare it with something")
        if "null" in (left.kind, right.kind) and (left.axes is not None or right.axes is not None):
            return self._null()
        left, right, axes = self._pair(left, right)
        false: Any = np.bool_(False)
        unknown: Any = np.bool_(False)
        for value in (left, right):
            if value.kind == "null":
                unknown = np.bool_(True)
                continue
            valid = np.bool_(True) if value.valid is None else value.valid
            false = false | (valid & ~value.values)
            unknown = unknown | ~valid
        known = false | ~unknown
        size = self.inexact.shape if axes is None else np.shape(known)
        return Operand("bool", ~false & ~unknown, None if np.all(known) else np.broadcast_to(known, size), axes=axes)

    def _extreme(self, function: str, left: Operand, right: Operand) -> Operand:
        left, right, axes = self._pair(left, right)
        valid = both_valid(left.valid, right.valid)
        kind = "number"
        if left.kind in TIMES or right.kind in TIMES:
            if left.kind != right.kind:
                raise ExpressionTypeError(f"{function}() mixes times with other values")
            kind, first, second = left.kind, left.values, right.values
        else:
            problem = f"{function}() expects numbers or times"
            first, second = numbers(left, problem), numbers(right, problem)
        return Operand(kind, self._chosen(function, first, second, valid, axes), valid, axes=axes)

    def _chosen(self, function: str, first: Any, second: Any, valid: BoolArray | None, axes: Axes | None) -> Any:
        self._mark_mixed(first, second, valid, axes)
        return (np.minimum if function == "min" else np.maximum)(first, second)

    def _compared(self, symbol: str, first: Any, second: Any, valid: BoolArray | None, axes: Axes | None) -> Any:
        self._mark_mixed(first, second, valid, axes)
        return COMPARE[symbol](first, second)

    def _mark_mixed(self, first: Any, second: Any, valid: BoolArray | None, axes: Axes | None) -> None:
        """Mark the rows in which an integer meets a float and has more digits."""
        if first.dtype != second.dtype:
            for integers in (first, second):
                if integers.dtype.kind == "i":
                    self._mark_large(integers, valid, axes)

    def _mark_large(self, integers: Any, valid: BoolArray | None, axes: Axes | None) -> None:
        self._mark_inexact(abs(integers.astype(np.float64)) >= _EXACT_FLOAT, valid, axes)

    def _calculated(self, symbol: str, first: Any, second: Any, valid: BoolArray | None, axes: Axes | None) -> Any:
        """Arithmetic of numbers; rows that overflow int64, lose digits or divide an integer by zero are marked."""
        if symbol == "**" or not first.dtype.kind == second.dtype.kind == "i":
            return CALCULATE[symbol](self._floats(first), self._floats(second))
        if symbol == "/":
            self._mark_large(first, valid, axes)
            self._mark_large(second, valid, axes)
        elif symbol in ("//", "%"):
            self._mark_inexact(second == 0, valid, axes)
            self._mark_inexact((second == -1) & (first == np.iinfo(np.int64).min), valid, axes)
        else:
            estimate = CALCULATE[symbol](first.astype(np.float64), second.astype(np.float64))
            self._mark_inexact(abs(estimate) >= _SAFE_INT, valid, axes)
        return CALCULATE[symbol](first, second)

    def _applied(self, function: Callable[[Any], Any], values: Any) -> Any:
        return function(values)

    def _floats(self, values: Any) -> Any:
        return values.astype(np.float64, copy=False)

    def _mark_inexact(self, marked: Any, valid: BoolArray | None, axes: Axes | None) -> None:
        if not np.any(marked):
            return
        marked = marked if valid is None else marked & valid
        self.inexact |= marked if axes is None or np.ndim(marked) == 0 else axes.rows_of(marked)

    def _matched(self, found: tuple[Operand, BoolArray | None]) -> Operand:
        operand, unmatched = found
        if unmatched is not None:
            self.unmatched |= unmatched
        return operand

    def _pair(self, left: Operand, right: Operand) -> tuple[Operand, Operand, Axes | None]:
        left, right, unmatched = pair_lists(left, right)
        if unmatched is not None:
            self.unmatched |= unmatched
        return left, right, left.axes

    def _of_nulls(self, kind: str, left: Operand, right: Operand) -> Operand:
        """The result of an operation with nulls only: null, or lists of nulls."""
        left, right, axes = self._pair(left, right)
        if axes is None:
            return self._null()
        values: Any = np.zeros(axes.count(axes.ndim), np.bool_ if kind == "bool" else np.int64)
        return Operand(kind, values, np.zeros(len(values), np.bool_), axes=axes)

    def _null(self) -> Operand:
        return Operand("null", np.bool_(False), np.zeros_like(self.inexact))


def _compare_text(symbol: str, left: Operand, right: Operand, valid: BoolArray | None) -> Operand:
    if isinstance(left.values, str) and isinstance(right.values, str):
        return Operand("bool", np.bool_(COMPARE[symbol](left.values, right.values)))
    outcome = getattr(pc, _COMPARE_TEXT[symbol])(left.values, right.values)
    return Operand("bool", outcome.fill_null(False).to_numpy(zero_copy_only=False), valid)


def _as_times(value: Operand, other: Operand) -> Operand:
    """A string constant that is compared with a time, as a time."""
    if other.kind not in TIMES or not isinstance(value.values, str):
        return value
    moment = parse_clock(value.values) if other.kind == "clock" else parse_moment(value.values)
    if moment is None:
        example = "12:30:00" if other.kind == "clock" else "2024-01-31T12:30:00"
        raise ExpressionTypeError(f"{value.values!r} is not a time in ISO format such as '{example}'")
    if moment.has_offset is not (other.kind == "instant"):
        remedy = "add one, such as 'Z'" if other.kind == "instant" else "leave it out"
        have = "an" if moment.has_offset else "no"
        raise ExpressionTypeError(
            f"{value.values!r} has {have} offset, but is compared with {described(other)}; {remedy}"
        )
    return Operand(other.kind, np.int64(moment.nanoseconds))


def _length(function: str, value: Operand) -> Operand:
    """The characters of strings, and the bytes of binary values."""
    if value.kind not in ("text", "bytes") or function != "len":
        expected = "a string, a list or bytes" if function == "len" else "a list"
        raise ExpressionTypeError(f"{function}() expects {expected}, got {described(value)}")
    if isinstance(value.values, str):
        return Operand("number", np.int64(len(value.values)))
    count = pc.utf8_length if value.kind == "text" else pc.binary_length
    lengths = count(value.values).cast(pa.int64()).fill_null(0)
    return Operand("number", lengths.to_numpy(zero_copy_only=False), value.valid)
