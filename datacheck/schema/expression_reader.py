"""The syntax of expressions: what the language accepts, as a tree of plain nodes, and what it says of all other text."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Sequence
from typing import Final

from datacheck.errors import nearest_name
from datacheck.text import join_limited

#: The functions of one list, with the arguments that may follow it: ``axis``.
REDUCTIONS: Final = frozenset(
    {"all", "any", "count", "is_sorted", "max", "mean", "min", "norm", "nunique", "std", "sum"}
)
#: The functions, with their minimum and maximum number of arguments.
FUNCTIONS: Final[dict[str, tuple[int, int]]] = {
    "abs": (1, 1),
    "all": (1, 1),
    "any": (1, 1),
    "channels": (1, 1),
    "count": (1, 1),
    "height": (1, 1),
    "is_finite": (1, 1),
    "is_nan": (1, 1),
    "is_null": (1, 1),
    "is_sorted": (1, 1),
    "len": (1, 1),
    "max": (1, 16),
    "mean": (1, 1),
    "min": (1, 16),
    "ndim": (1, 1),
    "norm": (1, 1),
    "num_rows": (1, 1),
    "nunique": (1, 1),
    "size": (1, 1),
    "std": (1, 1),
    "sum": (1, 1),
    "width": (1, 1),
}
#: Those that take an ``axis``.
_WITH_AXIS: Final = REDUCTIONS | {"size"}

MAX_CHARACTERS: Final = 2_000
MAX_NODES: Final = 200
MAX_DEPTH: Final = 30

COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
ARITHMETIC: Final[dict[type[ast.operator], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_TRUTH_FUNCTIONS: Final = frozenset({"all", "any", "is_finite", "is_nan", "is_null", "is_sorted"})
_HINTS: Final[dict[type[ast.AST], str]] = {
    ast.BitAnd: "write 'and' instead of '&'",
    ast.BitOr: "write 'or' instead of '|'",
    ast.Invert: "write 'not' instead of '~'",
    ast.Is: "write is_null(x) instead of 'x is None'",
    ast.IsNot: "write not is_null(x) instead of 'x is not None'",
    ast.Attribute: 'write field("a.b") for a field whose name has a dot',
    ast.IfExp: "write '(test and a) or (not test and b)'",
}

_NEIGHBOURS: Final = "; rules about neighbouring rows are 'sequence', such as sequence: {by: series, on: time, step: 1}"
_NOT_NULL: Final = "; write is_null(x) or not is_null(x)"
_FUNCTION_HINTS: Final = {
    **dict.fromkeys(("diff", "shift", "lag", "lead", "cumsum", "rolling", "pct_change"), _NEIGHBOURS),
    **dict.fromkeys(("isna", "isnull", "notna", "notnull"), _NOT_NULL),
    "between": "; write low <= x <= high",
    "isin": "; write x in [1, 2]",
}


class ExpressionSyntaxError(ValueError):
    """The text is not a valid expression."""


def read_expression(text: str) -> tuple[ast.expr, tuple[str, ...]]:
    """The tree of an expression, and its fields in order of appearance; raises :class:`ExpressionSyntaxError`."""
    if len(text) > MAX_CHARACTERS:
        raise ExpressionSyntaxError(f"is longer than {MAX_CHARACTERS:,} characters; split it into several rules")
    source, quoted = _replace_backticks(text.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise ExpressionSyntaxError(f"is not an expression: {error.msg}{_syntax_hint(source)}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionSyntaxError(f"is not an expression: {error or 'it is nested too deeply'}") from None
    if _depth(body) > MAX_DEPTH or sum(1 for _ in ast.walk(body)) > MAX_NODES * 3:
        raise ExpressionSyntaxError(
            f"is too large (at most {MAX_NODES} parts, {MAX_DEPTH} deep); split it into several rules"
        )
    reader = _Reader(quoted)
    tree = reader.truth(body)
    if not reader.names:
        raise ExpressionSyntaxError("has no field, so it says nothing about the data")
    return tree, tuple(reader.names)


class _Reader:
    """Accepts the nodes of the language and normalises them: names for fields, constants with their sign."""

    def __init__(self, quoted: Sequence[str]) -> None:
        self._quoted = {f"{_PLACEHOLDER}{number}": name for number, name in enumerate(quoted)}
        self.names: dict[str, None] = {}

    def truth(self, node: ast.expr) -> ast.expr:
        """A node that is true or false; a bare field may be boolean."""
        match node:
            case ast.BoolOp(op=operator, values=values):
                return ast.BoolOp(operator, [self.truth(value) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ast.UnaryOp(ast.Not(), self.truth(operand))
            case ast.Compare() | ast.Name() | ast.Subscript():
                return self.value(node)
            case ast.Call(func=ast.Name(id=name)) if name in _TRUTH_FUNCTIONS or name == "field":
                return self.value(node)
            case ast.Constant(value=bool()):
                raise self.error(node, "is a constant, not a rule")
            case ast.BinOp() | ast.Constant() | ast.Call() | ast.UnaryOp():
                self.value(node)
                raise self.error(node, "is a value, not a rule; compare it with something")
        raise self._refusal(node)

    def value(self, node: ast.expr) -> ast.expr:
        """A node of any kind."""
        match node:
            case ast.Name(id=name):
                return self._field(self._quoted.get(name, name))
            case ast.Constant(value=constant):
                return self._constant(node, constant)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                return self._signed(sign, operand)
            case ast.UnaryOp(op=ast.Not()) | ast.BoolOp():
                return self.truth(node)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in ARITHMETIC:
                return ast.BinOp(self._number(left), operator, self._number(right))
            case ast.Compare(left=left, ops=operators, comparators=comparators):
                return self._comparison(left, operators, comparators)
            case ast.Call():
                return self._call(node)
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str() as key)):
                return self._field(f"{self._quoted.get(name, name)}[{key}]")
            case ast.Subscript(value=inner, slice=index):
                parts = index.elts if isinstance(index, ast.Tuple) else [index]
                return ast.Subscript(self.value(inner), ast.Tuple([self._index(part, node) for part in parts]))
        raise self._refusal(node)

    def error(self, node: ast.expr, problem: str) -> ExpressionSyntaxError:
        text = ast.unparse(node)
        for placeholder, name in self._quoted.items():
            text = text.replace(placeholder, f"`{name}`")
        return ExpressionSyntaxError(
            f"{text!r} {problem}" if len(text) <= 80 else f"a part of the expression {problem}"
        )

    def _refusal(self, node: ast.expr) -> ExpressionSyntaxError:
        keys = [type(node), type(getattr(node, "op", None))]
        hint = next((_HINTS[key] for key in keys if key in _HINTS), None)
        return self.error(node, f"is not part of the language{'; ' + hint if hint else ''}")

    def _field(self, name: str) -> ast.expr:
        self.names.setdefault(name)
        return ast.Name(name)

    def _constant(self, node: ast.expr, value: object) -> ast.expr:
        if value is None:
            raise self.error(node, "cannot be compared; write is_null(x)")
        if not isinstance(value, bool | int | float | str):
            raise self.error(node, "is not a number, string, True or False")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(node, "is non-finite; write is_finite(x)")
        if isinstance(value, int) and abs(value) >= 2**64:
            raise self.error(node, "is larger than any 64-bit integer")
        return ast.Constant(value)

    def _signed(self, sign: ast.unaryop, operand: ast.expr) -> ast.expr:
        inner = self._number(operand)
        if isinstance(sign, ast.UAdd):
            return inner
        match inner:
            case ast.Constant(value=int() | float() as value):
                return ast.Constant(-value)
        return ast.UnaryOp(sign, inner)

    def _number(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bool):
            raise self.error(node, "is used as a number, but is not one")
        return self.value(node)

    def _comparison(self, left: ast.expr, operators: list[ast.cmpop], comparators: list[ast.expr]) -> ast.expr:
        parts = [self.value(left)]
        for position, (operator, comparator) in enumerate(zip(operators, comparators, strict=True)):
            if isinstance(operator, ast.In | ast.NotIn):
                if position != len(operators) - 1:
                    raise ExpressionSyntaxError("compares the result of 'in'; put 'in' last, or in parentheses")
                parts.append(self._members(comparator))
            elif type(operator) in COMPARISONS:
                parts.append(self.value(comparator))
            else:
                raise ExpressionSyntaxError(
                    f"has an operator that is not part of the language; {_HINTS[type(operator)]}"
                )
        return ast.Compare(parts[0], operators, parts[1:])

    def _members(self, node: ast.expr) -> ast.expr:
        if not isinstance(node, ast.List | ast.Tuple | ast.Set) or not node.elts:
            raise self.error(node, "follows 'in', which expects a list of constants such as [1, 2]")
        members = [self.value(element) for element in node.elts]
        if not all(isinstance(member, ast.Constant) for member in members):
            raise self.error(node, "contains more than constants")
        return ast.List(members)

    def _call(self, node: ast.Call) -> ast.expr:
        if not isinstance(node.func, ast.Name):
            raise self._refusal(node.func)
        name, arguments = node.func.id, node.args
        if name == "field":
            match arguments:
                case [ast.Constant(value=str() as path)] if not node.keywords:
                    return self._field(path)
            raise self.error(node, 'expects one name in quotes, such as field("odd name")')
        if name not in FUNCTIONS:
            hint = _FUNCTION_HINTS.get(name.lower()) or nearest_name(name, FUNCTIONS)
            hint = hint or f"; known functions: {join_limited([*FUNCTIONS, 'field'], 30)}"
            raise self.error(node, f"calls an unknown function '{name}'{hint}")
        least, most = FUNCTIONS[name]
        axis = self._axis(node)
        if name == "size" and len(arguments) == 2:
            axis, arguments = [ast.keyword("axis", self._integer(arguments[1], node))], arguments[:1]
        if not least <= len(arguments) <= most or (axis and (name not in _WITH_AXIS or len(arguments) > 1)):
            wanted = "one argument" if most == 1 else f"{least} to {most} arguments"
            raise self.error(node, f"must have {wanted}{' and may have an axis' if name in _WITH_AXIS else ''}")
        read = self.truth if name in ("all", "any") else self.value
        return ast.Call(ast.Name(name), [read(argument) for argument in arguments], axis)

    def _axis(self, node: ast.Call) -> list[ast.keyword]:
        """The keyword ``axis`` of a call, which is an integer."""
        for keyword in node.keywords:
            if keyword.arg != "axis" or len(node.keywords) > 1:
                raise self.error(node, "has an argument by name; the only one is 'axis'")
        return [ast.keyword("axis", self._integer(keyword.value, node)) for keyword in node.keywords]

    def _index(self, node: ast.expr, whole: ast.expr) -> ast.expr:
        """One index of ``x[..]``: an integer, a slice of integers, or ``...``."""
        match node:
            case ast.Slice(lower=lower, upper=upper, step=None):
                bounds = [None if bound is None else self._integer(bound, whole) for bound in (lower, upper)]
                return ast.Slice(*bounds)
            case ast.Constant(value=value) if value is Ellipsis:
                return node
        return self._integer(node, whole)

    def _integer(self, node: ast.expr, whole: ast.expr) -> ast.Constant:
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        inner = node.operand if isinstance(node, ast.UnaryOp) and negative else node
        if isinstance(inner, ast.Constant) and type(inner.value) is int and inner.value < 2**40:
            return ast.Constant(-inner.value if negative else inner.value)
        raise self.error(whole, "has an index or axis that is not an integer, a slice such as 1: or '...'")


_PLACEHOLDER: Final = "__datacheck_field_"


def _replace_backticks(text: str) -> tuple[str, list[str]]:
    """Replace names in back-ticks by placeholders, outside quoted strings."""
    names: list[str] = []
    pieces: list[str] = []
    position, quote = 0, ""
    while position < len(text):
        character = text[position]
        if quote:
            step = 2 if character == "\\" else 1
            quote = "" if character == quote else quote
            pieces.append(text[position : position + step])
            position += step
        elif character == "`":
            end = text.find("`", position + 1)
            if end < 0:
                raise ExpressionSyntaxError("has an unclosed back-tick")
            pieces.append(f" {_PLACEHOLDER}{len(names)} ")
            names.append(text[position + 1 : end])
            position = end + 1
        else:
            quote = character if character in "'\"" else ""
            pieces.append(character)
            position += 1
    return "".join(pieces).strip(), names


def _syntax_hint(source: str) -> str:
    for wrong, right in (("&&", "and"), ("||", "or"), ("<>", "!=")):
        if wrong in source:
            return f"; write '{right}' instead of '{wrong}'"
    if "=" in source.replace("==", "").replace("<=", "").replace(">=", "").replace("!=", ""):
        return "; write '==' to compare"
    return ""


def _depth(root: ast.AST) -> int:
    deepest = 0
    stack: list[tuple[ast.AST, int]] = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        stack.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    return deepest
