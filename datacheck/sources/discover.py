"""Expands the paths that a user wrote into files, always in the same order."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import posixpath
import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from datacheck.errors import SourceError, UsageError, nearest_name
from datacheck.findings import Finding
from datacheck.formats import Format, format_of_name, known_suffixes, load, recognize, unread_format_of_name
from datacheck.sources.base import ReadOptions
from datacheck.sources.dataset_folders import dataset_folder, set_aside
from datacheck.sources.label_files import Images
from datacheck.sources.probe import HEAD_BYTES
from datacheck.sources.recognizers import is_list_of_names
from datacheck.sources.skipped_files import is_companion, is_counted, is_counted_folder, skipped_finding
from datacheck.storage.base import Entry, Storage, StoreError
from datacheck.storage.object_uri import hide_secrets
from datacheck.storage.os_calls import local_uri
from datacheck.storage.registry import LOCAL, known_schemes, storage_of
from datacheck.text import join_fitting, plain

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read, under the name that the user wrote or below the folder that the user wrote, and how to read it.

    ``format`` is the format of a file whose name does not say it, because an index does; empty if name and content say it.
    """

    uri: str
    options: ReadOptions = field(default_factory=ReadOptions)
    format: str = ""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files that paths stand for, and what else lies in their folders.

    Attributes:
        files: each once, in the order of the paths.
        skipped: for each folder or glob as written, what it contains that may hold data but is not an input.
        folders: the entries of every folder that was searched.
        listed: the folders with a log or an index that named their files.
        labels: the findings on the label files of images; None if they were not looked into.
    """

    files: Sequence[InputFile]
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folders: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    listed: Collection[str] = ()
    labels: Sequence[Finding] | None = None


def expand_inputs(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    options: ReadOptions | None = None,
) -> list[InputFile]:
    """Expand files, folders and globs into files, each once, in the order of ``paths``: see :func:`discover`."""
    return list(discover(paths, options).files)


def discover(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    options: ReadOptions | None = None,
) -> Inputs:
    """Find the files that paths, folders and globs stand for.

    A folder means every file below it with a known suffix; names that begin with ``.`` or ``_`` are skipped, and so
    are links that lead back. A folder that is one dataset (a Zarr store) is one input, and one with a log or an index (a
    Delta table) stands for the files that it names. A glob may use ``**``; every file that it matches is taken, whatever
    its suffix, unless its last part matches any name. Folders named
    ``key=value`` right above a file add columns to a table.
    Raises ``UsageError`` for a path that matches nothing.
    """
    written = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    search = _Search()
    found: dict[str, InputFile] = {}
    options = options or ReadOptions()  # one object, so that what follows from it is worked out once
    for path in written:
        path = hide_secrets(os.fspath(path))
        try:
            for uri in _expand(local_uri(path), search):
                for file in _input_files(uri, options, search.datasets.get(uri)):
                    found.setdefault(posixpath.normpath(file.uri), file)
        except StoreError as error:
            raise UsageError(f"{plain(path)}: {plain(error.strerror or str(error), 600)}") from None
    skipped = {
        root: [path for path in paths if posixpath.normpath(path) not in found]
        for root, paths in search.skipped.items()
    }
    skipped = {root: paths for root, paths in skipped.items() if paths}
    return Inputs(list(found.values()), skipped, search.folders, list(search.datasets))


def common_folder(uris: Sequence[str]) -> str:
    """The folder that files have in common; the file itself if there is one."""
    if len(uris) == 1:
        return uris[0]
    pairs = zip(min(uris).split("/")[:-1], max(uris).split("/")[:-1], strict=False)
    return "/".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)) or "."


def skipped_findings(inputs: Inputs) -> list[Finding]:
    """One note for each folder or glob with files that may hold data and were not checked."""
    return [skipped_finding(root, paths) for root, paths in inputs.skipped.items()]


@dataclass(slots=True)
class _Search:
    """What a search for inputs came across.

    ``datasets`` are folders that are one dataset each, with their format; ``aside`` are those with rows that a run took out.
    """

    skipped: dict[str, list[str]] = field(default_factory=dict)
    folders: dict[str, Sequence[Entry]] = field(default_factory=dict)
    datasets: dict[str, Format] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)

    def wanted(self, storage: Storage, root: str, uris: Iterable[str]) -> list[str]:
        """The files and datasets below ``root`` that are inputs; the others are noted as skipped."""
        wanted: list[str] = []
        uris = list(uris)
        images = Images.of(uris if any(uri.endswith(".txt") for uri in uris) else ())
        names = {posixpath.basename(stem) for stem in images.stems}
        for uri in uris:
            is_text = bool(names) and uri.endswith(".txt")
            is_label = is_text and images.of_label(uri) is not None
            if uri in self.datasets or (
                not is_label and _is_wanted(storage, uri) and not (is_text and is_list_of_names(uri, names))
            ):
                wanted.append(uri)
            elif uri.endswith("/") or is_counted(posixpath.basename(uri)):
                self.skipped.setdefault(root, []).append(uri)
        return wanted


def _input_files(uri: str, options: ReadOptions, dataset: Format | None) -> list[InputFile]:
    """The input of a path; of a dataset with a log, the files that it names."""
    if dataset is not None:
        # Where the log cannot be read, the folder stands for itself: reading it says why.
        with suppress(SourceError):
            return (
                list(load(dataset.lister)(uri, options)) if dataset.lister else [InputFile(uri, options, dataset.name)]
            )
    record = format_of_name(uri)
    if record is not None and record.is_tabular and (partitions := _partitions(uri)):
        options = replace(options, partitions=partitions)
    if record is not None and record.is_sample:
        options = replace(options, rows="file")
    return [InputFile(uri, options, dataset.name if dataset is not None else "")]


def _partitions(uri: str) -> tuple[tuple[str, str], ...]:
    """The columns that the ``key=value`` folders right above a file add, outermost first."""
    pairs: list[tuple[str, str]] = []
    for part in reversed(posixpath.dirname(uri).split("/")):
        key, separator, value = part.partition("=")
        if not (key and separator):
            break
        pairs.append((unquote(key), unquote(value)))
    return tuple(reversed(pairs))


def _expand(path: str, search: _Search) -> list[str]:
    if not path or "\0" in path:
        raise UsageError("an input path is empty or contains a zero byte; name a file, a folder or a glob")
    storage = storage_of(path)
    if is_folder(storage, path):
        files = search.wanted(storage, path, _paths_below(storage, path, _keys_above(storage, path), search))
        skipped = search.skipped.get(path, [])
        if not files and (unread := [one.rstrip("/") for one in skipped if _is_unread(one)]):
            # Each is a finding that says how to convert it.
            return unread
        if not files:
            only = f" ({skipped_finding(path, skipped).detail})" if skipped else ""
            known = join_fitting(known_suffixes())
            raise UsageError(f"{plain(path)}: the folder has no file of a known format{only}; known suffixes: {known}")
        return files
    if storage.exists(path) or storage.exists(f"{path}.dvc"):
        return [path]
    scheme = _SCHEME.match(path)
    if scheme and storage is LOCAL:
        raise UsageError(
            f"{plain(path)}: unknown scheme{nearest_name(scheme[0], [f'{one}://' for one in known_schemes()])};"
            f" files are read from this machine and from {', '.join(f'{one}://' for one in known_schemes())}"
        )
    # The question mark of a URL begins its query.
    if glob.has_magic(path.partition("?")[0] if path.startswith(("http://", "https://")) else path):
        return _expand_glob(storage, path, scheme[0] if scheme else "/" if path.startswith("/") else "", search)
    if path == "-":
        raise UsageError("-: standard input cannot be read; save it to a file, and pass the name of the file")
    if storage is LOCAL:
        _check_lookup(path)
    raise UsageError(f"{plain(path)}: no such file or folder{_suggestion(storage, path)}")


def _is_unread(path: str) -> bool:
    """Whether a file or a folder is of a format that is known and has no source."""
    return unread_format_of_name(path.rstrip("/")) is not None


def _check_lookup(path: str) -> None:
    """Raise ``UsageError`` where it is unknown whether a local path exists."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        what = "; check the permissions of its folders" if isinstance(error, PermissionError) else ""
        raise UsageError(f"{plain(path)}: cannot be looked up ({error.strerror}){what}") from None


