"""The source of code that runs: where an instruction is in it, and whether it was edited since it was imported."""

from __future__ import annotations
import __future__

import ast
import linecache
import time
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

#: Files that were modified later may not be what runs.
_IMPORTED = time.time()
#: The flags of code that future statements set.
_FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class Position(NamedTuple):
    """A place in source code, as of the code objects of Python: lines from 1, columns in bytes from 0."""

    line: int
    end_line: int
    column: int
    end_column: int


def position_of(code: CodeType, offset: int) -> Position | None:
    """The source of an instruction; None where it was not compiled with positions."""
    for number, found in enumerate(code.co_positions()):
        if number == offset // 2:
            line, end_line, column, end_column = found
            if line is None:
                return None
            return Position(line, end_line or line, column or 0, end_column or 0)
    return None


def tree_of(code: CodeType) -> ast.Module | None:
    """The parsed source that code was compiled from; None where its file was edited since, or cannot be parsed."""
    filename = code.co_filename
    try:
        if not _may_have_changed(filename) or _holds(_parse(filename), code):
            return _parse(filename)
        # Edited, and perhaps imported again.
        linecache.checkcache(filename)
        _parse.cache_clear()
        return _parse(filename) if _holds(_parse(filename), code) else None
    except (SyntaxError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=8)
def _parse(filename: str) -> ast.Module:
    return ast.parse("".join(linecache.getlines(filename)))


def _may_have_changed(filename: str) -> bool:
    try:
        return Path(filename).stat().st_mtime > _IMPORTED
    except OSError:
        # The cell of a notebook.
        return False


def _holds(tree: ast.Module, code: CodeType) -> bool:
    """Whether code was compiled from this source."""
    # Code that was compiled by code, as for a cell or by ``exec``, may have the future statements of its compiler.
    found = [compile(tree, code.co_filename, "exec", code.co_flags & _FUTURE, dont_inherit=True)]
    for one in found:
        found.extend(constant for constant in one.co_consts if isinstance(constant, CodeType))
    return code in found
