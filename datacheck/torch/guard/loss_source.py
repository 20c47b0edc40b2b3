"""The statements of a user's loop that make the loss, found in its source and compiled to be run once more.

Of the block that calls the model and then ``backward``, those statements are taken that the loss depends on, each where its
inputs are still what they were when it ran. Statements that only log, count or print are left out. Line numbers stay those
of the file, so that whatever looks at the run names the user's own lines.
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

#: The name that the loss is left under.
RESULT = "__datacheck_loss__"
#: Calls that begin a backward pass, on the loss or with it.
BACKWARD = frozenset({"backward", "manual_backward"})

#: Libraries whose functions compute, and do nothing else.
LIBRARIES = frozenset({"math", "numpy", "torch"})

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module
_INNER_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class LossCode:
    """Code that leaves the loss under :data:`RESULT`, and the names that it reads from the loop."""

    code: CodeType
    inputs: frozenset[str]


@dataclass(slots=True)
class _Block:
    """One list of statements on the way down to a line, and which of them the line is in."""

    statements: Sequence[ast.stmt]
    index: int
    withs: tuple[ast.With, ...]


def find_loss_code(
    function: CodeType, model_line: int | None, last_line: int, names: Mapping[str, Any]
) -> LossCode | None:
    """The code of the loss in ``function``, which calls the model in ``model_line`` and stands in ``last_line`` now.

    ``names`` are those of the loop, as they are now. Where no call of the model is known, the last backward pass before
    ``last_line`` is taken. None where the source is not there or not of a shape that this understands.
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
    """The blocks that a line is in, the outermost first."""
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
    """The statement that goes backward, at or after the one that calls the model, and the loss in it."""
    for index in range(block.index, len(block.statements)):
        loss = _loss_in(block.statements[index])
        if loss is not None:
            # Where both are further in, an inner block has been tried before, or does not hold both.
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
    """The loss of a statement that goes backward."""
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


def _compile(
    block: _Block, backward: int, loss: ast.expr, last_line: int, filename: str, names: Mapping[str, Any]
) -> LossCode:
    ran = [statement for statement in block.statements if statement.lineno <= last_line]
    chosen, inputs = _slice(
        block.statements[:backward], [_stored(statement) for statement in ran], _loaded(loss), names
    )
    target = ast.Name(RESULT, ast.Store())
    body: list[ast.stmt] = [*chosen, ast.copy_location(ast.Assign([target], loss), loss)]
    for statement in reversed(block.withs):
        # Of what the loop stands in, only autocast changes what the statements compute.
        if any("autocast" in ast.unparse(item.context_expr) for item in statement.items):
            body = [ast.copy_location(ast.With(statement.items, body), statement)]
    module = ast.fix_missing_locations(ast.Module(body, []))
    return LossCode(compile(module, filename, "exec"), frozenset(inputs))


def _slice(
    statements: Sequence[ast.stmt],
    stores: Sequence[frozenset[str]],
    needed: frozenset[str],
    names: Mapping[str, Any],
) -> tuple[list[ast.stmt], set[str]]:
    wanted = set(needed)
    candidates = set()
    # An error may have ended the loop before the backward pass.
    for index in range(min(len(statements), len(stores)) - 1, -1, -1):
        if stores[index] & wanted:
            candidates.add(index)
            wanted |= _read_first(statements[index])
    chosen: list[ast.stmt] = []
    produced: set[str] = set()
    inputs: set[str] = set()
    is_model_called = False
    for index in sorted(candidates):
        loaded = _loaded(statements[index])
        is_model_called = is_model_called or any(isinstance(_value(name, names), nn.Module) for name in loaded)
        loads = _read_first(statements[index]) - produced
        # A name that is given another value later does not hold what this statement read: the present value of what it
        # made has to do.
        is_overtaken = any(loads & later for later in stores[index:])
        if is_overtaken or not (is_model_called or _only_computes(statements[index], produced, names)):
            continue
        chosen.append(statements[index])
        inputs |= loads
        produced |= stores[index]
    inputs |= needed - produced
    return chosen, {name for name in inputs if "." not in name}


def _only_computes(statement: ast.stmt, produced: set[str], names: Mapping[str, Any]) -> bool:
    """Whether a statement before the model's call does arithmetic only: ``next(batches)`` must not be run again.

    One that gives things another name makes nothing, and what it names is best known by that name.
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
            # A constant, or the result of an expression that is looked at itself.
            continue
        value = names.get(root.id)
        is_library = isinstance(value, ModuleType) and value.__name__.split(".")[0] in LIBRARIES
        is_part = is_indexed and isinstance(value, (Mapping, list, tuple))
        if not (root.id in produced or is_library or is_part or isinstance(value, (torch.Tensor, np.ndarray))):
            return False
    return True


def _value(dotted: str, names: Mapping[str, Any]) -> Any:
    """What ``a.b`` is now; None where that is not known without running code."""
    first, *rest = dotted.split(".")
    value = names.get(first)
    for part in rest:
        if isinstance(value, nn.Module):
            return value
        value = getattr(value, "__dict__", {}).get(part)
    return value


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes under one that belong to the same scope."""
    todo = [node]
    while todo:
        current = todo.pop(0)
        yield current
        if current is node or not isinstance(current, _INNER_SCOPES):
            todo.extend(ast.iter_child_nodes(current))


def _loaded(node: ast.AST) -> frozenset[str]:
    """The names that are read, and the dotted ones (``self.loss``); those of inner functions too."""
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
    """The names that a statement reads before it gives them a value itself."""
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
    """The names that a statement gives a value, or changes in place."""
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
    """``a.b.c`` as text; None for what is no chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None
