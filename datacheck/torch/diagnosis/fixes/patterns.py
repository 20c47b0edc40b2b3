"""Patterns of expressions: what matches one, and the expression that takes its place."""

from __future__ import annotations

import ast
import contextlib
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import nn

from datacheck.torch.diagnosis.fixes.source import Expression, Namespace

#: The source that each variable of a pattern stands for; None where the program left the argument out.
Bindings = dict[str, ast.expr | None]
_OPERATORS = {ast.Add: "add", ast.Div: "div", ast.MatMult: "matmul", ast.Mult: "mul", ast.Pow: "pow", ast.Sub: "sub"}
_COMMUTATIVE = frozenset({"add", "mul"})
_SYNONYMS = {
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "divide": "div",
    "true_divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "power": "pow",
    "vector_norm": "norm",
    "inverse": "inv",
    "bmm": "matmul",
    "mm": "matmul",
}
#: The most names that are followed.
MAX_DEPTH = 4
#: Names for values that a rewriting needs twice.
_ALIASES = ("inner", *(f"inner_{number}" for number in range(2, 99)))
#: The names of the arguments of functions, so that ``x.sum(-1)`` and ``torch.sum(x, dim=-1)`` are the same.
_ARGUMENTS = {
    "clamp": ("x", "min", "max"),
    "cross_entropy": ("x", "target", "weight", "size_average", "ignore_index"),
    "eigh": ("x", "uplo"),
    "log_softmax": ("x", "dim"),
    "logsumexp": ("x", "dim", "keepdim"),
    "masked_fill": ("x", "mask", "value"),
    "mean": ("x", "dim", "keepdim"),
    "nll_loss": ("x", "target", "weight", "size_average", "ignore_index"),
    "norm": ("x", "p", "dim", "keepdim"),
    "prod": ("x", "dim", "keepdim"),
    "softmax": ("x", "dim"),
    "std": ("x", "dim"),
    "sum": ("x", "dim", "keepdim"),
    "svd": ("x", "full_matrices"),
    "var": ("x", "dim"),
}
_KEYWORDS = {"axis": "dim", "input": "x", "ord": "p", "self": "x"}


@dataclass(frozen=True, slots=True)
class _Term:
    """A call or an operator, written one way however the program writes it. ``callee`` is the module that is called."""

    name: str
    arguments: dict[str, ast.expr]
    callee: ast.expr | None = None


def _term(node: ast.AST, names: Namespace | None) -> _Term | None:
    """The term of a node; ``names`` None for a pattern, where functions have no prefix."""
    if isinstance(node, ast.BinOp | ast.AugAssign):
        name = _OPERATORS.get(type(node.op))
        left, right = (node.left, node.right) if isinstance(node, ast.BinOp) else (_loaded(node.target), node.value)
        return None if name is None else _Term(name, {"0": left, "1": right})
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _Term("neg", {"0": node.operand})
    if not isinstance(node, ast.Call) or any(isinstance(argument, ast.Starred) for argument in node.args):
        return None
    if any(keyword.arg is None for keyword in node.keywords):
        return None
    function, operands, callee = node.func, list(node.args), None
    if names is None or isinstance(function, ast.Name):
        name = function.id if isinstance(function, ast.Name) else ""
        called = None if names is None else names.get(name)
        if isinstance(called, nn.Module):
            name, callee = type(called).__name__, function
        elif called is not None and not str(getattr(called, "__module__", None)).startswith(("torch", "None")):
            return None
    elif isinstance(function, ast.Attribute):
        owner = value_of(function.value, names)
        member = getattr(owner, function.attr, None) if owner is not None else None
        name = function.attr
        if isinstance(member, nn.Module):
            name, callee = type(member).__name__, function
        elif not isinstance(owner, ModuleType):
            operands.insert(0, function.value)
    else:
        called = value_of(function, names)
        if not isinstance(called, nn.Module):
            return None
        name, callee = type(called).__name__, function
    name = _SYNONYMS.get(name.rstrip("_"), name.rstrip("_"))
    order = _ARGUMENTS.get(name, ())
    arguments = {
        order[number] if number < len(order) else str(number): operand for number, operand in enumerate(operands)
    }
    arguments.update({_KEYWORDS.get(str(keyword.arg), str(keyword.arg)): keyword.value for keyword in node.keywords})
    return _Term(name, arguments, callee)


