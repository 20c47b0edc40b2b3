"""The source of the program: the expression that called an operation, and the statements around it."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from datacheck.torch.diagnosis.program_source import Position, tree_of

#: The function that a replay of a loop is compiled to, from source that was compared then.
REPLAYED = "__datacheck_loop__"
#: The variables of the program at the expression.
Namespace = Mapping[str, Any]
#: How many lines after the one at fault may have to be rewritten in its place.
MAX_LINES = 12


class Source:
    """A file of the program, parsed."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.lines: list[str] = linecache.getlines(filename)
        self._tree = ast.parse("".join(self.lines))
        self._parents = {child: node for node in ast.walk(self._tree) for child in ast.iter_child_nodes(node)}
        self._found: dict[Position, ast.AST | None] = {}

    @classmethod
    def of(cls, code: CodeType) -> Source | None:
        """The source of code; None where it cannot be read or parsed, or was edited since."""
        try:
            if not code.co_qualname.startswith(REPLAYED) and tree_of(code) is None:
                return None
            source = cls(code.co_filename)
        except (SyntaxError, ValueError, RecursionError):
            return None
        return source if source.lines else None

    def node_at(self, position: Position) -> ast.AST | None:
        """The node of a call or an operator that an instruction was compiled from."""
        if position not in self._found:
            self._found[position] = self._find(position)
        return self._found[position]

    def _find(self, position: Position) -> ast.AST | None:
        line, end_line, column, end_column = position
        ends: list[ast.AST] = [
            node
            for node in ast.walk(self._tree)
            if isinstance(node, ast.expr | ast.AugAssign)
            and (node.end_lineno, node.end_col_offset) == (end_line, end_column)
        ]
        for node in ends:
            if isinstance(node, ast.expr | ast.AugAssign) and (node.lineno, node.col_offset) == (line, column):
                return node
        # A method called on a line of its own starts there for the compiler.
        return next((node for node in ends if isinstance(node, ast.Call)), None)

    def parents(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around a node, innermost first."""
        parent = self._parents.get(node)
        while parent is not None:
            yield parent
            parent = self._parents.get(parent)

    def statement(self, node: ast.AST) -> ast.stmt:
        """The statement that a node is a part of."""
        if isinstance(node, ast.stmt):
            return node
        return next(parent for parent in self.parents(node) if isinstance(parent, ast.stmt))

    def scope(self, node: ast.AST) -> ast.AST | None:
        """The function that a node is in."""
        return next((p for p in self.parents(node) if isinstance(p, ast.FunctionDef | ast.AsyncFunctionDef)), None)

    def needs_parentheses(self, node: ast.AST, replacement: ast.expr) -> bool:
        """Whether a replacement with operators stands where a call or a part of an operation was."""
        if not isinstance(replacement, ast.BinOp | ast.UnaryOp) or self._is_in_parentheses(node):
            return False
        if isinstance(node, ast.BinOp) and isinstance(replacement, ast.BinOp) and type(node.op) is type(replacement.op):
            return False
        return isinstance(self._parents.get(node), ast.BinOp | ast.UnaryOp | ast.Attribute | ast.Subscript)

    def _is_in_parentheses(self, node: ast.AST) -> bool:
        (line, column), (end_line, end_column) = _span(node)
        before, after = self.lines[line - 1].encode()[:column], self.lines[end_line - 1].encode()[end_column:]
        return before.endswith(b"(") and after.startswith(b")")

    def definition(self, name: ast.Name) -> ast.expr | None:
        """The value last assigned to a local name before it is read, where nothing that it reads has changed since."""
        scope = self.scope(name)
        if scope is None:
            return None
        before = [node for node in ast.walk(scope) if isinstance(node, ast.stmt) and node.lineno < name.lineno]
        assigned = [node for node in before if name.id in _names_assigned(node)]
        last = max(assigned, key=lambda node: node.lineno, default=None)
        if not isinstance(last, ast.Assign) or not isinstance(last.targets[0], ast.Name):
            return None
        read = {inner.id for inner in ast.walk(last.value) if isinstance(inner, ast.Name)}
        changed = any(node.lineno >= last.lineno and read & _names_assigned(node) for node in before)
        return None if changed else last.value

    def text(self, node: ast.AST, replacements: Sequence[tuple[ast.AST, str]]) -> str:
        """The source of an expression or statement with nodes of it replaced, without indentation.

        Of a compound statement (``if``, ``for``, a decorated function) the lines of the replaced nodes.
        """
        start, end = _span(node)
        if hasattr(node, "body") and isinstance(node, ast.stmt) and replacements:
            spans = [_span(inner) for inner, _ in replacements]
            first, last = min(span[0][0] for span in spans), max(span[1][0] for span in spans)
            line = self.lines[first - 1]
            start, end = (first, len(line) - len(line.lstrip())), (last, len(self.lines[last - 1].encode()))
        lines = [line.rstrip("\n").encode() for line in self.lines[start[0] - 1 : end[0]]]
        indent = start[1]
        lines[-1] = lines[-1][: end[1]]
        for inner, text in sorted(replacements, key=lambda entry: _span(entry[0])[0], reverse=True):
            (first, column), (last, end_column) = _span(inner)
            head, tail = lines[first - start[0]][:column], lines[last - start[0]][end_column:]
            lines[first - start[0] : last - start[0] + 1] = [head + text.encode() + tail]
        lines[0] = lines[0][indent:]
        rest = [line[indent:] if not line[:indent].strip() else line for line in lines[1:]]
        return b"\n".join([lines[0], *rest]).decode()


def _names_assigned(node: ast.stmt) -> set[str]:
    """The names that a simple statement, or the header of a compound one, assigns."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For):
        targets = [node.target]
    elif isinstance(node, ast.With):
        targets = [item.optional_vars for item in node.items if item.optional_vars is not None]
    return {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}


def _span(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    assert isinstance(node, ast.expr | ast.stmt)
    return (node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0)


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """An expression in a file of the program, and the variables that it can read."""

    source: Source
    node: ast.AST
    names: Namespace = field(default_factory=dict)

    def around(self) -> Iterator[Expression]:
        """This expression, then the ones around it in the same statement."""
        yield self
        for parent in self.source.parents(self.node):
            if isinstance(parent, ast.AugAssign):
                yield Expression(self.source, parent, self.names)
            if isinstance(parent, ast.stmt | ast.comprehension | ast.Lambda):
                return
            if isinstance(parent, ast.expr):
                yield Expression(self.source, parent, self.names)

    def later(self) -> Iterator[Expression]:
        """The calls and operators in the statements after this one, in the same function."""
        scope = self.source.scope(self.node)
        if scope is not None and isinstance(self.node, ast.expr):
            end = self.source.statement(self.node).end_lineno or 0
            for node in ast.walk(scope):
                if isinstance(node, ast.Call | ast.BinOp) and end < node.lineno <= end + MAX_LINES:
                    yield Expression(self.source, node, self.names)
