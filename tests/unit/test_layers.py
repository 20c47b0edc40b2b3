"""The rooms of the project and what each may import."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent.parent / "datacheck"

#: The level of every room: a module or a package right under ``datacheck``.
LEVELS = {
    "_version": 0,
    "arrow_compute": 0,
    "arrow_layouts": 0,
    "arrow_leaves": 0,
    "batch": 0,
    "codes": 0,
    "distinct": 0,
    "errors": 0,
    "findings": 0,
    "index_counts": 0,
    "format_table": 0,
    "formats": 1,
    "leaves": 0,
    "row_spread": 0,
    "schema": 0,
    "text": 0,
    "numerics": 1,
    "sources": 1,
    "storage": 1,
    "exact_moments": 1,
    "exact_sums": 1,
    "hashing": 2,
    "dataset_rules": 2,
    "checks": 2,
    "cleaning": 3,
    "reports": 3,
    "sinks": 3,
    "publishing": 3,
    "gate": 4,
    "jobs": 4,
    "profile": 4,
    "torch": 5,
    "lightning": 6,
    "transformers": 6,
    "accelerate": 6,
    "composer": 6,
    "fastai": 6,
    "sklearn": 6,
    "integrations": 5,
    "cli": 6,
    "__main__": 7,
}
#: Rooms of one level that may import each other. Level 0 is one room with several doors.
SIBLINGS = {
    ("gate", "jobs"),
    ("gate", "profile"),
    ("profile", "jobs"),
    ("publishing", "reports"),
    ("dataset_rules", "checks"),
    ("dataset_rules", "hashing"),
    ("publishing", "sinks"),
    ("sources", "numerics"),
    ("sources", "formats"),
    ("sources", "storage"),
}
#: What the training door may use, for it must work where there is no job: up to a level, and the reports and repairs,
#: which doors share.
HIGHEST_FOR_TORCH = 2
SHARED = {"cleaning", "reports"}
#: Libraries that cost time or need an extra: imported inside the function that needs them.
HEAVY = {
    "datasketches", "huggingface_hub", "obstore", "pandas", "pandera", "polars", "ray", "safetensors", "scipy", "sklearn",
    "torch",
}  # fmt: skip
#: Rooms whose reason to exist is such a library; nothing else imports them before it is asked to.
ROOMS_OF_HEAVY = {"torch", "integrations"}

#: The longest function and the longest file that a reader still takes in, in lines.
MAX_FUNCTION, MAX_FILE = 60, 450

MODULES = sorted(PACKAGE.rglob("*.py"))
#: The public names come from every level, lazily.
MODULES_IN_ROOMS = [path for path in MODULES if path.parent != PACKAGE or path.name != "__init__.py"]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a tree, ``package.name`` for a name imported from a package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the import with its full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(tree: ast.AST) -> set[str]:
    """The rooms that a tree imports from; the version, which is a constant, is not in a room."""
    dotted = (name.split(".") for name in imported_names(tree))
    return {parts[1] for parts in dotted if parts[0] == "datacheck" and len(parts) > 1}


def imports_at_once(tree: ast.Module) -> Iterator[ast.stmt]:
    """The imports that run when the module is imported: not those in functions or under ``TYPE_CHECKING``."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def is_allowed(room: str, imported: str) -> bool:
    if room == imported or (LEVELS[room] == LEVELS[imported] == 0) or (room, imported) in SIBLINGS:
        return True
    if room in ROOMS_OF_HEAVY:
        return LEVELS[imported] <= HIGHEST_FOR_TORCH or imported in SHARED
    return LEVELS[imported] < LEVELS[room]


@pytest.mark.parametrize("path", MODULES_IN_ROOMS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_its_own_level_or_below(path: Path) -> None:
    room = room_of(path)
    rooms = imported_rooms(ast.parse(path.read_text(encoding="utf-8")))
    assert room in LEVELS, f"{room} has no level: give it one in LEVELS"
    assert rooms <= set(LEVELS), "imports a room without a level"
    assert [other for other in sorted(rooms) if not is_allowed(room, other)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text, name = path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix()
    lengths = {name: (text.count("\n"), MAX_FILE)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lengths[f"{name}:{node.name}"] = ((node.end_lineno or 0) - node.lineno + 1, MAX_FUNCTION)
    assert [place for place, (length, most) in lengths.items() if length > most] == []


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_files_import_each_other() -> None:
    """Imports in functions and for types count too. A ``CycleError`` names the circle."""
    trees = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    graph = {
        module: {name if name in trees else name.rpartition(".")[0] for name in imported_names(tree)} & trees.keys()
        for module, tree in trees.items()
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_only_where_they_are_needed(path: Path) -> None:
    at_once = imports_at_once(ast.parse(path.read_text(encoding="utf-8")))
    libraries = {name.partition(".")[0] for node in at_once for name in imported_names(node)}
    room = room_of(path)
    assert libraries & HEAVY <= ({"torch"} if room in ROOMS_OF_HEAVY else {"sklearn"} if room == "sklearn" else set())


@pytest.mark.parametrize("statement", ["import datacheck", "import datacheck.cli"])
def test_importing_loads_no_heavy_library(statement: str, run_python: Callable[[str], str]) -> None:
    loaded = json.loads(run_python(f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"))
    assert "datacheck" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_the_public_names_are_sorted_and_can_be_reached(run_python: Callable[[str], str]) -> None:
    program = "import datacheck, json; print(json.dumps([(n, hasattr(datacheck, n)) for n in datacheck.__all__]))"
    names = json.loads(run_python(program))
    assert [name for name, reachable in names if not reachable] == []
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("room", "imported", "allowed"),
    [
        ("jobs", "sinks", True),
        ("sinks", "jobs", False),
        ("publishing", "sinks", True),
        ("sinks", "publishing", False),
        ("publishing", "jobs", False),
        ("findings", "codes", True),
        ("schema", "numerics", False),
        ("sources", "numerics", True),
        ("numerics", "sources", False),
        ("torch", "checks", True),
        ("torch", "reports", True),
        ("torch", "cleaning", True),
        ("torch", "sinks", False),
        ("cli", "torch", True),
    ],
)
def test_the_rule_of_levels(room: str, imported: str, allowed: bool) -> None:
    assert is_allowed(room, imported) is allowed


def test_imports_inside_functions_count_as_imports_of_a_room() -> None:
    tree = ast.parse("def later():\n    from datacheck.cli import main\n")
    assert imported_rooms(tree) == {"cli"}
    assert list(imports_at_once(tree)) == []


def test_imports_under_a_try_or_in_a_class_run_at_once() -> None:
    tree = ast.parse(
        "try:\n    import torch\nfinally:\n    pass\nclass C:\n    import pandas\n    def f(self): import ray\n"
    )
    assert {name for node in imports_at_once(tree) for name in imported_names(node)} == {"torch", "pandas"}
