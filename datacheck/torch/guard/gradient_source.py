"""Finds what a loop does with gradients between the call that computes them and the update, and compiles it for a replay."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datacheck.torch.diagnosis.program_source import position_of
from datacheck.torch.guard.call_stack import Frame, Place
from datacheck.torch.guard.loop_source import BEGIN_END, LoopCode, Slicer, call
from datacheck.torch.guard.repeatable import may_be_repeated
from datacheck.torch.guard.source_path import SourcePath, contains, path_of
from datacheck.torch.guard.statements import GROWS, dotted, names_read_first, names_stored, value_of

#: Functions and methods that compute gradients.
_COMPUTES = frozenset({"backward", "grad"})


def find_gradient_code(
    gradients: Frame, update: Frame, start: Frame | None, began_after: Place, way: str
) -> LoopCode | None:
    """The code of a function from the beginning of a step over its first call that computes gradients, ``gradients``, to
    its ``update``. Of the statements in between, those that read or change gradients run, and what they need.

    None where there are none, or where one of them may do more than compute.
    """
    path, place = path_of(update), gradients.position
    if path is None or place is None:
        return None
    index = next((number for number, one in enumerate(path.before) if contains(one, place)), None)
    if index is None or isinstance(path.before[index], (ast.For, ast.While)):
        return None
    known = {**update.globals, **update.names}
    statements = _about_gradients(path.before[index + 1 :], known)
    if not statements or not all(_may_run(statement, known) for statement in statements) or _grows(statements, known):
        return None
    to_call = SourcePath(path.before[:index], path.before[index], [one for one in path.around if one[1] <= index])
    first = None if start is None else position_of(start.code, start.offset)
    slicer = Slicer(to_call, gradients, start, first, way=way, given={})
    slicer.skip_before(began_after)
    final = [to_call.at, *statements]
    try:
        if not slicer.choose(_names_read(final, known)):
            return None
        return slicer.compile([*slicer.body(), *final, call(BEGIN_END)], gradients.code)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _about_gradients(statements: Sequence[ast.stmt], known: Mapping[str, Any]) -> list[ast.stmt]:
    """The statements that read or change gradients, and those that give them names, in order."""
    chosen: list[ast.stmt] = []
    wanted: set[str] = set()
    for statement in reversed(statements):
        if (
            any(_is_about_gradients(node, known) for node in ast.walk(statement))
            or names_stored(statement, known) & wanted
        ):
            chosen.insert(0, statement)
            wanted |= names_read_first(statement, known)
    return chosen


def _is_about_gradients(node: ast.AST, known: Mapping[str, Any]) -> bool:
    if isinstance(node, ast.Attribute) and node.attr in _COMPUTES:
        return True
    function = value_of(dotted(node.func) or "", known) if isinstance(node, ast.Call) else None
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and "grad" in code.co_names


def _may_run(statement: ast.stmt, known: Mapping[str, Any]) -> bool:
    return may_be_repeated(statement, known) or all(_computes_gradients(one) for one in _calls(statement))


def _grows(statements: Sequence[ast.stmt], known: Mapping[str, Any]) -> bool:
    """Whether statements add to a list that was there before."""
    names = {
        dotted(node.func.value)
        for one in statements
        for node in _calls(one)
        if isinstance(node.func, ast.Attribute) and node.func.attr in GROWS
    }
    made = {
        name for one in statements if isinstance(one, (ast.Assign, ast.AnnAssign)) for name in names_stored(one, known)
    }
    return not names <= made


def _calls(statement: ast.stmt) -> Iterator[ast.Call]:
    return (node for node in ast.walk(statement) if isinstance(node, ast.Call))


def _computes_gradients(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr in _COMPUTES


def _names_read(statements: Sequence[ast.stmt], known: Mapping[str, Any]) -> frozenset[str]:
    """The names that statements read before one of them assigns them."""
    read: set[str] = set()
    stored: set[str] = set()
    for statement in statements:
        read |= names_read_first(statement, known) - stored
        stored |= names_stored(statement, known)
    return frozenset(read)