def _loaded(target: ast.expr) -> ast.expr:
    """The target of an augmented assignment, as it is read."""
    loaded = copy.copy(target)
    loaded.ctx = ast.Load()  # type: ignore[attr-defined]
    return loaded


def value_of(node: ast.expr, names: Namespace) -> Any:
    """The value of a name, its attributes and constant items; None where it has none."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = value_of(node.value, names)
        is_plain = isinstance(owner, ModuleType | nn.Module)
        return getattr(owner, node.attr, None) if is_plain else getattr(owner, "__dict__", {}).get(node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        container: Any = value_of(node.value, names)
        if isinstance(container, nn.Module | dict | list | tuple):
            with contextlib.suppress(LookupError, TypeError):
                return container[node.slice.value]  # type: ignore[index]
    return None


def operands(node: ast.AST, names: Namespace) -> list[ast.expr]:
    """The operands of a call or an operator, in order; none where it is something else."""
    term = _term(node, names)
    return [] if term is None else list(term.arguments.values())


def is_simple(node: ast.expr | None) -> bool:
    """Whether a node can be written a second time: names, attributes, constants, their negatives and items."""
    if isinstance(node, ast.UnaryOp):
        return is_simple(node.operand)
    if isinstance(node, ast.Subscript):
        return is_simple(node.value) and is_simple(node.slice)
    if isinstance(node, ast.Tuple):
        return all(map(is_simple, node.elts))
    if isinstance(node, ast.Slice):
        return all(part is None or is_simple(part) for part in (node.lower, node.upper, node.step))
    return isinstance(node, ast.Name | ast.Constant) or (isinstance(node, ast.Attribute) and is_simple(node.value))


@dataclass(slots=True)
class Match:
    """What the variables of a pattern stand for, and the nodes that the pattern stands for.

    ``hoisted`` are nodes in other statements that need a name of their own, so that they are not computed twice.
    """

    bindings: Bindings = field(default_factory=dict)
    nodes: list[ast.AST] = field(default_factory=list)
    hoisted: dict[str, ast.expr] = field(default_factory=dict)

    def copy(self) -> Match:
        return Match(dict(self.bindings), list(self.nodes), dict(self.hoisted))


def match(pattern: str, expression: Expression) -> Match | None:
    """How an expression matches a pattern; None where it does not.

    Patterns are Python: names are variables, ``log(x)`` is ``torch.log(x)`` and ``x.log()``, and operators are functions
    too. A local name is followed to the value that was assigned to it. ``module`` is bound to a called module, and
    ``...`` among the arguments stands for whatever else there is.
    """
    return _match(_parse(pattern), expression.node, expression, Match(), 0)


def _parse(code: str) -> ast.expr:
    """A pattern or replacement; its nodes have no positions, so that they are distinguished from the program's."""
    tree = ast.parse(code, mode="eval").body
    for node in ast.walk(tree):
        for name in ("lineno", "end_lineno", "col_offset", "end_col_offset"):
            if hasattr(node, name):
                delattr(node, name)
    return tree


def _match(pattern: ast.expr, node: ast.AST, expression: Expression, so_far: Match, depth: int) -> Match | None:
    """The match with what a part of the pattern adds to it. ``depth`` is how many names were looked through."""
    if isinstance(pattern, ast.Name):
        return _bind(pattern.id, node, expression, so_far, depth) if isinstance(node, ast.expr) else None
    if isinstance(pattern, ast.Constant):
        return so_far if isinstance(node, ast.Constant) and node.value == pattern.value else None
    if isinstance(node, ast.Name) and depth < MAX_DEPTH:
        assigned = expression.source.definition(node)
        return None if assigned is None else _match(pattern, assigned, expression, so_far, depth + 1)
    wanted, given = _term(pattern, None), _term(node, expression.names)
    if wanted is None or given is None or wanted.name != given.name:
        return None
    orders = [given.arguments]
    if wanted.name in _COMMUTATIVE:
        orders.append({"0": given.arguments["1"], "1": given.arguments["0"]})
    for arguments in orders:
        found: Match | None = so_far.copy()
        assert found is not None
        found.nodes.append(node)
        if given.callee is not None:
            found.bindings["module"] = given.callee
        found = _match_arguments(wanted.arguments, arguments, expression, found, depth)
        if found is not None:
            return found
    return None


