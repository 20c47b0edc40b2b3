"""Rules about rows: a small language with Python's syntax. Nothing in it is ever executed.

::

    arr_time > dep_time
    0 <= humidity <= 100 or is_null(humidity)
    bbox[0] < bbox[2] and bbox[1] < bbox[3]
    abs(norm(embedding) - 1) < 1e-3
    any(labels != -100) and len(labels) == len(input_ids)
    `odd name` == field("another one")

The language has comparisons (also chained), ``and``, ``or``, ``not``, ``+ - * / // % **``, ``in [..]``, numbers,
strings in quotes, ``True`` and ``False``, names of fields, ``x[..]`` with integers and slices as in NumPy, and the
functions in :data:`FUNCTIONS`. An operation on a list is done for each of its values.

An operation with a null is unknown (SQL's three-valued logic), and a row with an unknown result does not break the
rule. Every comparison with a NaN is false (IEEE 754), so it does break the rule.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, TypeVar

from datacheck.schema.expression_reader import (
    ARITHMETIC,
    COMPARISONS,
    FUNCTIONS,
    REDUCTIONS,
    ExpressionSyntaxError,
    read_expression,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datacheck.schema.axes import Index

__all__ = [
    "FUNCTIONS",
    "REDUCTIONS",
    "Algebra",
    "ExpressionSyntaxError",
    "ParsedExpression",
    "fold",
    "parse_expression",
]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ParsedExpression:
    """A valid expression; ``names`` are its fields in order of appearance."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]


class Algebra(Protocol[Value]):
    """The operations of the language on one kind of values."""

    def name(self, name: str) -> Value: ...

    def constant(self, value: bool | int | float | str) -> Value: ...

    def compare(self, symbol: str, left: Value, right: Value) -> Value: ...

    def arithmetic(self, symbol: str, left: Value, right: Value) -> Value: ...

    def negative(self, value: Value) -> Value: ...

    def conjunction(self, values: Sequence[Value]) -> Value: ...

    def disjunction(self, values: Sequence[Value]) -> Value: ...

    def negation(self, value: Value) -> Value: ...

    def member(self, value: Value, members: Sequence[bool | int | float | str]) -> Value: ...

    def call(self, function: str, arguments: Sequence[Value], axis: int | None) -> Value: ...

    def item(self, value: Value, indexes: Sequence[Index]) -> Value: ...


@lru_cache(maxsize=256)
def parse_expression(text: str) -> ParsedExpression:
    """Parse an expression; raises :class:`ExpressionSyntaxError`."""
    return ParsedExpression(text, *read_expression(text))


def fold(node: ast.expr, algebra: Algebra[Value]) -> Value:
    """Evaluate a parsed expression in an algebra."""
    match node:
        case ast.Name(id=name):
            return algebra.name(name)
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return algebra.constant(value)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return algebra.negation(fold(operand, algebra))
        case ast.UnaryOp(operand=operand):
            return algebra.negative(fold(operand, algebra))
        case ast.BoolOp(op=ast.And(), values=values):
            return algebra.conjunction([fold(value, algebra) for value in values])
        case ast.BoolOp(values=values):
            return algebra.disjunction([fold(value, algebra) for value in values])
        case ast.BinOp(left=left, op=operator, right=right):
            return algebra.arithmetic(ARITHMETIC[type(operator)], fold(left, algebra), fold(right, algebra))
        case ast.Compare(left=left, ops=operators, comparators=comparators):
            return _fold_comparisons(left, operators, comparators, algebra)
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=keywords):
            axis = keywords[0].value.value if keywords else None  # type: ignore[attr-defined]
            return algebra.call(function, [fold(argument, algebra) for argument in arguments], axis)
        case ast.Subscript(value=inner, slice=ast.Tuple(elts=indexes)):
            return algebra.item(fold(inner, algebra), [_index_of(index) for index in indexes])
    raise AssertionError(f"the reader accepted {ast.dump(node)}")


def _fold_comparisons(
    left: ast.expr, operators: list[ast.cmpop], comparators: list[ast.expr], algebra: Algebra[Value]
) -> Value:
    verdicts = []
    current = fold(left, algebra)
    for operator, comparator in zip(operators, comparators, strict=True):
        if isinstance(comparator, ast.List):
            members = [element.value for element in comparator.elts if isinstance(element, ast.Constant)]
            verdict = algebra.member(current, members)  # type: ignore[arg-type]
            verdicts.append(algebra.negation(verdict) if isinstance(operator, ast.NotIn) else verdict)
            continue
        following = fold(comparator, algebra)
        verdicts.append(algebra.compare(COMPARISONS[type(operator)], current, following))
        current = following
    return verdicts[0] if len(verdicts) == 1 else algebra.conjunction(verdicts)


def _index_of(node: ast.expr) -> Index:
    """The integer, slice or ``...`` that a node of the reader stands for."""
    match node:
        case ast.Slice(lower=lower, upper=upper):
            return slice(*(None if bound is None else bound.value for bound in (lower, upper)))  # type: ignore[attr-defined]
    return node.value  # type: ignore[attr-defined,no-any-return]
