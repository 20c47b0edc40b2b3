"""Patterns of paths, as ``.gitignore`` has them: ``*.csv``, ``raw/``, ``data/**/part-*.parquet``, ``!keep.csv``."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Sequence

from datacheck.text import plain

__all__ = ["PathPatterns", "pattern_problem", "relative_to"]


class PathPatterns:
    """Says whether paths match patterns, which are relative to a folder.

    A pattern without a slash matches names at any depth; one that matches a folder matches everything below it. One that
    begins with the whole path of the folder is meant from there.
    """

    def __init__(self, patterns: Sequence[str], root: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(root)
        self._spec = None
        if patterns:
            from pathspec import GitIgnoreSpec

            prefixes = {os.path.abspath(root), self._root} - {os.sep}  # noqa: PTH100
            self._spec = GitIgnoreSpec.from_lines(_from_folder(pattern, prefixes) for pattern in patterns)

    def match(self, path: str) -> bool:
        """Whether a path, which is relative to the current folder or absolute, matches."""
        return self._spec is not None and self._spec.match_file(relative_to(path, self._root))


def pattern_problem(pattern: str) -> str | None:
    """What is wrong with a pattern; None where nothing is. One that can match nothing is a mistake as well."""
    from pathspec import GitIgnoreSpec

    try:
        matches = any(part.include is not None for part in GitIgnoreSpec.from_lines([pattern]).patterns)
    except (ValueError, re.error):
        matches = False
    return None if matches else f"{plain(pattern)!r} is no pattern of paths as in .gitignore, and matches nothing"


def _from_folder(pattern: str, prefixes: Collection[str]) -> str:
    negation, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    for prefix in prefixes:
        if body.startswith(f"{prefix}/"):
            return negation + body.removeprefix(prefix)
    return pattern


def relative_to(path: str, root: str) -> str:
    """A path as it is written from ``root``, with ``/`` between its parts; absolute where it lies elsewhere."""
    # The name of a link counts, not where it leads: that is what stands in the repository.
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
    absolute = os.path.join(_real_folder(folder), name)  # noqa: PTH118
    relative = os.path.relpath(absolute, root)
    lies_elsewhere = relative.split(os.sep, 1)[0] == os.pardir
    return (absolute if lies_elsewhere else relative).replace(os.sep, "/")


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
