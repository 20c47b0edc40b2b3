"""Finds the code of a user's loop from the beginning of a step to a call of backward, and compiles it for a replay.

The statements on the way to the call are taken from the source, as far as the call depends on them. A statement is run
again where that is needed (its result held a graph) or safe (it only computes); else the value that it left stands in its
place. Line numbers stay those of the file, so a recording of the replay names the user's own lines.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from datacheck.torch.diagnosis.fixes.source import REPLAYED
from datacheck.torch.diagnosis.program_source import Position, position_of
from datacheck.torch.guard.call_stack import GRAPH, Frame, Graph, Place
from datacheck.torch.guard.loop_items import Item
from datacheck.torch.guard.repeatable import (
    calls_with,
    draws_numbers,
    holds_any,
    holds_hidden_graph,
    is_data,
    may_be_repeated,
    only_computes,
    only_moves,
)
from datacheck.torch.guard.source_path import SourcePath, contains, last_statement, path_of
from datacheck.torch.guard.statements import (
    bodies_of,
    line_storing,
    names_mutated,
    names_read_first,
    names_stored,
    value_of,
)

#: The function that is compiled, the values that statements left, and what is called before the last statement.
FUNCTION, KEPT, BEGIN_END = REPLAYED, "__datacheck_kept__", "__datacheck_begin_end__"


@dataclass(frozen=True, slots=True)
class Taken:
    """A name whose value is taken as a statement left it, and that statement's line."""

    name: str
    filename: str
    line: int
    value: Any


@dataclass(slots=True)
class LoopCode:
    """Code that does again what the loop did.

    ``inputs`` are the names that it reads from the loop, with their values. ``taken`` are the ones that it does not
    compute again although the loop did, except where the loop only moved them. ``results`` are the loop's values of the
    names that it computes again. ``constants`` are the names that it reads and that were there before the step. ``changes``
    are the lines of statements that it runs since code that they call may change a batch in place, and ``is_partial`` says
    that it leaves some of them out.
    """

    code: CodeType
    inputs: dict[str, Any]
    taken: list[Taken] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    constants: frozenset[str] = frozenset()
    changes: tuple[int, ...] = ()
    is_partial: bool = False


def find_loop_code(
    end: Frame,
    start: Frame | None,
    began_after: Place = (),
    *,
    way: str = "",
    last: Sequence[str] | None = None,
    item: Item | None = None,
    changed: frozenset[int] = frozenset(),
) -> LoopCode | None:
    """The code of a function from the beginning of a step to the call that it is at in ``end``.

    ``start`` is the same function at the first call of the model in the step, where that is known, and ``began_after`` where
    the program was before the step. The ``way`` "helpers" also runs functions of the user's again whose values could be taken;
    "draws" takes random numbers as they were drawn. With ``last``, the code evaluates these names and stops before the call.
    ``item`` gives the targets of a loop the values that the loop has changed since, and ``changed`` are the storages that may
    have been changed in place since the step began. Returns None where the source is missing
    or a value that is needed is gone.
    """
    path, place = path_of(end), end.position
    first = None if start is None else position_of(start.code, start.offset)
    while path is not None and place is not None:
        slicer = Slicer(path, end, start, first, way=way, given={} if item is None else item.values, changed=changed)
        slicer.skip_before(began_after)
        try:
            # What each of several values was made from is gone: their loop runs again as a whole.
            final = (
                []
                if last is not None
                else [path.at if isinstance(path.at, ast.For) else last_statement(path.at, place)]
            )
            needed = frozenset(last) if last is not None else names_read_first(final[0], {})
            if not slicer.choose(needed):
                path = path.outside(slicer.missing, slicer.changed)
                continue
            body = [*slicer.body(), call(BEGIN_END), *final]
            if last is not None:
                body.append(call(BEGIN_END, ast.Tuple([ast.Name(name, ast.Load()) for name in last], ast.Load())))
            return slicer.compile(body, end.code)
        except (SyntaxError, ValueError, RecursionError):
            return None
    return None


def call(name: str, *args: ast.expr) -> ast.stmt:
    """A statement that calls a function of the replay."""
    return ast.Expr(ast.Call(ast.Name(name, ast.Load()), list(args), []))


