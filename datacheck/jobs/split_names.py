"""The split that a file belongs to, by its name or its folder's name."""

from __future__ import annotations

import posixpath
import re

_WORDS = r"(train|test|val|dev|eval|holdout)(ing|id|idation|uation)?"
_IN_NAME = re.compile(rf"(?<![a-z]){_WORDS}(?![a-z])")
_FOLDER = re.compile(rf"(?:\w+=)?{_WORDS}")


def split_in_name(uri: str) -> str:
    """The split that the name of a file mentions, such as ``train`` for ``train-00001.parquet``; empty for none."""
    found = _IN_NAME.search(posixpath.basename(uri).lower())
    return found[1] if found else ""


def split_of(uri: str) -> str | None:
    """The split of a file: in its name, or the name of the nearest folder that is called like a split."""
    if named := split_in_name(uri):
        return named
    folders = reversed(posixpath.dirname(uri).lower().split("/"))
    return next((found[1] for folder in folders if (found := _FOLDER.fullmatch(folder))), None)
