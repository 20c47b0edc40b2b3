"""Finds the statements of a user's loop that compute the loss, in its source, and compiles them for a replay.

From the block that calls the model and then ``backward``, it takes the statements that the loss depends on and whose inputs
still have the values that they had. Statements that only log, count or print are left out. Line numbers stay those of the
file, so a recording of the replay names the user's own lines.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["RESULT", "LossCode", "find_loss_code"]

#: The name under which the code leaves the loss.
RESULT = "__datacheck_loss__"
#: Methods that start a backward pass, of the loss or with the loss as argument.
BACKWARD = frozenset({"backward", "manual_backward"})

#: Libraries whose functions compute without side effects.
LIBRARIES = frozenset({"math", "numpy", "torch"})

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module
_INNER_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class LossCode:
    """Code that assigns the loss to :data:`RESULT`, and the names that it reads from the loop."""

    code: CodeType
    inputs: frozenset[str]


@dataclass(slots=True)
class _Block:
    """A list of statements, the position of the one that contains a line, and the ``with`` statements around it."""

    statements: Sequence[ast.stmt]
    index: int
    withs: tuple[ast.With, ...]


def find_loss_code(
    function: CodeType, model_line: int | None, last_line: int, names: Mapping[str, Any]
) -> LossCode | None:
    """The code of the loss in ``function``, which calls the model in ``model_line`` and is now at ``last_line``.

    ``names`` holds the loop's present variables. If no call of the model is known, the last backward pass before
    ``last_line`` is used. Returns None if the source is missing or has a structure that is not understood.
    """
    try:
        tree = ast.parse("".join(linecache.getlines(function.co_filename)))
        scope = _scope_of(tree, function)
        if scope is None:
            return None
        for block in reversed(list(_blocks(scope.body, last_line if model_line is None else model_line))):
            found = _loss_before(block) if model_line is None else _loss_expression(block)
            if found is not None:
                return _compile(block, *found, last_line, function.co_filename, names)
    except (SyntaxError, ValueError, RecursionError):
        return None
    return None


def _scope_of(tree: ast.Module, function: CodeType) -> _Scope | None:
    if function.co_name == "<module>":
        return tree
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == function.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == function.co_firstlineno:
                return node
    return None


def _blocks(body: Sequence[ast.stmt], line: int, withs: tuple[ast.With, ...] = ()) -> Iterator[_Block]:
    """The blocks around a line, outermost first."""
    for index, statement in enumerate(body):
        if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            yield _Block(body, index, withs)
            if isinstance(statement, _INNER_SCOPES):
                return
            inner = (*withs, statement) if isinstance(statement, ast.With) else withs
            for inside in _bodies(statement):
                yield from _blocks(inside, line, inner)


def _bodies(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        body = getattr(statement, name, None)
        if isinstance(body, list):
            yield body
    for handler in getattr(statement, "handlers", []):
        yield handler.body


def _loss_expression(block: _Block) -> tuple[int, ast.expr] | None:
    """The statement with the backward pass, at or after the one that calls the model, and its loss."""
    for index in range(block.index, len(block.statements)):
        loss = _loss_in(block.statements[index])
        if loss is not None:
            # If both are in one compound statement, its inner blocks were tried first, or do not contain both.
            is_compound = any(True for _ in _bodies(block.statements[index]))
            return None if index == block.index and is_compound else (index, loss)
    return None


def _loss_before(block: _Block) -> tuple[int, ast.expr] | None:
    for index in range(block.index, -1, -1):
        loss = _loss_in(block.statements[index])
        if loss is not None:
            return index, loss
    return None


def _loss_in(statement: ast.stmt) -> ast.expr | None:
    """The loss of a statement with a backward pass."""
    for node in _walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BACKWARD:
            # loss.backward(), guard.backward(loss), torch.autograd.backward(loss)
            return _unscaled(node.args[0] if node.args else node.func.value)
    return None


def _unscaled(loss: ast.expr) -> ast.expr:
    """``loss`` of ``scaler.scale(loss)``."""
    if isinstance(loss, ast.Call) and isinstance(loss.func, ast.Attribute) and loss.func.attr == "scale" and loss.args:
        return loss.args[0]
    return loss


@dataclass(frozen=True, slots=True)
class _Slice:
    """The statements to run again, the names that they read from the loop, and those that they assign."""

    statements: list[ast.stmt]
    reads: set[str]
    assigned: set[str]


def _compile(
    block: _Block, backward: int, loss: ast.expr, last_line: int, filename: str, names: Mapping[str, Any]
) -> LossCode:
    # An error may have ended the loop before the backward pass.
    stores = [_stored(statement) for statement in block.statements if statement.lineno <= last_line]
    before = block.statements[: min(backward, len(stores))]
    needed = _loaded(loss)
    chosen = _keep_repeatable(before, stores, _find_dependencies(before, stores, needed), names)
    inputs = chosen.reads | (needed - chosen.assigned)
    body = _wrap_in_autocast(block, [*chosen.statements, _assign_result(loss)])
    module = ast.fix_missing_locations(ast.Module(body, []))
    return LossCode(compile(module, filename, "exec"), frozenset(name for name in inputs if "." not in name))


def _find_dependencies(
    statements: Sequence[ast.stmt], stores: Sequence[frozenset[str]], needed: frozenset[str]
) -> list[int]:
    """The positions of the statements that the names in ``needed`` depend on, in order."""
    wanted = set(needed)
    found = []
    for index in range(len(statements) - 1, -1, -1):
        if stores[index] & wanted:
            found.append(index)
            wanted |= _read_first(statements[index])
    return found[::-1]


def _keep_repeatable(
    statements: Sequence[ast.stmt],
    stores: Sequence[frozenset[str]],
    candidates: Sequence[int],
    names: Mapping[str, Any],
) -> _Slice:
    """Of the candidates, those that compute the same again and do nothing else."""
    chosen = _Slice([], set(), set())
    is_model_called = False
    for index in candidates:
        statement = statements[index]
        calls_model = any(isinstance(_value(name, names), nn.Module) for name in _loaded(statement))
        is_model_called = is_model_called or calls_model
        reads = _read_first(statement) - chosen.assigned
        # A name that is assigned later no longer holds what this statement read; the present value of its result is used.
        is_outdated = any(reads & later for later in stores[index:])
        if is_outdated or not (is_model_called or _only_computes(statement, chosen.assigned, names)):
            continue
        chosen.statements.append(statement)
        chosen.reads.update(reads)
        chosen.assigned.update(stores[index])
    return chosen


def _assign_result(loss: ast.expr) -> ast.stmt:
    return ast.copy_location(ast.Assign([ast.Name(RESULT, ast.Store())], loss), loss)


def _wrap_in_autocast(block: _Block, body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements inside the loop's autocast contexts: no other context changes what they compute."""
    for statement in reversed(block.withs):
        if any("autocast" in ast.unparse(item.context_expr) for item in statement.items):
            body = [ast.copy_location(ast.With(statement.items, body), statement)]
    return body


