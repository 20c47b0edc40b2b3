"""Finds the format of a file, by its name or its first bytes: built-in ones, and formats of other packages.

To add a format, add a record to ``format_table.py``, or let another package register one under the entry points
``datacheck.sources``::

    [project.entry-points."datacheck.sources"]
    zarr = "their_package:FORMAT"           # a Format, or a source class with ``suffixes``

    [project.entry-points."datacheck.sinks"]
    zarr = "their_package.sink:ZarrSink"    # where the record names no sink
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from datacheck.errors import UsageError, nearest_name
from datacheck.format_table import BUILT_IN, UNREAD, Format, UnreadFormat

__all__ = [
    "BUILT_IN",
    "UNREAD",
    "Format",
    "UnreadFormat",
    "find_format",
    "format_of_name",
    "get_format",
    "hook_pattern",
    "known_suffixes",
    "load",
    "plugin_formats",
    "recognize",
    "unread_format_of",
    "unread_format_of_name",
]

_PART = re.compile(r"-\d+-of-\d+$")
#: No built-in suffix has more dots.
_MAX_DOTS = 2


@functools.cache
def plugin_formats() -> dict[str, Format]:
    """The formats that other packages register, by name; looked up once, when no built-in format matches."""
    from importlib.metadata import entry_points

    found: dict[str, Format] = {}
    for point in entry_points(group="datacheck.sources"):
        loaded = point.load()
        if not isinstance(loaded, Format):
            # Nothing says that such a source reads one file only, so its verdicts are not remembered.
            path = f"{point.module}:{point.attr}"
            loaded = Format(name=point.name, suffixes=tuple(loaded.suffixes), source=path, is_cacheable=False)
        provider = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        found[point.name] = replace(loaded, name=point.name, provider=provider)
    for point in entry_points(group="datacheck.sinks"):
        record = found.get(point.name, Format(name=point.name))
        found[point.name] = replace(record, sink=record.sink or f"{point.module}:{point.attr}")
    return found


def find_format(name: str) -> Format | None:
    """The format of a name, built-in ones first; None for an unknown name."""
    return BUILT_IN.get(name) or plugin_formats().get(name)


def get_format(name: str) -> Format:
    """The format of a name; raises ``UsageError`` for an unknown one."""
    if record := find_format(name):
        return record
    known = sorted(record.name for record in _all_formats())
    raise UsageError(f"unknown format {name!r}{nearest_name(name, known)}; known formats: {', '.join(known)}")


def format_of_name(uri: str) -> Format | None:
    """The format that the suffix of a file's name stands for; None where it occurs for none."""
    return _built_in_of_name(uri) or _first_of_suffix(_bare_name(uri), plugin_formats().values())


@functools.lru_cache(maxsize=4096)  # called several times a file
def _built_in_of_name(uri: str) -> Format | None:
    return _built_in_of_suffix(".".join(("", *_bare_name(uri).rsplit(".", _MAX_DOTS)[1:])))


def _bare_name(uri: str) -> str:
    """The name of a file in lower case, without the query of a URL and the number of a part."""
    if "?" in uri and uri.startswith(("http://", "https://")):
        uri = uri.partition("?")[0]
    name = uri[uri.rfind("/") + 1 :].lower()
    # Beam and TensorFlow number the parts of a file after its suffix.
    return _PART.sub("", name) if "-of-" in name else name


@functools.lru_cache(maxsize=256)
def _built_in_of_suffix(suffix: str) -> Format | None:
    return _first_of_suffix(suffix, BUILT_IN.values())


def _first_of_suffix(name: str, formats: Iterable[Format]) -> Format | None:
    return next((one for one in formats if one.suffixes and name.endswith(one.suffixes)), None)


def recognize(uri: str, head: bytes) -> Format | None:
    """The built-in format of a file by its first bytes."""
    for record in BUILT_IN.values():
        if (record.needs_recognition and not record.shares_suffix) or (
            record.magic and not head.startswith(record.magic)
        ):
            continue
        if load(record.recognizer)(uri, head) if record.recognizer else record.magic:
            return record
    return None


def is_one_array(uri: str) -> bool:
    """Whether the name of a file says a format with a single array, such as ``.npy``."""
    record = format_of_name(uri)
    return record is not None and record.is_one_array


def unread_format_of_name(name: str) -> UnreadFormat | None:
    """The recognized format without a source that a name stands for."""
    bare = _bare_name(name)
    return next((one for one in UNREAD if bare.endswith(one.suffixes)), None)


def unread_format_of(name: str, head: bytes) -> UnreadFormat | None:
    """The recognized format without a source that a file is of, by its first bytes or else by its name."""
    by_magic = (one for one in UNREAD if one.magic and head.startswith(one.magic))
    return next(by_magic, None) or unread_format_of_name(name)


def known_suffixes() -> list[str]:
    """The suffixes of all formats: the usual one of each, then the others."""
    usual = [suffix for record in _all_formats() for suffix in record.suffixes[:1]]
    others = [suffix for record in _all_formats() for suffix in record.suffixes[1:]]
    return list(dict.fromkeys([*usual, *others]))


def hook_pattern() -> str:
    """The pattern of the files that a hook of pre-commit checks: formats that a suffix tells, and DVC pointers.

    Most text files hold prose, and most JSON files hold settings: a hook leaves them alone. A file with the suffix of a folder
    is a part of a dataset that cannot be read alone, so only pointers to such folders are checked.
    """
    chosen = [record for record in BUILT_IN.values() if not record.needs_recognition]
    files, folders = (
        "|".join(
            sorted({re.escape(suffix[1:]) for one in chosen if bool(one.folder) is kind for suffix in one.suffixes})
        )
        for kind in (False, True)
    )
    return rf"(?i)\.(({files})(-\d+-of-\d+)?(\.dvc)?|({folders})\.dvc)$"


def load(path: str) -> Any:
    """Import what a dotted path ``package.module:name`` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _all_formats() -> Iterator[Format]:
    """Built-in formats first; plugins are looked up only if the caller gets that far."""
    yield from BUILT_IN.values()
    yield from plugin_formats().values()
