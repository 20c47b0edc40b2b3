"""Evaluates expressions over columns: as whole vectors first, then exactly for the rows that a vector cannot represent.

Arithmetic is int64 between integers and float64 otherwise. Rows where an integer would overflow, lose digits in a
comparison with a float, or be divided by zero are evaluated again, one by one, with Python's integers. So nothing
wraps around silently. ``/`` and ``**`` are float64, and ``x / 0`` is an infinity or NaN (IEEE 754); ``x // 0`` and
``x % 0`` of integers are NaN. A decimal is the nearest float64. The difference of two times is in seconds, and so is a
duration. A constant compared with a field of a narrower format is rounded to it.
"""

from __future__ import annotations

import ast
import copy
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from datacheck.schema.exact_algebra import ExactAlgebra
from datacheck.schema.expression import ParsedExpression, fold
from datacheck.schema.rounding import round_float
from datacheck.schema.vector_algebra import VectorAlgebra, require_truth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacheck.leaves import BoolArray
    from datacheck.schema.operands import Operand


def evaluate(
    expression: ParsedExpression, columns: Mapping[str, Operand], num_rows: int
) -> tuple[BoolArray, BoolArray]:
    """Where the rule is true, and where it is known (no null involved), each of shape ``(num_rows,)``.

    A rule that is true or false for each value of a list is true where it is true for all of them. Where a list has no
    value at an index, or two lists have different lengths, what is computed from them is unknown. A rule that is
    unknown for that reason is false. Raises :class:`ExpressionTypeError` if the expression does not fit the dtypes of
    the columns.
    """
    tree = prepared_tree(expression, tuple(columns[name].narrow for name in expression.names))
    vectors = VectorAlgebra(columns, num_rows)
    with np.errstate(all="ignore"):
        truth, known = _verdicts(tree, vectors)
        rows = np.flatnonzero(vectors.inexact)
        if len(rows):
            few = {name: columns[name].exactly(rows) for name in expression.names}
            truth[rows], known[rows] = _verdicts(tree, ExactAlgebra(few, len(rows)))
    return truth, known


def _verdicts(tree: ast.expr, vectors: VectorAlgebra) -> tuple[BoolArray, BoolArray]:
    result = fold(tree, vectors)
    size = len(vectors.unmatched)
    if result.kind != "null" and result.axes is not None:
        result = vectors.call("all", [result], None)
    if result.kind == "null":
        return np.zeros(size, np.bool_), vectors.unmatched
    require_truth(result, "is not true or false; compare it with something")
    truth = np.array(np.broadcast_to(result.values, (size,)))
    known = np.ones(size, np.bool_) if result.valid is None else np.array(np.broadcast_to(result.valid, (size,)))
    return truth & known, known | vectors.unmatched


@lru_cache(maxsize=256)
def prepared_tree(expression: ParsedExpression, dtypes: tuple[str | None, ...]) -> ast.expr:
    """The tree, with what its comparisons with constants allow.

    A constant that is compared with a narrow float field is rounded to its dtype. A second argument of ``nunique`` is the
    number from which on it need not be exact: ``nunique(x, 2) > 1``.
    """
    narrow = dict(zip(expression.names, dtypes, strict=True))

    def narrow_of(node: ast.expr) -> str | None:
        match node:
            case ast.Name(id=name):
                return narrow[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand) | ast.Subscript(value=operand):
                return narrow_of(operand)
            case ast.Call(func=ast.Name(id="abs" | "min" | "max"), args=arguments):
                found = {narrow_of(argument) for argument in arguments}
                return found.pop() if len(found) == 1 else None
        return None

    class Preparer(ast.NodeTransformer):
        def visit_Compare(self, node: ast.Compare) -> ast.expr:
            parts = _bounded(node)
            found = [narrow_of(part) for part in parts]
            rounded = [
                _rounded(part, before or after)
                for part, before, after in zip(parts, [None, *found[:-1]], [*found[1:], None], strict=True)
            ]
            first, *others = map(self.visit, rounded)
            return ast.Compare(first, node.ops, others)

    prepared_tree: ast.expr = Preparer().visit(copy.deepcopy(expression.tree))
    return prepared_tree


def _bounded(node: ast.Compare) -> list[ast.expr]:
    """The parts of a comparison, with a second argument of an ``nunique`` that is compared with numbers alone."""
    parts = [node.left, *node.comparators]
    numbers = [one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, int | float)]
    if len(numbers) != len(parts) - 1 or not all(map(math.isfinite, numbers)):
        return parts
    enough = ast.Constant(max(1, *(math.floor(number) + 1 for number in numbers)))
    return [_with_second(part, "nunique", enough) for part in parts]


def _with_second(node: ast.expr, function: str, argument: ast.expr) -> ast.expr:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[first]) if name == function:
            return ast.Call(node.func, [first, argument], node.keywords)
    return node


def _rounded(node: ast.expr, dtype: str | None) -> ast.expr:
    match node:
        case ast.Constant(value=int() | float() as value) if dtype is not None and not isinstance(value, bool):
            return ast.Constant(round_float(value, dtype))
        case ast.List(elts=elements):
            return ast.List([_rounded(element, dtype) for element in elements])
    return node