def _expand_glob(storage: Storage, pattern: str, root: str, search: _Search) -> list[str]:
    parts = [part for part in pattern[len(root) :].split("/") if part]
    # In a storage, the search begins where the first wildcard is: there may be nothing to list above it.
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part)) if "://" in root else 0
    start = posixpath.join(root, *parts[:fixed])
    matches = sorted(set(_match(storage, start, parts[fixed:], search)), key=_order)
    is_selective = parts[-1].strip("*?") != "" and not pattern.endswith("/")
    seen: set[Hashable] = set()
    files: list[str] = []
    for match in matches:
        if match in search.datasets:
            files.append(match)
        elif is_folder(storage, match):
            # A matched link to a folder that holds it leads back, too.
            parent = posixpath.dirname(match)
            seen |= _keys_above(storage, match) | _keys_above(storage, parent) | {_key(storage, parent)}
            files += search.wanted(storage, pattern, _paths_below(storage, match, seen, search))
        else:
            files += [match] if is_selective else search.wanted(storage, pattern, [match])
    files = list(dict.fromkeys(files))
    if not files:
        raise UsageError(
            f"{plain(pattern)}: no file matches this pattern{_suggestion(storage, _fixed_part(parts, root))}"
        )
    return files


def _match(storage: Storage, folder: str, parts: list[str], search: _Search) -> Iterator[str]:
    """Paths below ``folder`` that match the parts of a glob."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        for inner, _ in _walk(storage, folder, _keys_above(storage, folder), search):
            if inner in search.datasets:
                yield inner
            else:
                yield from _match(storage, inner, rest or ["*"], search)
    elif not glob.has_magic(part):
        path = posixpath.join(folder, part)
        if storage.exists(path):
            yield from _match(storage, path, rest, search)
    else:
        entries = _list(storage, folder)
        aside = set_aside(storage, folder, entries)
        for entry in entries:
            is_hidden = entry.name.startswith((".", "_")) and not part.startswith(entry.name[0])
            is_match = fnmatch.fnmatchcase(entry.name, part) and (not rest or entry.is_folder)
            if is_match and not is_hidden and entry.name not in aside:
                yield from _match(storage, posixpath.join(folder, entry.name), rest, search)


def _walk(storage: Storage, root: str, seen: set[Hashable], search: _Search) -> list[tuple[str, Sequence[Entry]]]:
    """``root`` and every folder below it with what is in it, none twice; a dataset has nothing in it.

    Links are followed last, so that a folder goes by its own name if it has one here.
    """
    found: list[tuple[str, Sequence[Entry]]] = []
    folders: list[str] = [root]
    links: list[str] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        key = _key(storage, folder)
        if key in seen:
            continue
        seen.add(key)
        entries = _list(storage, folder)
        if (dataset := dataset_folder(storage, folder, entries)) is not None:
            search.datasets[folder] = dataset
            found.append((folder, ()))
            continue
        search.folders[folder] = entries
        found.append((folder, entries))
        aside = set_aside(storage, folder, entries)
        search.aside |= {posixpath.join(folder, name) for name in aside if name != "ledger"}
        for entry in entries:
            if entry.is_folder and _is_searched(entry.name) and entry.name not in aside:
                (links if entry.is_link else folders).append(posixpath.join(folder, entry.name))
    return found


def _is_searched(name: str) -> bool:
    """Whether the files of a folder are inputs: it is not hidden, and not one array or table of a format of its own."""
    if name.startswith((".", "_")):
        return False
    unread = unread_format_of_name(name)
    return unread is None or not unread.is_folder


def _paths_below(storage: Storage, folder: str, seen: set[Hashable], search: _Search) -> list[str]:
    """Every file in ``folder`` and below it, every dataset, and, with a slash at the end, folders that are not searched."""
    paths: list[str] = []
    for inner, entries in _walk(storage, folder, seen, search):
        if inner in search.datasets:
            paths.append(inner)
        for entry in entries:
            path = posixpath.join(inner, entry.name)
            if not entry.is_folder:
                paths.append(path)
            elif path in search.aside or (
                not _is_searched(entry.name)
                and (is_counted_folder(entry.name) or not entry.name.startswith((".", "_")))
            ):
                paths.append(f"{path}/")
    return sorted(paths, key=_order)


def _keys_above(storage: Storage, folder: str) -> set[Hashable]:
    """The keys of the folders that hold ``folder``: a link to one of them leads back."""
    keys: set[Hashable] = set()
    path = storage.resolve(folder or os.curdir)
    while (parent := posixpath.dirname(path)) != path:
        # A folder that cannot be read leads nowhere.
        with suppress(UsageError):
            keys.add(_key(storage, parent))
        path = parent
    return keys


def _key(storage: Storage, folder: str) -> Hashable:
    try:
        return storage.folder_key(folder)
    except OSError as error:
        raise UsageError(f"{plain(folder)}: cannot read the folder ({error.strerror}); check its permissions") from None


def _list(storage: Storage, folder: str) -> Sequence[Entry]:
    try:
        return storage.list(folder)
    except OSError as error:
        raise UsageError(f"{plain(folder)}: cannot list the folder ({error.strerror}); check its permissions") from None


def is_folder(storage: Storage, path: str) -> bool:
    """Whether a path exists and is a folder."""
    try:
        return storage.stat(path).kind == "folder"
    except StoreError:
        raise
    except (OSError, ValueError):
        return False


def _is_wanted(storage: Storage, uri: str) -> bool:
    """Whether a file of a folder is an input: its suffix is known, or it is the DVC pointer of one that is missing.

    Hidden files and folders are none.
    """
    if uri.endswith("/") or posixpath.basename(uri).startswith((".", "_")):
        return False
    if uri.endswith(".dvc"):
        data = uri.removesuffix(".dvc")
        return format_of_name(data) is not None and not storage.exists(data)
    record = format_of_name(uri)
    if record is None or not record.needs_recognition:
        return record is not None
    if is_companion(posixpath.basename(uri)):
        return False
    return bool(load(record.recognizer)(uri, b"")) or (record.shares_suffix and _is_of_other_format(storage, uri))


def _is_of_other_format(storage: Storage, uri: str) -> bool:
    """Whether the first bytes of a file with a shared suffix belong to a format that has others: weights in a ``.bin``."""
    try:
        with storage.open(uri) as file:
            found = recognize(uri, file.read_at(0, HEAD_BYTES))
    except OSError:
        return False
    return found is not None and not found.shares_suffix


def _order(path: str) -> list[str]:
    return path.split("/")


def _fixed_part(parts: list[str], root: str) -> str:
    """The folders of a glob before its first wildcard."""
    fixed = []
    for part in parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return posixpath.join(root, *fixed) if fixed else root


def _suggestion(storage: Storage, path: str) -> str:
    """A hint at the name nearest to the first part of ``path`` that does not exist."""
    while path and not storage.exists(path):
        parent = posixpath.dirname(path.rstrip("/"))
        if parent == path or ("://" in path and "://" not in parent):
            return ""
        if not parent or is_folder(storage, parent):
            try:
                names = [entry.name for entry in storage.list(parent)]
            except OSError:
                return ""
            return nearest_name(posixpath.basename(path.rstrip("/")), names)
        path = parent
    return ""