def _bind(name: str, node: ast.expr, expression: Expression, so_far: Match, depth: int) -> Match | None:
    known = so_far.bindings.get(name)
    if known is not None:
        hoisted = so_far.hoisted.get(getattr(known, "id", ""))
        return so_far if node is hoisted or ast.dump(known) == ast.dump(node) else None
    found = so_far.copy()
    if depth and not is_simple(node):
        first = "difference" if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) else "logits"
        alias = next(
            alias for alias in (first, *_ALIASES) if alias not in expression.names and alias not in found.hoisted
        )
        variable = ast.Name(alias, ast.Load())
        variable.origin = id(node)  # type: ignore[attr-defined]
        found.hoisted[alias] = node
        node = variable
    found.bindings[name] = node
    return found


def _match_arguments(
    wanted: Mapping[str, ast.expr], given: Mapping[str, ast.expr], expression: Expression, so_far: Match, depth: int
) -> Match | None:
    rest = [name for name, pattern in wanted.items() if isinstance(pattern, ast.Constant) and pattern.value is ...]
    if not rest and set(given) - set(wanted):
        return None
    found: Match | None = so_far
    for name, pattern in wanted.items():
        node = given.get(name)
        if name in rest or found is None:
            continue
        if node is not None:
            found = _match(pattern, node, expression, found, depth)
        elif isinstance(pattern, ast.Name):
            found.bindings.setdefault(pattern.id, None)
        else:
            return None
    return found


def _is_rest(arguments: Sequence[ast.expr]) -> bool:
    return any(isinstance(argument, ast.Constant) and argument.value is ... for argument in arguments)


class _Filler(ast.NodeTransformer):
    """Puts the bound nodes in the place of a replacement's variables, and leaves out absent arguments."""

    def __init__(self, bindings: Bindings, renamed: Mapping[str, ast.expr]) -> None:
        self._bindings = bindings
        self._renamed = renamed

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self._bindings:
            return self._bindings[node.id] or node
        return self._renamed.get(node.id, node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.args = [argument for argument in node.args if not self._is_absent(argument)]
        node.keywords = [keyword for keyword in node.keywords if not self._is_absent(keyword.value)]
        self.generic_visit(node)
        return node

    def _is_absent(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and self._bindings.get(node.id, node) is None


def repeats_work(replacement: str, found: Match) -> bool:
    """Whether a replacement would compute a part of the program twice."""
    read = [node.id for node in ast.walk(_parse(replacement)) if isinstance(node, ast.Name)]
    bound = ((name, node) for name, node in found.bindings.items() if name != "dtype" and node is not None)
    return any(read.count(name) > 1 and not is_simple(node) for name, node in bound)


def rewrite(replacement: str, found: Match, names: Namespace) -> tuple[ast.expr, list[str]]:
    """The replacement with the program's own source in it, and the imports that the program lacks for it.

    ``torch`` and ``F`` are written as the program writes them. ``...`` are the other arguments of the program's call.
    """
    tree, bindings = _parse(replacement), found.bindings
    call = found.nodes[0]
    if isinstance(tree, ast.Call) and isinstance(call, ast.Call) and _is_rest(tree.args[:1]):
        changed = {keyword.arg for keyword in tree.keywords}
        kept = [keyword for keyword in call.keywords if keyword.arg not in changed]
        tree = ast.Call(tree.func, list(call.args), [*kept, *tree.keywords])
    imports: list[str] = []
    renamed: dict[str, ast.expr] = {}
    for root in sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(bindings)):
        wanted: Any = {"torch": torch, "F": torch.nn.functional}.get(root)
        if wanted is not None:
            alias = root if names.get(root) is wanted else _alias(wanted, names)
            if alias is None:
                imports.append("import torch" if root == "torch" else "import torch.nn.functional as F")
            elif alias != root:
                renamed[root] = _parse(alias)
        elif hasattr(_safe(), root):
            imports.append(f"from datacheck.torch.safe import {root}")
    filled: ast.expr = _Filler(bindings, renamed).visit(tree)
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr.endswith("_"):
        # A method that changes its tensor in place: the replacement must do so too.
        filled = ast.Call(ast.Attribute(call.func.value, "copy_", ast.Load()), [filled], [])
    return filled, imports


def _alias(module: ModuleType, names: Namespace) -> str | None:
    found = next((name for name, value in names.items() if value is module and name.isidentifier()), None)
    if found is None and module is torch.nn.functional and names.get("nn") is nn:
        return "nn.functional"
    return found


def _safe() -> ModuleType:
    from datacheck.torch import safe

    return safe
