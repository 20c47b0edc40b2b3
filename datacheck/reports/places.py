"""How a file is named in reports for machines: as a URI, or as a path inside the repository."""

from __future__ import annotations

import os
from urllib.parse import quote

from datacheck.text import plain

__all__ = ["folder_uri", "inside_path", "is_inside", "uri_of"]


def is_inside(path: str) -> bool:
    """Whether a path leads to a place in the current folder or below it."""
    return not _from_here(path).startswith(os.pardir)


def inside_path(path: str) -> str:
    """The path from the current folder, with ``/`` between its parts; as it is for a place outside of it."""
    shown = _from_here(path) if is_inside(path) else path
    return plain(shown.replace(os.sep, "/"), 4000)


def uri_of(path: str) -> str:
    """A URI (RFC 3986): relative to the current folder for what is in it, ``file://`` for what is not."""
    if not is_inside(path):
        return f"file://{_quoted(os.path.abspath(path))}"  # noqa: PTH100
    return _quoted(_from_here(path))


def folder_uri() -> str:
    """The URI of the current folder."""
    here = os.getcwd()  # noqa: PTH109
    return f"file://{_quoted(here)}" + ("" if here.endswith("/") else "/")


def _from_here(path: str) -> str:
    return os.path.relpath(path) if os.path.isabs(path) else os.path.normpath(path)  # noqa: PTH117


def _quoted(path: str) -> str:
    # Not even a colon stays: a first part with one would be taken for a scheme. Names may be any bytes.
    shown = path.replace(os.sep, "/")
    try:
        encoded = os.fsencode(shown)
    except UnicodeEncodeError:
        # Half of a surrogate pair: no file has such a name, but whoever makes a finding may write one.
        encoded = shown.encode("utf-8", "surrogatepass")
    return quote(encoded, safe="/")
