"""How a file is named in reports for machines: as a URI, or as a path inside the repository.

Whoever reads them knows the repository and not the folder in it where datacheck ran. Where there is no repository, the current
folder stands for it.
"""

from __future__ import annotations

import functools
import os
from urllib.parse import quote

from datacheck.text import plain

__all__ = ["inside_path", "is_inside", "root_uri", "uri_of"]


def is_inside(path: str) -> bool:
    """Whether a path leads to a place in the repository."""
    return _from_root(path).split(os.sep, 1)[0] != os.pardir


def inside_path(path: str) -> str:
    """The path from the root of the repository, with ``/`` between its parts; as it is for a place outside of it."""
    shown = _from_root(path) if is_inside(path) else path
    return plain(shown.replace(os.sep, "/"), 4000)


def uri_of(path: str) -> str:
    """A URI (RFC 3986): relative to the root of the repository for what is in it, ``file://`` for what is not."""
    if not is_inside(path):
        return f"file://{_quoted(os.path.abspath(path))}"  # noqa: PTH100
    return _quoted(_from_root(path))


def root_uri() -> str:
    """The URI of the root of the repository."""
    root = _root_above(os.getcwd())  # noqa: PTH109
    return f"file://{_quoted(root)}" + ("" if root.endswith("/") else "/")


def _from_root(path: str) -> str:
    return os.path.relpath(path, _root_above(os.getcwd()))  # noqa: PTH109


@functools.lru_cache(maxsize=8)
def _root_above(folder: str) -> str:
    place = folder
    while not os.path.lexists(f"{place}/.git"):
        above = os.path.dirname(place)  # noqa: PTH120
        if above == place:
            return folder
        place = above
    return place


def _quoted(path: str) -> str:
    # Not even a colon stays: a first part with one would be taken for a scheme. Names may be any bytes.
    shown = path.replace(os.sep, "/")
    try:
        encoded = os.fsencode(shown)
    except UnicodeEncodeError:
        # Half of a surrogate pair: no file has such a name, but whoever makes a finding may write one.
        encoded = shown.encode("utf-8", "surrogatepass")
    return quote(encoded, safe="/")