class Slicer:
    """Chooses, from the call backwards, which statements run again and which are replaced by what they left."""

    def __init__(
        self,
        path: SourcePath,
        end: Frame,
        start: Frame | None,
        first: Position | None,
        *,
        way: str,
        given: Mapping[str, Any],
        changed: frozenset[int] = frozenset(),
    ) -> None:
        self._statements = path.before
        loops = [number for owner, number in path.around if isinstance(owner, (ast.For, ast.While))]
        self._is_in_loop = bool(loops)
        #: Statements before any loop ran before the step, so what they left is what the step began with.
        self._num_before_step = loops[0] if loops else 0
        #: Those before the innermost loop ran before its current round.
        self._num_in_loop = loops[-1] if loops else 0
        self._end, self._start = end, start
        self._known = {**end.globals, **end.names}
        self._stores = [names_stored(statement, self._known) for statement in self._statements]
        self._mutated = [names_mutated(statement, self._known) for statement in self._statements]
        self._way = way
        self._given = given
        #: The statement in which the model is called first; what stood in a variable then is known.
        self._first_call = None
        if first is not None:
            inside = (index for index, one in enumerate(self._statements) if contains(one, first))
            # Where it is called by the last statement itself, all of the statements were over.
            self._first_call = next(inside, len(self._statements) if contains(path.at, first) else None)
        #: What loops that begin after that call give values to: then, their variables were from the step before.
        self._late_targets = {
            name
            for owner, number in path.around
            if isinstance(owner, ast.For) and self._first_call is not None and number > self._first_call
            for name in names_stored(owner.target, {})
        }
        self._again: list[int] = []
        self._kept: dict[int, dict[str, Any]] = {}
        self._taken: list[Taken] = []
        self._initial: dict[str, Any] = {}
        #: Names whose values are gone, and those whose objects the statements change in place.
        self.missing: set[str] = set()
        self.changed: set[str] = set().union(*self._mutated)
        #: Statements that call code which may change a batch in place: those that run again, and whether one does not.
        self._changing = {
            number for number, one in enumerate(self._statements) if changed and self._may_change(one, number, changed)
        }
        self._changes: list[int] = []
        self._is_partial = False

    def skip_before(self, began_after: Place) -> None:
        """Take what statements left that ran before the step."""
        offset = next((offset for code, offset in began_after if code == id(self._end.code)), None)
        place = None if offset is None else position_of(self._end.code, offset)
        end = self._end.position
        if place is None or end is None or (place.line, place.column) > (end.line, end.column):
            # A place behind the call is one of an earlier run of the function, or an earlier round of the loop.
            return
        ended = [(one.end_lineno or one.lineno) < place.line for one in self._statements]
        number = next((number for number, has_ended in enumerate(ended) if not has_ended), len(ended))
        if self._is_in_loop:
            # In a loop, this round may not have reached the next statement either.
            at = self._statements[number] if number < len(ended) else None
            if (
                at is None
                or number < self._num_in_loop
                or isinstance(at, (ast.If, ast.For, ast.While, ast.Try, ast.Match))
            ):
                return
        self._num_before_step = number

    def choose(self, needed: frozenset[str]) -> bool:
        """Choose statements that give the names in ``needed`` their values; false where a value is gone."""
        wanted = set(needed)
        for index in range(len(self._statements) - 1, -1, -1):
            statement, stored = self._statements[index], self._stores[index] & wanted
            changes = index in self._changing and index >= self._num_before_step
            if changes and not stored:
                wanted |= self._run_again_if_possible(index)
            if not stored:
                continue
            kept = self._values_left(index, stored)
            reads = names_read_first(statement, self._known)
            lost = {name for name in reads if self._is_lost(name, index)}
            can_run = not lost
            if can_run and (kept is None or self._should_run(index, kept)):
                self._again.append(index)
                if changes:
                    self._changes.append(statement.lineno)
                if not any(True for _ in bodies_of(statement)):
                    wanted -= stored
                wanted |= reads
            elif kept is not None:
                self._kept[index] = kept
                wanted -= stored
                if index >= self._num_before_step and not only_moves(statement, self._known):
                    self._taken.extend(
                        Taken(name, self._end.code.co_filename, line_storing(name, statement, self._known), value)
                        for name, value in kept.items()
                    )
            else:
                self.missing = lost
                return False
        return self._take_initial(wanted)

    def _may_change(self, statement: ast.stmt, index: int, storages: frozenset[int]) -> bool:
        """Whether a statement calls code, other than the libraries', with what may hold one of the storages."""
        rebound = set().union(*self._stores[index + 1 :])
        return calls_with(statement, self._known, lambda name, value: name in rebound or holds_any(value, storages))

    def _run_again_if_possible(self, index: int) -> frozenset[str]:
        """Run a statement for what it may change; returns what it reads."""
        statement = self._statements[index]
        reads = names_read_first(statement, self._known)
        if not may_be_repeated(statement, self._known) or any(self._is_lost(name, index) for name in reads):
            self._is_partial = True
            return frozenset()
        self._again.append(index)
        self._changes.append(statement.lineno)
        return reads

    def _should_run(self, index: int, kept: Mapping[str, Any]) -> bool:
        """Whether to run a statement again although what it left is known."""
        statement = self._statements[index]
        if index < self._num_before_step or not self._can_make_again(index):
            return False
        if isinstance(statement, ast.FunctionDef):
            # What it reads is then known, so that other values of a batch can take its place.
            return not any(isinstance(node, ast.Nonlocal) for node in ast.walk(statement))
        if not all(map(is_data, kept.values())):
            return False
        if self._way == "helpers" or index in self._changing:
            return may_be_repeated(statement, self._known)
        if self._way == "draws" and draws_numbers(statement):
            return False
        return only_computes(statement, self._known)

    def _can_make_again(self, index: int) -> bool:
        """Whether what a statement reads is known, or can be made again without fetching or changing anything."""
        for name in names_read_first(self._statements[index], self._known):
            made = next((number for number in range(index - 1, -1, -1) if name in self._stores[number]), None)
            if made is None:
                if self._is_lost(name, index):
                    return False
                continue
            if self._values_left(made, frozenset({name})) is not None:
                continue
            if not may_be_repeated(self._statements[made], self._known) or not self._can_make_again(made):
                return False
        return True

    def _values_left(self, index: int, names: frozenset[str]) -> dict[str, Any] | None:
        """The values that a statement gave to names, where they are all known."""
        found = {}
        for name in names:
            value = self._value_after(index, name)
            if isinstance(value, Graph) or holds_hidden_graph(value):
                return None
            found[name] = value
        return found

    def _value_after(self, index: int, name: str) -> Any:
        first = self._first_call
        # A variable has the value of the next moment at which the variables are known.
        if first is not None and index < first and "." not in name and not self._is_stored(name, index + 1, first):
            later = any(name in mutated for mutated in self._mutated[first:])
            if self._start is not None and name in self._start.names and not later:
                return self._start.names[name]
        if self._end.is_past or self._is_stored(name, index + 1, len(self._statements)):
            return GRAPH
        root = name.split(".")[0]
        return value_of(name, self._known) if root in self._known else GRAPH

    def _is_stored(self, name: str, start: int, stop: int) -> bool:
        return any(name in stored for stored in self._stores[start:stop])

    def _is_lost(self, name: str, index: int) -> bool:
        """Whether what a statement read has changed since, and no statement before it restores it."""
        if self._is_stored(name, 0, index) or name in self._given:
            return False
        if any(name in mutated for mutated in self._mutated):
            return True
        # Of variables it is known what they were then, of the attributes of an object only what they are.
        stop = self._first_call if self._start is not None and "." not in name else None
        return self._is_stored(name, index, len(self._statements) if stop is None else stop)

    def _take_initial(self, names: set[str]) -> bool:
        """The values from before the first statement."""
        # What super() reads.
        names = names | ({"__class__"} & self._known.keys())
        at_start = self._start is not None and self._first_call is not None
        for name in names:
            if "." in name:
                continue
            if name in self._given:
                value = self._given[name]
            elif at_start and self._start is not None and name in self._start.names and name not in self._late_targets:
                value = self._start.names[name]
            elif name in self._known:
                value = self._known[name]
            else:
                # A builtin, a variable of a comprehension, or one that is not assigned on the way that was taken.
                continue
            if at_start and isinstance(value, Graph) and name not in self._late_targets:
                value = GRAPH if value.value is None else value.value
            if not isinstance(value, Graph):
                self._initial[name] = value
            elif not self._is_stored(name, 0, len(self._statements)):
                self.missing.add(name)
        return not self.missing

    def body(self) -> list[ast.stmt]:
        """The statements to run, in order."""
        body: list[ast.stmt] = []
        for index, statement in enumerate(self._statements):
            if index in self._again:
                body.append(statement)
            for name in self._kept.get(index, {}):
                if "." in name:
                    continue
                key = ast.Tuple([ast.Constant(index), ast.Constant(name)], ast.Load())
                value = ast.Subscript(ast.Name(KEPT, ast.Load()), key, ast.Load())
                body.append(ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), statement))
        return body

    def compile(self, body: list[ast.stmt], function: CodeType) -> LoopCode | None:
        if any(isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await)) for one in body for node in ast.walk(one)):
            return None
        body = [_ForFunction(function).visit(copy.deepcopy(statement)) for statement in body]
        stored = {name for statement in body for name in names_stored(statement, self._known) if "." not in name} - {
            FUNCTION
        }
        declared: list[ast.stmt] = [ast.Global(sorted(stored))] if stored else []
        arguments = ast.arguments([], [], None, [], [], None, [])
        definition = ast.FunctionDef(FUNCTION, arguments, [*declared, *body], [])
        first = min((statement.lineno for statement in body if hasattr(statement, "lineno")), default=1)
        definition.lineno = definition.end_lineno = first
        definition.col_offset = definition.end_col_offset = 0
        module = ast.fix_missing_locations(ast.Module([definition], []))
        code = compile(module, function.co_filename, "exec")
        kept = {(index, name): value for index, values in self._kept.items() for name, value in values.items()}
        before = {name for index, values in self._kept.items() if index < self._num_before_step for name in values}
        return LoopCode(
            code,
            {**self._initial, KEPT: kept},
            self._taken,
            self._results(),
            frozenset(before),
            tuple(sorted(self._changes)),
            self._is_partial,
        )

    def _results(self) -> dict[str, Any]:
        """What the loop got for the names that are computed again, as far as it is known."""
        found = {}
        for index in self._again:
            for name in self._stores[index]:
                value = self._value_after(index, name)
                if (
                    not isinstance(value, Graph)
                    and "." not in name
                    and not self._is_stored(name, index + 1, len(self._statements))
                ):
                    found[name] = value
        return found


