"""What statements of a program read, assign and call, as far as their source shows it."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from datacheck.torch.guard.call_stack import Graph

INNER_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
#: Methods that change a list.
GROWS = frozenset({"append", "appendleft", "extend", "insert"})
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def bodies_of(statement: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of a compound statement."""
    for name in ("body", "orelse", "finalbody"):
        body = getattr(statement, name, None)
        if isinstance(body, list):
            yield body
    for handler in getattr(statement, "handlers", []):
        yield handler.body
    for case in getattr(statement, "cases", []):
        yield case.body


def walk_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one in the same scope."""
    todo = [node]
    while todo:
        current = todo.pop(0)
        yield current
        if current is node or not isinstance(current, INNER_SCOPES):
            todo.extend(ast.iter_child_nodes(current))


def names_read(node: ast.AST) -> frozenset[str]:
    """The names that are read, dotted ones (``self.loss``) and those in inner functions included."""
    names: set[str] = set()
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        names.add(node.id)
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        names.add(dotted(node) or "")
    elif isinstance(node, ast.AugAssign):
        names.add(dotted(node.target) or "")
    names = names.union(*map(names_read, ast.iter_child_nodes(node)))
    if isinstance(node, ast.Lambda):
        own = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
        names = {name for name in names if name.split(".")[0] not in own}
    elif isinstance(node, COMPREHENSIONS):
        own = {inner.id for inner in _targets_of(node) if isinstance(inner, ast.Name)}
        names = {name for name in names if name.split(".")[0] not in own} | names_read(node.generators[0].iter)
    return frozenset(names - {""})


def _targets_of(comprehension: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> Iterator[ast.AST]:
    """The nodes that a comprehension assigns: variables of its own."""
    for generator in comprehension.generators:
        yield from ast.walk(generator.target)


def names_read_first(statement: ast.stmt, values: Mapping[str, Any]) -> frozenset[str]:
    """The names that a statement reads before it assigns them."""
    bodies = list(bodies_of(statement))
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        own = _variables_of(statement)
        return frozenset(name for name in names_read(statement) if name.split(".")[0] not in own)
    if not bodies or isinstance(statement, INNER_SCOPES):
        return names_read(statement)
    read: set[str] = set()
    made: set[str] = set()
    for node in ast.iter_child_nodes(statement):
        if not isinstance(node, (ast.stmt, ast.ExceptHandler)):
            read |= names_read(node)
            made |= names_stored(node, values)
    for body in bodies:
        known = set(made)
        for inner in body:
            read |= names_read_first(inner, values) - known
            known |= names_stored(inner, values)
    return frozenset(read)


def _variables_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The parameters of a function and the variables that are its own."""
    inner = {node for statement in function.body for node in walk_scope(statement)}
    shared = {name for node in inner if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names}
    stored = {node.id for node in inner if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    return ({node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)} | stored) - shared


def names_stored(node: ast.AST, values: Mapping[str, Any]) -> frozenset[str]:
    """The names that a statement assigns, deletes, or changes in place; ``values`` are the current ones."""
    names = set()
    own: set[ast.AST] = set()
    for inner in walk_scope(node):
        if isinstance(inner, COMPREHENSIONS):
            own.update(_targets_of(inner))
        elif inner in own:
            continue
        elif isinstance(inner, (ast.Name, ast.Attribute)) and isinstance(inner.ctx, (ast.Store, ast.Del)):
            names.add(dotted(inner) or "")
        elif isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(inner.name)
        elif isinstance(inner, ast.alias):
            names.add((inner.asname or inner.name).split(".")[0])
    return frozenset(names - {""}) | names_mutated(node, values)


def line_storing(name: str, statement: ast.stmt, values: Mapping[str, Any]) -> int:
    """The line of a statement that gives a name its value: in a compound one, of the only simple one that does, or its own."""
    bodies = [inner for body in bodies_of(statement) for inner in body]
    storing = [inner for inner in bodies if name in names_stored(inner, values)]
    return line_storing(name, storing[0], values) if len(storing) == 1 else statement.lineno


def names_mutated(node: ast.AST, values: Mapping[str, Any]) -> frozenset[str]:
    """The names among them whose object is changed and not replaced, so that its value from before is lost."""
    names = set()
    for inner in walk_scope(node):
        if isinstance(inner, ast.Subscript) and isinstance(inner.ctx, (ast.Store, ast.Del)):
            names.add(dotted(inner.value) or "")
        elif isinstance(inner, ast.AugAssign):
            name = dotted(inner.target)
            value = None if name is None else value_of(name, values)
            if not isinstance(value, (int, float, str, tuple)):
                names.add(name or "")
        elif isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
            names.add(_changed_in_place(inner.func, values))
    return frozenset(names - {""})


def _changed_in_place(method: ast.Attribute, values: Mapping[str, Any]) -> str:
    """``target`` of ``target.clamp_(0)``, which changes the tensor, and of ``target.append(x)``, which changes the list; of
    anything else the name says nothing. A list may have been replaced by a tensor since.
    """
    is_in_place = method.attr.endswith("_") and not method.attr.endswith("__")
    if not is_in_place and method.attr not in GROWS:
        return ""
    name = dotted(method.value)
    value = None if name is None else value_of(name, values)
    changed = (Graph, torch.Tensor, np.ndarray) if is_in_place else (Graph, torch.Tensor, np.ndarray, list, deque)
    return name or "" if isinstance(value, changed) else ""


def dotted(node: ast.AST) -> str | None:
    """``a.b.c`` as text; None for anything but a chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None


def value_of(name: str, values: Mapping[str, Any]) -> Any:
    """The current value of ``a.b``, as far as it can be read without running code: None, or a module on the way."""
    first, *rest = name.split(".")
    value = values.get(first)
    for part in rest:
        if isinstance(value, nn.Module) and part not in vars(value):
            return value
        value = getattr(value, "__dict__", {}).get(part)
    return value
