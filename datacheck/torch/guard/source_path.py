"""The way through a function's source to the place that it is at."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType

from datacheck.torch.diagnosis.program_source import Position, tree_of
from datacheck.torch.guard.call_stack import Frame
from datacheck.torch.guard.statements import INNER_SCOPES, bodies_of, names_read, names_stored

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module


@dataclass(slots=True)
class SourcePath:
    """The statements before a place, outermost block first, and the one at it.

    ``around`` are the compound statements around the place, each with how many of the statements come before it.
    """

    before: list[ast.stmt]
    at: ast.stmt
    around: list[tuple[ast.stmt, int]]

    def outside(self, missing: set[str], changed: set[str]) -> SourcePath | None:
        """The way to the innermost loop that gives one of these names its values; None where there is no such loop.

        Nor is there one where the loop has ``changed`` what it gave: what it would give again is not what it was.
        """
        for number in range(len(self.around) - 1, -1, -1):
            loop, num_before = self.around[number]
            given = names_stored(loop.target, {}) & missing if isinstance(loop, ast.For) else set()
            if given:
                return None if given & changed else SourcePath(self.before[:num_before], loop, self.around[:number])
        return None


def path_of(frame: Frame) -> SourcePath | None:
    """The way to where a function is; None where its source is missing."""
    place = frame.position
    try:
        tree = tree_of(frame.code)
        scope = None if tree is None else _scope_of(tree, frame.code)
        return None if scope is None or place is None else _find_path(scope.body, place)
    except (SyntaxError, ValueError, RecursionError):
        return None


def edited_file(frames: Sequence[Frame]) -> str | None:
    """The file of one of these functions that was edited after it was imported."""
    return next((frame.code.co_filename for frame in frames if tree_of(frame.code) is None), None)


def _scope_of(tree: ast.Module, function: CodeType) -> _Scope | None:
    if function.co_name == "<module>":
        return tree if tree.body else None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == function.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == function.co_firstlineno:
                return node
    return None


def contains(node: ast.AST, place: Position) -> bool:
    """Whether a node's source contains a place."""
    start = (node.lineno, node.col_offset)  # type: ignore[attr-defined]
    stop = (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
    return start <= (place.line, place.column) and (place.end_line, place.end_column) <= stop


def _find_path(body: Sequence[ast.stmt], place: Position) -> SourcePath | None:
    path = SourcePath([], ast.Pass(), [])
    while True:
        index = next((index for index, statement in enumerate(body) if contains(statement, place)), None)
        if index is None:
            return path if not isinstance(path.at, ast.Pass) else None
        path.before.extend(body[:index])
        path.at = body[index]
        if isinstance(path.at, INNER_SCOPES):
            return None
        inside = [inner for inner in bodies_of(path.at) if any(contains(statement, place) for statement in inner)]
        if not inside:
            return path
        path.around.append((path.at, len(path.before)))
        body = inside[0]


def last_statement(statement: ast.stmt, place: Position) -> ast.stmt:
    """The statement with the call; of a compound one, the expression in its head."""
    if not any(True for _ in bodies_of(statement)):
        return statement
    heads = [node for node in ast.iter_child_nodes(statement) if isinstance(node, (ast.expr, ast.withitem))]
    for head in heads:
        expression = head.context_expr if isinstance(head, ast.withitem) else head
        if contains(expression, place):
            return ast.copy_location(ast.Expr(expression), expression)
    raise ValueError("no expression at the call")


def _owners(path: SourcePath) -> list[ast.stmt]:
    return [*(statement for statement, _ in path.around), path.at]


def is_in_loop(frame: Frame) -> bool:
    """Whether a function is inside a loop of its own, so that it may have begun before the step."""
    if frame.code.co_name == "<lambda>":
        return False
    path = path_of(frame)
    return path is None or any(isinstance(one, (ast.For, ast.While)) for one in _owners(path))


def names_tested(frame: Frame) -> Sequence[str]:
    """The names that a function reads where it is, and in the conditions under which it came there."""
    path = path_of(frame)
    if path is None:
        return ()
    tests = [statement.test for statement in _owners(path) if isinstance(statement, (ast.If, ast.While))]
    read = [names_read(node) for node in [*tests, path.at]]
    return sorted({name for names in read for name in names if "." not in name and name in frame.names})
