# A path stays as the user wrote it; pathlib would rewrite it.
# ruff: noqa: PTH112, PTH114, PTH116, PTH118, PTH119, PTH120, PTH206, PTH208
"""From the paths that a user wrote to the files that they stand for, always in the same order."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from datacheck.errors import UsageError, nearest_name
from datacheck.formats import format_of_name, known_suffixes
from datacheck.sources.base import ReadOptions
from datacheck.text import plain

__all__ = ["InputFile", "expand_inputs"]

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read, named as the user wrote it or joined to the folder that he wrote, and how to read it."""

    uri: str
    options: ReadOptions = field(default_factory=ReadOptions)


def expand_inputs(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    options: ReadOptions | None = None,
) -> list[InputFile]:
    """The files that files, folders and globs stand for, each once, in the order of ``paths``.

    A folder stands for every file below it whose suffix is known; names that begin with ``.`` or ``_`` are left out,
    and so are links that lead back. A glob may use ``**``; what it matches is taken whether its suffix is known or not,
    unless its last part says nothing about names. Folders named ``key=value`` right above a file add columns to a
    table.
    Raises ``UsageError`` for a path that stands for nothing.
    """
    written = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: dict[str, InputFile] = {}
    for path in written:
        for uri in _expand(os.fspath(path)):
            key = os.path.normpath(uri)
            if key not in found:
                found[key] = _input_file(uri, options or ReadOptions())
    return list(found.values())


def _input_file(uri: str, options: ReadOptions) -> InputFile:
    record = format_of_name(uri)
    if record is not None and record.is_tabular and (partitions := _partitions(uri)):
        options = replace(options, partitions=partitions)
    return InputFile(uri, options)


def _partitions(uri: str) -> tuple[tuple[str, str], ...]:
    """What the ``key=value`` folders right above a file say, outermost first."""
    pairs: list[tuple[str, str]] = []
    for part in reversed(os.path.dirname(uri).split(os.sep)):
        key, separator, value = part.partition("=")
        if not (key and separator):
            break
        pairs.append((unquote(key), unquote(value)))
    return tuple(reversed(pairs))


def _expand(path: str) -> list[str]:
    if not path or "\0" in path:
        raise UsageError("an input path is empty or holds a zero byte; name a file, a folder or a glob")
    if os.path.isdir(path):
        files = [uri for uri in _walk(path, _above(path)) if _is_wanted(uri)]
        if not files:
            known = " ".join(known_suffixes())
            raise UsageError(f"{plain(path)}: the folder has no file of a known format; known suffixes: {known}")
        return files
    if os.path.lexists(path) or os.path.lexists(f"{path}.dvc"):
        return [path]
    if _SCHEME.match(path):
        raise UsageError(f"{plain(path)}: only files of this machine are read; copy it here, or mount it")
    if glob.has_magic(path):
        return _expand_glob(path)
    raise UsageError(f"{plain(path)}: no such file or folder{_nearest(path)}")


def _expand_glob(pattern: str) -> list[str]:
    root, parts = (
        (os.sep, pattern.lstrip(os.sep).split(os.sep)) if pattern.startswith(os.sep) else ("", pattern.split(os.sep))
    )
    matches = sorted(set(_match(root, [part for part in parts if part])), key=_order)
    selective = parts[-1].strip("*?") != ""
    seen: set[tuple[int, int]] = set()
    files: list[str] = []
    for match in matches:
        if os.path.isdir(match):
            # A matched link to a folder that holds it leads back, too.
            seen |= _above(match) | _holding(os.path.dirname(match))
            files += [uri for uri in _walk(match, seen) if _is_wanted(uri)]
        elif selective or _is_wanted(match):
            files.append(match)
    files = list(dict.fromkeys(files))
    if not files:
        raise UsageError(f"{plain(pattern)}: nothing matches{_nearest(_fixed_part(parts, root))}")
    return files


def _match(folder: str, parts: list[str]) -> Iterator[str]:
    """Paths below ``folder`` that match the parts of a glob."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        for inner in _folders(folder, _above(folder)):
            yield from _match(inner, rest or ["*"])
    elif not glob.has_magic(part):
        path = os.path.join(folder, part)
        if os.path.lexists(path):
            yield from _match(path, rest)
    else:
        for name in _names(folder):
            hidden = name.startswith((".", "_")) and not part.startswith(name[0])
            if (
                not hidden
                and fnmatch.fnmatchcase(name, part)
                and (not rest or os.path.isdir(os.path.join(folder, name)))
            ):
                yield from _match(os.path.join(folder, name), rest)


def _folders(root: str, seen: set[tuple[int, int]]) -> list[str]:
    """``root`` and every folder below it, none twice.

    Links are followed last, so that a folder goes by its own name where it has one here.
    """
    found: list[str] = []
    folders: list[str] = [root]
    links: list[str] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if not _enter(folder, seen):
            continue
        found.append(folder)
        for name in _names(folder):
            path = os.path.join(folder, name)
            if not name.startswith((".", "_")) and os.path.isdir(path):
                (links if os.path.islink(path) else folders).append(path)
    return found


def _walk(folder: str, seen: set[tuple[int, int]]) -> list[str]:
    """Every file in ``folder`` and below it whose name does not begin with ``.`` or ``_``."""
    paths = (
        os.path.join(inner, name)
        for inner in _folders(folder, seen)
        for name in _names(inner)
        if not name.startswith((".", "_"))
    )
    return sorted((path for path in paths if not os.path.isdir(path)), key=_order)


def _above(folder: str) -> set[tuple[int, int]]:
    """The folders that hold ``folder``: a link to one of them leads back."""
    seen: set[tuple[int, int]] = set()
    path = os.path.realpath(folder or os.curdir)
    while (parent := os.path.dirname(path)) != path:
        # A folder that may not even be looked at leads nowhere.
        with suppress(UsageError):
            _enter(parent, seen)
        path = parent
    return seen


def _holding(folder: str) -> set[tuple[int, int]]:
    seen = _above(folder)
    _enter(folder, seen)
    return seen


def _enter(folder: str, seen: set[tuple[int, int]]) -> bool:
    try:
        status = os.stat(folder or os.curdir)
    except OSError as error:
        raise UsageError(
            f"{plain(folder)}: the folder cannot be looked at ({error.strerror}); check its permissions"
        ) from None
    key = (status.st_dev, status.st_ino)
    if key in seen:
        return False
    seen.add(key)
    return True


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or os.curdir))
    except OSError as error:
        raise UsageError(
            f"{plain(folder)}: the folder cannot be listed ({error.strerror}); check its permissions"
        ) from None


def _is_wanted(uri: str) -> bool:
    """Whether a file of a folder is an input: its suffix is known, or it is the DVC pointer of one that is missing."""
    if uri.endswith(".dvc"):
        data = uri.removesuffix(".dvc")
        return format_of_name(data) is not None and not os.path.lexists(data)
    return format_of_name(uri) is not None


def _order(path: str) -> list[str]:
    return path.split(os.sep)


def _fixed_part(parts: list[str], root: str) -> str:
    fixed = []
    for part in parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return os.path.join(root, *fixed) if fixed else root


def _nearest(path: str) -> str:
    """A hint at the name nearest to the first part of ``path`` that does not exist."""
    while path and not os.path.lexists(path):
        parent = os.path.dirname(path.rstrip(os.sep))
        if parent == path:
            return ""
        if not parent or os.path.isdir(parent):
            try:
                return nearest_name(os.path.basename(path.rstrip(os.sep)), sorted(os.listdir(parent or os.curdir)))
            except OSError:
                return ""
        path = parent
    return ""
