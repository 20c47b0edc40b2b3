"""Path patterns in ``.gitignore`` syntax: ``*.csv``, ``raw/``, ``data/**/part-*.parquet``, ``!keep.csv``."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Sequence

from datacheck.storage.os_calls import local_uri, relative_uri
from datacheck.text import plain


class PathPatterns:
    """Matches paths against patterns that are relative to a folder.

    A pattern without a slash matches names at any depth. A pattern that matches a folder matches everything in it. A
    pattern may start with the absolute path of the folder, or with ``./``.
    """

    def __init__(self, patterns: Sequence[str], root: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(root)
        self._spec = None
        self._patterns = patterns
        if patterns:
            from pathspec import GitIgnoreSpec

            prefixes = {local_uri(os.path.abspath(root)), local_uri(self._root), "."} - {"/"}  # noqa: PTH100
            self._spec = GitIgnoreSpec.from_lines(_strip_prefix(pattern, prefixes) for pattern in patterns)

    def match(self, path: str) -> bool:
        """Whether a path matches. It is absolute or relative to the current folder; a folder's path ends with ``/``."""
        if self._spec is None:
            return False
        return self._spec.match_file(relative_to(path, self._root) + ("/" if path.endswith("/") else ""))

    def pattern_of(self, path: str) -> str | None:
        """The pattern that decides that the path of a file matches; None if it does not."""
        found = None if self._spec is None else self._spec.check_file(relative_to(path, self._root))
        return self._patterns[found.index] if found is not None and found.include and found.index is not None else None


def pattern_problem(pattern: str) -> str | None:
    """An error message for a pattern that is invalid or can match nothing; None for a valid one."""
    from pathspec import GitIgnoreSpec

    try:
        matches = any(part.include is not None for part in GitIgnoreSpec.from_lines([pattern]).patterns)
    except (ValueError, re.error):
        matches = False
    return None if matches else f"{plain(pattern)!r} is not a valid .gitignore pattern, or matches nothing"


def _strip_prefix(pattern: str, prefixes: Collection[str]) -> str:
    negation, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    for prefix in prefixes:
        if body.startswith(f"{prefix}/"):
            return negation + body.removeprefix(prefix)
    return pattern


def relative_to(path: str, root: str) -> str:
    """The path relative to ``root``, separated by ``/``. A path outside it is absolute."""
    if "://" in path:
        return path
    # A link keeps its own name, which is the one in the repository.
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
    absolute = os.path.join(_real_folder(folder), name)  # noqa: PTH118
    relative = relative_uri(absolute, root)
    return local_uri(absolute) if relative.split("/", 1)[0] == os.pardir else relative


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
