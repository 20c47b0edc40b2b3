"""File names in CI reports: a path or URI relative to the root of the repository.

CI tools know the repository, not the folder in which datacheck ran. Outside a repository the current folder is the root.
"""

from __future__ import annotations

import functools
import os
from urllib.parse import quote

from datacheck.text import plain

__all__ = ["is_in_repository", "path_in_repository", "repository_uri", "to_uri"]


def is_in_repository(path: str) -> bool:
    return _from_root(path).split(os.sep, 1)[0] != os.pardir


def path_in_repository(path: str) -> str:
    """The path from the root of the repository, separated by ``/``. A path outside it stays unchanged."""
    shown = _from_root(path) if is_in_repository(path) else path
    return plain(shown.replace(os.sep, "/"), 4000)


def to_uri(path: str) -> str:
    """A URI (RFC 3986), relative to the root of the repository, or ``file://`` for a path outside it."""
    if not is_in_repository(path):
        return f"file://{_quoted(os.path.abspath(path))}"  # noqa: PTH100
    return _quoted(_from_root(path))


def repository_uri() -> str:
    """The URI of the root of the repository."""
    root = _root_above(os.getcwd())  # noqa: PTH109
    return f"file://{_quoted(root)}" + ("" if root.endswith("/") else "/")


def _from_root(path: str) -> str:
    return os.path.relpath(path, _root_above(os.getcwd()))  # noqa: PTH109


@functools.lru_cache(maxsize=8)
def _root_above(folder: str) -> str:
    root = folder
    while not os.path.lexists(f"{root}/.git"):
        above = os.path.dirname(root)  # noqa: PTH120
        if above == root:
            return folder
        root = above
    return root


def _quoted(path: str) -> str:
    # Even colons are quoted: one in the first part would make it a scheme. Names may be any bytes.
    shown = path.replace(os.sep, "/")
    try:
        encoded = os.fsencode(shown)
    except UnicodeEncodeError:
        # A lone surrogate outside the range of fsencode: no file has such a name, but a finding may.
        encoded = shown.encode("utf-8", "surrogatepass")
    return quote(encoded, safe="/")
