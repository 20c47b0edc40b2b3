"""Names the content of files: equal names mean equal content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from datacheck.formats import Format, format_of_name
from datacheck.gate.cache import Cache
from datacheck.jobs.executors.local import map_in_order
from datacheck.sources.discover import InputFile
from datacheck.storage import Fingerprint, storage_of

#: Smaller files are always hashed, since that costs next to nothing. A larger file is hashed only if its format is slow to
#: check; any other is checked about as fast as it is hashed, so it is recognized by its fingerprint alone.
_SMALL_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """The name of a file's content (a hash), and the file's fingerprint at that time."""

    name: str
    fingerprint: Fingerprint

    def still_holds(self, uri: str) -> bool:
        """Whether the file has not changed since."""
        now = _fingerprint(uri)
        return now is not None and now.proof == self.fingerprint.proof


def name_contents(files: Sequence[InputFile], cache: Cache, workers: int | None) -> list[Content | None]:
    """The content of each file; None for one that is not regular, has only just changed, or whose format is not cacheable.

    A file with the remembered fingerprint is not opened.
    """
    formats = [format_of_name(file.uri) for file in files]
    fingerprints = [
        # What a shared suffix stands for depends on more than the file: a .bin is Megatron's if it has an index.
        _fingerprint(file.uri) if one is not None and one.is_cacheable and not one.shares_suffix else None
        for file, one in zip(files, formats, strict=True)
    ]
    keys = [_key(file.uri) for file in files]
    remembered = cache.get(key for key, found in zip(keys, fingerprints, strict=True) if found is not None)
    contents: list[Content | None] = [None] * len(files)
    unknown: list[int] = []
    for position, (file, one, key, fingerprint) in enumerate(zip(files, formats, keys, fingerprints, strict=True)):
        if one is None or fingerprint is None:
            continue
        name = _remembered(remembered.get(key), fingerprint)
        if name is not None:
            contents[position] = Content(_qualified(one, name), fingerprint)
        elif fingerprint.size <= _SMALL_BYTES or one.is_slow_to_check:
            unknown.append(position)
        elif storage_of(file.uri).is_settled(file.uri, fingerprint):
            contents[position] = Content(_qualified(one, f"state:{key}:{fingerprint.proof}"), fingerprint)
    hashes = map_in_order(partial(_hash, files, fingerprints), unknown, workers)
    for position, digest in zip(unknown, hashes, strict=True):
        one, fingerprint = formats[position], fingerprints[position]
        if one is not None and fingerprint is not None and digest is not None:
            contents[position] = Content(_qualified(one, digest), fingerprint)
            cache.put(keys[position], {"state": fingerprint.proof, "content": digest})
    return contents


def _qualified(format_: Format, name: str) -> str:
    """The name of a content, with the package that reads it where that is not datacheck: another may find other values."""
    return f"{format_.provider}:{name}" if format_.provider else name


def _fingerprint(uri: str) -> Fingerprint | None:
    """The fingerprint of a regular file; None for anything else."""
    try:
        info = storage_of(uri).stat(uri)
    except (OSError, ValueError):
        return None
    return info.fingerprint if info.kind == "file" else None


def _hash(files: Sequence[InputFile], fingerprints: Sequence[Fingerprint | None], position: int) -> str | None:
    """A hash of a file; None where it cannot be read, changes meanwhile, or has only just changed."""
    uri, fingerprint = files[position].uri, fingerprints[position]
    storage = storage_of(uri)
    if fingerprint is None or not storage.is_settled(uri, fingerprint):
        return None
    try:
        digest = storage.content_hash(uri)
    except OSError:
        return None
    return digest if Content(digest, fingerprint).still_holds(uri) else None


def _remembered(entry: Any, fingerprint: Fingerprint) -> str | None:
    if not isinstance(entry, Mapping) or entry.get("state") != list(fingerprint.proof):
        return None
    name = entry.get("content")
    return name if isinstance(name, str) else None


def _key(uri: str) -> str:
    path = os.path.abspath(uri) if storage_of(uri).local_path(uri) else uri  # noqa: PTH100 - called for every file of every run
    return f"path:{hashlib.sha256(os.fsencode(path)).hexdigest()}"