def _only_computes(statement: ast.stmt, produced: set[str], names: Mapping[str, Any]) -> bool:
    """Whether a statement before the call of the model only does arithmetic: ``next(batches)`` must not run again.

    A statement that only renames computes nothing; the new name serves as an input.
    """
    if not any(isinstance(node, (ast.Call, ast.BinOp, ast.UnaryOp)) for node in _walk(statement)):
        return False
    for node in _walk(statement):
        if not isinstance(node, ast.Call):
            continue
        root = node.func
        is_indexed = False
        while isinstance(root, (ast.Attribute, ast.Subscript, ast.Call)):
            is_indexed = is_indexed or isinstance(root, ast.Subscript)
            root = root.func if isinstance(root, ast.Call) else root.value
        if not isinstance(root, ast.Name):
            # A constant, or the result of an expression that is checked itself.
            continue
        value = names.get(root.id)
        is_library = isinstance(value, ModuleType) and value.__name__.split(".")[0] in LIBRARIES
        is_part = is_indexed and isinstance(value, (Mapping, list, tuple))
        if not (root.id in produced or is_library or is_part or isinstance(value, (torch.Tensor, np.ndarray))):
            return False
    return True


def _value(dotted: str, names: Mapping[str, Any]) -> Any:
    """The present value of ``a.b``; None if it cannot be read without running code."""
    first, *rest = dotted.split(".")
    value = names.get(first)
    for part in rest:
        if isinstance(value, nn.Module):
            return value
        value = getattr(value, "__dict__", {}).get(part)
    return value


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one in the same scope."""
    todo = [node]
    while todo:
        current = todo.pop(0)
        yield current
        if current is node or not isinstance(current, _INNER_SCOPES):
            todo.extend(ast.iter_child_nodes(current))


def _loaded(node: ast.AST) -> frozenset[str]:
    """The names that are read, dotted ones (``self.loss``) and those in inner functions included."""
    names = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            names.add(inner.id)
        elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Load):
            names.add(_dotted(inner) or "")
        elif isinstance(inner, ast.AugAssign):
            names.add(_dotted(inner.target) or "")
    return frozenset(names - {""})


def _read_first(statement: ast.stmt) -> frozenset[str]:
    """The names that a statement reads before it assigns them."""
    bodies = list(_bodies(statement))
    if not bodies or isinstance(statement, _INNER_SCOPES):
        return _loaded(statement)
    read: set[str] = set()
    made: set[str] = set()
    for node in ast.iter_child_nodes(statement):
        if not isinstance(node, (ast.stmt, ast.ExceptHandler)):
            read |= _loaded(node)
            made |= _stored(node)
    for body in bodies:
        known = set(made)
        for inner in body:
            read |= _read_first(inner) - known
            known |= _stored(inner)
    return frozenset(read)


def _stored(node: ast.AST) -> frozenset[str]:
    """The names that a statement assigns or changes in place."""
    names = set()
    for inner in _walk(node):
        if isinstance(inner, (ast.Name, ast.Attribute)) and isinstance(inner.ctx, ast.Store):
            names.add(_dotted(inner) or "")
        elif isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store):
            names.add(_dotted(inner.value) or "")
        elif isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(inner.name)
        elif isinstance(inner, ast.alias):
            names.add((inner.asname or inner.name).split(".")[0])
        elif isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and _is_in_place(inner.func.attr):
            names.add(_dotted(inner.func.value) or "")
    return frozenset(names - {""})


def _is_in_place(method: str) -> bool:
    """``tensor.clamp_(0)`` changes the tensor."""
    return method.endswith("_") and not method.endswith("__")


def _dotted(node: ast.expr) -> str | None:
    """``a.b.c`` as text; None for anything but a chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None
