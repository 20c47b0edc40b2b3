"""Evaluates expressions over columns: as whole vectors first, then exactly for the rows that a vector cannot represent.

Arithmetic is int64 between integers and float64 otherwise. Rows where an integer would overflow, lose digits in a
comparison with a float, or be divided by zero are evaluated again, one by one, with Python's integers, so that nothing
wraps around silently. ``/`` and ``**`` are float64, and ``x / 0`` is an infinity or NaN (IEEE 754); ``x // 0`` and
``x % 0`` of integers are NaN. A decimal is the nearest float64. The difference of two times is in seconds, and so is a
duration. A constant compared with a field of a narrower format is rounded to it.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.schema.exact import ExactAlgebra
from datacheck.schema.expression import ParsedExpression, fold
from datacheck.schema.operands import TIMES, ExpressionTypeError, Operand
from datacheck.schema.operators import CALCULATE, COMPARE
from datacheck.schema.rounding import round_float
from datacheck.schema.times import parse_clock, parse_moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from datacheck.leaves import BoolArray

__all__ = ["evaluate"]

_COMPARE_TEXT: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "==": pc.equal,
    "!=": pc.not_equal,
}
#: From here on float64 does not represent every integer.
_EXACT_FLOAT: Final = 2**53
#: Below the limits of int64 by more than the rounding error of a float64 estimate.
_SAFE_INT: Final = 9.2e18


def evaluate(
    expression: ParsedExpression, columns: Mapping[str, Operand], num_rows: int
) -> tuple[BoolArray, BoolArray]:
    """Where the rule is true, and where it is known (no null involved), each of shape ``(num_rows,)``.

    Raises :class:`ExpressionTypeError` if the expression does not fit the dtypes of the columns.
    """
    tree = _round_constants(expression.tree, columns)
    vectors = _VectorAlgebra(columns, num_rows)
    with np.errstate(all="ignore"):
        result = fold(tree, vectors)
        if result.kind == "null":
            return np.zeros(num_rows, np.bool_), np.zeros(num_rows, np.bool_)
        _require_kind(result, "bool", "is not true or false; compare it with something")
        truth = np.array(np.broadcast_to(result.values, (num_rows,)))
        known = np.ones(num_rows, np.bool_) if result.valid is None else np.array(result.valid)
        for row in np.flatnonzero(vectors.inexact).tolist():
            verdict = fold(tree, ExactAlgebra({name: columns[name].value_at(row) for name in expression.names}))
            truth[row], known[row] = bool(verdict), verdict is not None
    return truth & known, known


def _round_constants(tree: ast.expr, columns: Mapping[str, Operand]) -> ast.expr:
    """Round constants that are compared with a narrow float field to its dtype."""

    def narrow_of(node: ast.expr) -> str | None:
        match node:
            case ast.Name(id=name):
                return columns[name].narrow
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return narrow_of(operand)
            case ast.Call(func=ast.Name(id="abs" | "min" | "max"), args=arguments):
                found = {narrow_of(argument) for argument in arguments}
                return found.pop() if len(found) == 1 else None
        return None

    class Rounder(ast.NodeTransformer):
        def visit_Compare(self, node: ast.Compare) -> ast.expr:
            parts = [node.left, *node.comparators]
            found = [narrow_of(part) for part in parts]
            rounded = [
                _rounded(part, before or after)
                for part, before, after in zip(parts, [None, *found[:-1]], [*found[1:], None], strict=True)
            ]
            return ast.Compare(rounded[0], node.ops, [self.visit(part) for part in rounded[1:]])

    rounded_tree: ast.expr = Rounder().visit(copy.deepcopy(tree))
    return rounded_tree


def _rounded(node: ast.expr, dtype: str | None) -> ast.expr:
    match node:
        case ast.Constant(value=int() | float() as value) if dtype is not None and not isinstance(value, bool):
            return ast.Constant(round_float(value, dtype))
        case ast.List(elts=elements):
            return ast.List([_rounded(element, dtype) for element in elements])
    return node


def _require_kind(value: Operand, kind: str, problem: str) -> None:
    if value.kind != kind:
        raise ExpressionTypeError(f"{_described(value)} {problem}")


def _described(value: Operand) -> str:
    return {
        "number": "a number",
        "bool": "true or false",
        "text": "a string",
        "time": "a time without a zone",
        "instant": "a time with a zone",
        "clock": "a time of day",
        "list": "a list",
    }.get(value.kind, f"a value {value.kind}" if value.kind.startswith("of ") else value.kind)


class _VectorAlgebra:
    """Operations on whole columns; collects the rows that need exact evaluation."""

    def __init__(self, columns: Mapping[str, Operand], num_rows: int) -> None:
        self._columns = columns
        self.inexact = np.zeros(num_rows, np.bool_)

    def name(self, name: str) -> Operand:
        column = self._columns[name]
        if column.inexact is not None:
            self._mark_inexact(column.inexact, column.valid)
        return column

    def constant(self, value: bool | int | float | str) -> Operand:
        if isinstance(value, str):
            return Operand("text", value)
        if isinstance(value, bool):
            return Operand("bool", np.bool_(value))
        if isinstance(value, int) and -(2**63) <= value < 2**63:
            return Operand("number", np.int64(value))
        return Operand("number", np.float64(value))

    def compare(self, operator: str, left: Operand, right: Operand) -> Operand:
        if "null" in (left.kind, right.kind):
            return self._null()
        left, right = _as_times(left, right), _as_times(right, left)
        valid = _both_valid(left.valid, right.valid)
        if left.kind == right.kind == "text":
            return self._compare_text(operator, left, right, valid)
        if left.kind == right.kind and left.kind in TIMES:
            return Operand("bool", COMPARE[operator](left.values, right.values), valid)
        problem = f"{_described(left)} cannot be compared with {_described(right)}"
        first, second = _number(left, problem), _number(right, problem)
        if first.dtype != second.dtype:
            for integers in (first, second):
                if integers.dtype.kind == "i":
                    self._mark_inexact(abs(integers.astype(np.float64)) >= _EXACT_FLOAT, valid)
        return Operand("bool", COMPARE[operator](first, second), valid)

    def arithmetic(self, operator: str, left: Operand, right: Operand) -> Operand:
        if "null" in (left.kind, right.kind):
            return self._null()
        valid = _both_valid(left.valid, right.valid)
        if operator == "-" and left.kind == right.kind and left.kind in TIMES:
            difference = self._integers("-", left.values, right.values, valid)
            self._mark_inexact(abs(difference.astype(np.float64)) >= _EXACT_FLOAT, valid)
            return Operand("number", difference / 1e9, valid)
        problem = f"{_described(left)} {operator} {_described(right)} is undefined; both must be numbers"
        first, second = _number(left, problem), _number(right, problem)
        if operator != "**" and first.dtype.kind == second.dtype.kind == "i":
            if operator == "/":
                self._mark_inexact(abs(first.astype(np.float64)) >= _EXACT_FLOAT, valid)
                self._mark_inexact(abs(second.astype(np.float64)) >= _EXACT_FLOAT, valid)
                return Operand("number", CALCULATE["/"](first, second), valid)
            return Operand("number", self._integers(operator, first, second, valid), valid)
        return Operand("number", CALCULATE[operator](first.astype(np.float64), second.astype(np.float64)), valid)

    def negative(self, value: Operand) -> Operand:
        return self.arithmetic("-", Operand("number", np.int64(0)), value) if _is_integer(value) else _negated(value)

    def conjunction(self, values: Sequence[Operand]) -> Operand:
        """Three-valued: false wins over unknown, unknown over true."""
        false: Any = np.bool_(False)
        unknown: Any = np.bool_(False)
        for value in values:
            if value.kind == "null":
                unknown = np.bool_(True)
                continue
            _require_kind(value, "bool", "is used as true or false; compare it with something")
            valid = np.bool_(True) if value.valid is None else value.valid
            false = false | (valid & ~value.values)
            unknown = unknown | ~valid
        return Operand("bool", ~false & ~unknown, self._validity(false | ~unknown))

    def disjunction(self, values: Sequence[Operand]) -> Operand:
        return self.negation(self.conjunction([self.negation(value) for value in values]))

    def negation(self, value: Operand) -> Operand:
        if value.kind == "null":
            return value
        _require_kind(value, "bool", "is used as true or false; compare it with something")
        return Operand("bool", ~value.values, value.valid)

    def member(self, value: Operand, members: Sequence[bool | int | float | str]) -> Operand:
        if value.kind == "text" and all(isinstance(member, str) for member in members):
            array = value.values if isinstance(value.values, pa.Array) else pa.array([value.values])
            found = pc.is_in(array, pa.array(members, array.type)).to_numpy(zero_copy_only=False)
            return Operand(
                "bool", found if len(found) != 1 else np.broadcast_to(found, self.inexact.shape), value.valid
            )
        return self.disjunction([self.compare("==", value, self.constant(member)) for member in members])

    def call(self, function: str, arguments: Sequence[Operand]) -> Operand:
        first = arguments[0]
        if function == "is_null":
            return Operand("bool", np.bool_(False) if first.valid is None else ~first.valid)
        if any(argument.kind == "null" for argument in arguments):
            return self._null()
        if function == "len":
            return _length(first)
        if function in ("min", "max"):
            return self._extreme(function, arguments)
        values = _number(first, f"{function}() expects a number, got {_described(first)}")
        if function == "abs":
            if values.dtype.kind == "i":
                self._mark_inexact(values == np.iinfo(np.int64).min, first.valid)
            return Operand("number", abs(values), first.valid)
        test = {"is_nan": np.isnan, "is_finite": np.isfinite}[function]
        return Operand("bool", test(values.astype(np.float64)), first.valid)

    def _extreme(self, function: str, arguments: Sequence[Operand]) -> Operand:
        choose: Callable[[Any, Any], Any] = np.minimum if function == "min" else np.maximum
        kind, values, valid = arguments[0].kind, arguments[0].values, arguments[0].valid
        if any(argument.kind in TIMES for argument in arguments):
            if len({argument.kind for argument in arguments}) > 1:
                raise ExpressionTypeError(f"{function}() mixes times with other values")
        else:
            kind = "number"
            problem = f"{function}() expects numbers or times"
            values = _number(arguments[0], problem)
        for argument in arguments[1:]:
            following = argument.values if kind != "number" else _number(argument, problem)
            valid = _both_valid(valid, argument.valid)
            for integers, other in ((values, following), (following, values)):
                if integers.dtype.kind == "i" and other.dtype.kind == "f":
                    self._mark_inexact(abs(integers.astype(np.float64)) >= _EXACT_FLOAT, valid)
            values = choose(values, following)
        return Operand(kind, values, valid)

    def _integers(self, operator: str, first: Any, second: Any, valid: BoolArray | None) -> Any:
        """Integer arithmetic; rows that overflow int64 or divide by zero are marked."""
        if operator in ("//", "%"):
            self._mark_inexact(second == 0, valid)
            self._mark_inexact((second == -1) & (first == np.iinfo(np.int64).min), valid)
        else:
            estimate = CALCULATE[operator](first.astype(np.float64), second.astype(np.float64))
            self._mark_inexact(abs(estimate) >= _SAFE_INT, valid)
        return CALCULATE[operator](first, second)

    def _mark_inexact(self, rows: Any, valid: BoolArray | None) -> None:
        self.inexact |= rows if valid is None else rows & valid

    def _null(self) -> Operand:
        return Operand("null", np.bool_(False), np.zeros_like(self.inexact))

    def _validity(self, mask: Any) -> BoolArray | None:
        return None if np.all(mask) else np.broadcast_to(mask, self.inexact.shape)

    def _compare_text(self, operator: str, left: Operand, right: Operand, valid: BoolArray | None) -> Operand:
        if isinstance(left.values, str) and isinstance(right.values, str):
            return Operand("bool", np.bool_(COMPARE[operator](left.values, right.values)))
        outcome = _COMPARE_TEXT[operator](left.values, right.values)
        return Operand("bool", outcome.fill_null(False).to_numpy(zero_copy_only=False), valid)


def _is_integer(value: Operand) -> bool:
    return value.kind == "bool" or (value.kind == "number" and value.values.dtype.kind == "i")


def _negated(value: Operand) -> Operand:
    if value.kind == "null":
        return value
    return Operand("number", -_number(value, f"-({_described(value)}) is undefined"), value.valid)


def _both_valid(first: BoolArray | None, second: BoolArray | None) -> BoolArray | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _number(value: Operand, problem: str) -> Any:
    """The values as int64 or float64; true and false count as 1 and 0."""
    if value.kind == "bool":
        return value.values.astype(np.int64)
    if value.kind != "number":
        raise ExpressionTypeError(problem)
    return value.values


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
            f"{value.values!r} has {have} offset, but is compared with {_described(other)}; {remedy}"
        )
    return Operand(other.kind, np.int64(moment.nanoseconds))


def _length(value: Operand) -> Operand:
    if value.kind == "list":
        return Operand("number", value.values, value.valid)
    if value.kind != "text":
        raise ExpressionTypeError(f"len() expects a string or a list, got {_described(value)}")
    if isinstance(value.values, str):
        return Operand("number", np.int64(len(value.values)))
    lengths = pc.utf8_length(value.values).cast(pa.int64()).fill_null(0)
    return Operand("number", lengths.to_numpy(zero_copy_only=False), value.valid)