class _ForFunction(ast.NodeTransformer):
    """Makes statements from the middle of a method fit into a function of their own."""

    def __init__(self, function: CodeType) -> None:
        self._self = function.co_varnames[0] if function.co_argcount else None
        owner = function.co_qualname.rpartition(".")[0].rpartition(".")[2]
        self._owner = owner.lstrip("_") if owner and owner != "<locals>" else None
        self._num_loops = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args and self._self is not None:
            node.args = [ast.Name("__class__", ast.Load()), ast.Name(self._self, ast.Load())]
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if self._owner and node.attr.startswith("__") and not node.attr.endswith("__"):
            node.attr = f"_{self._owner}{node.attr}"
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        return node if node.value is None else ast.copy_location(ast.Assign([node.target], node.value), node)

    def _leave(self, node: ast.stmt) -> ast.stmt:
        return node if self._num_loops else ast.copy_location(ast.Return(None), node)

    def visit_Break(self, node: ast.Break) -> ast.stmt:
        return self._leave(node)

    def visit_Continue(self, node: ast.Continue) -> ast.stmt:
        return self._leave(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        return self._visit_loop(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        return self._visit_loop(node)

    def _visit_loop(self, node: ast.For | ast.While) -> ast.AST:
        self._num_loops += 1
        self.generic_visit(node)
        self._num_loops -= 1
        return node
