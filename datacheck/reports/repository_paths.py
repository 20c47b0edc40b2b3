"""File names in CI reports: a path or URI relative to the root of the repository.

CI tools know the repository, not the folder in which datacheck ran. Outside a repository the current folder is the root.
"""

from __future__ import annotations

import functools
import os
from urllib.parse import quote

from datacheck.storage.os_calls import local_uri, relative_uri
from datacheck.text import plain


def is_in_repository(path: str) -> bool:
    # On another drive of Windows, it stays absolute.
    shown = _from_root(path)
    return shown.split("/", 1)[0] != os.pardir and not os.path.isabs(shown)  # noqa: PTH117


def path_in_repository(path: str) -> str:
    """The path from the root of the repository, separated by ``/``. A path outside it stays unchanged."""
    shown = _from_root(path) if is_in_repository(path) else path
    return plain(local_uri(shown), 4000)


def to_uri(path: str) -> str:
    """A URI (RFC 3986), relative to the root of the repository, or ``file://`` for a path outside it."""
    if not is_in_repository(path):
        return f"file://{_slash(os.path.abspath(path))}"  # noqa: PTH100
    return _quoted(_from_root(path))


def repository_uri() -> str:
    """The URI of the root of the repository."""
    root = _root_above(os.getcwd())  # noqa: PTH109
    return f"file://{_slash(root).rstrip('/')}/"


def _from_root(path: str) -> str:
    return relative_uri(path, _root_above(os.getcwd()))  # noqa: PTH109


@functools.lru_cache(maxsize=8)
def _root_above(folder: str) -> str:
    root = folder
    while not os.path.lexists(f"{root}/.git"):
        above = os.path.dirname(root)  # noqa: PTH120
        if above == root:
            return folder
        root = above
    return root


def _slash(path: str) -> str:
    """An absolute path, quoted, after ``file://``: a drive of Windows comes after a slash."""
    quoted = _quoted(path)
    return quoted if quoted.startswith("/") else f"/{quoted}"


def _quoted(path: str) -> str:
    # Even colons are quoted: one in the first part would make it a scheme. Names may be any bytes.
    shown = local_uri(path)
    try:
        encoded = os.fsencode(shown)
    except UnicodeEncodeError:
        # A lone surrogate outside the range of fsencode: no file has such a name, but a finding may.
        encoded = shown.encode("utf-8", "surrogatepass")
    return quote(encoded, safe="/")
