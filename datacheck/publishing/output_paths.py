"""Which outputs may be written, and the names of parts."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Hashable, Iterable, Iterator

from datacheck.errors import OutputError
from datacheck.storage import storage_of
from datacheck.text import plain

_STEM_LIMIT = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def safe_part_name(uri: str, unit_index: int) -> str:
    """The name of a unit's part, without a suffix: the input's name, a hash of its whole path, the unit's index.

    It depends only on its arguments, is a plain ASCII file name, and differs for inputs of the same name.

    >>> safe_part_name("train/flights-2013.parquet", 3)
    'flights-2013-41441512c47d-00003'
    """
    base = uri.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = base.rpartition(".")[0] or base
    stem = _UNSAFE.sub("_", stem).strip("._-")[:_STEM_LIMIT] or "part"
    digest = hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{stem}-{digest}-{unit_index:05d}"


def check_output_outside_inputs(output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise ``OutputError`` if ``output``, a file or a folder, would overwrite an input or be read as one.

    That is, if it is an input (by path, symbolic link or hard link), lies inside an input folder, or contains an input.
    Links are followed and folders are compared by identity, so that no spelling of a path gets through.
    """
    uri = os.fspath(output)
    if reason := storage_of(uri).why_read_only(uri):
        raise OutputError(f"{plain(uri)}: {reason}")
    target = _Location(uri)
    for path in inputs:
        given = os.fspath(path)
        source = _Location(given)
        if target.is_same(source):
            raise OutputError(
                f"{plain(uri)}: is the input {plain(given)}; choose another output: inputs are never overwritten"
            )
        if target.is_inside(source):
            raise OutputError(
                f"{plain(uri)}: lies inside the input {plain(given)} and would be read as input by the next run;"
                " choose an output outside it"
            )
        if source.is_inside(target):
            raise OutputError(
                f"{plain(uri)}: contains the input {plain(given)}; choose a separate folder: inputs are never overwritten"
            )


class _Location:
    """A file or folder, possibly not yet existing, by its resolved name and its identity."""

    def __init__(self, uri: str) -> None:
        self._storage = storage_of(uri)
        self._name = self._storage.resolve(uri)
        self._key = self._key_of(self._name)
        self._parents = list(_parents(self._name))

    @functools.cached_property
    def _parent_keys(self) -> list[Hashable | None]:
        return [self._key_of(parent) for parent in self._parents]

    def is_same(self, other: _Location) -> bool:
        return self._name == other._name or (self._key is not None and self._key == other._key)

    def is_inside(self, other: _Location) -> bool:
        return other._name in self._parents or (other._key is not None and other._key in self._parent_keys)

    def _key_of(self, uri: str) -> Hashable | None:
        """The identity of a file or folder; None if it does not exist or is not accessible."""
        try:
            return self._storage, self._storage.folder_key(uri)
        except OSError:
            return None


def _parents(uri: str) -> Iterator[str]:
    while (cut := uri.rstrip("/").rpartition("/"))[1]:
        uri = cut[0] or "/"
        yield uri
        if uri == "/" or uri.endswith(":/"):
            return
