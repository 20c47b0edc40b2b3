"""Requests to object stores and web servers through obstore: plain values in and out, an ``OSError`` for every failure."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

from datacheck.storage.base import FileChangedError, StoreError
from datacheck.storage.credentials import store_options
from datacheck.storage.object_uri import ObjectUri
from datacheck.text import redacted

if TYPE_CHECKING:
    from obstore.store import ObjectStore


WEB_IS_READ_ONLY = "a web server is only read; write to a folder or an object store"

#: A longer range is read in pieces of this size, several at a time: one connection does not fill a line.
PIECE_BYTES = 4 << 20
#: Requests in flight of all reads of this process together.
_MAX_IN_FLIGHT = 32
#: A larger file is uploaded in parts, which the store joins. A smaller one is one request: all of it, or nothing.
MAX_SINGLE_PUT = 256 << 20
_UPLOAD_PART = 32 << 20
#: No store copies a larger object in one request.
MAX_COPY = 5 << 30

#: With these, an endpoint that cannot be reached, or never answers, is an error within half a minute.
_RETRIES: dict[str, Any] = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=12),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=4), "base": 2},
}
_CONNECT_SECONDS, _READ_SECONDS = 4, 8
#: The slowest upload that is waited for.
_MIN_BYTES_PER_SECOND = 256 << 10
#: For so long after a store could not be reached, no other request waits for it.
_DOWN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """One version of an object."""

    size: int
    etag: str = ""
    mtime_ns: int = 0
    version: str = ""

    @property
    def can_be_pinned(self) -> bool:
        """Whether the store compares the etag byte for byte."""
        return bool(self.etag) and not self.etag.startswith("W/")


class ObjectClient:
    """The requests to one bucket, container or web server. Keys are text without a leading slash."""

    def __init__(self, place: ObjectUri) -> None:
        self.place = place
        self._stores: dict[int, ObjectStore] = {}
        self._lock = threading.Lock()
        self._down: tuple[float, OSError] | None = None

    def head(self, key: str) -> ObjectMeta:
        """The current version of an object; raises ``FileNotFoundError``."""
        if self.place.is_web:
            # A signed URL allows GET alone.
            return self.first(key, 1)[0]
        with self._errors(key):
            return _meta(self._store().head(key))

    def first(self, key: str, length: int) -> tuple[ObjectMeta, bytes]:
        """The current version of an object, and its first bytes."""
        with self._errors(key):
            try:
                result = self._store().get(key, options={"range": (0, length)})
            except Exception as error:
                if "416" not in str(error):
                    raise
                # No range lies in an empty object.
                result = self._store().get(key)
            return _meta(result.meta), bytes(result.bytes())

    def read(self, key: str, start: int, stop: int, meta: ObjectMeta) -> bytes:
        """The bytes from ``start`` to ``stop`` of a version of an object; raises ``FileChangedError`` if it has gone."""
        edges = [*range(start, stop, PIECE_BYTES), stop]
        pieces = list(itertools.pairwise(edges))
        if len(pieces) <= 1:
            return b"".join(self._piece(key, piece, meta) for piece in pieces)
        return b"".join(_pool().map(lambda piece: self._piece(key, piece, meta), pieces))

    def _piece(self, key: str, piece: tuple[int, int], meta: ObjectMeta) -> Any:
        options: dict[str, Any] = {"range": piece}
        if meta.can_be_pinned:
            options["if_match"] = meta.etag
        with self._errors(key):
            result = self._store().get(key, options=options)
            now = _meta(result.meta)
            if (now.size, now.etag) != (meta.size, meta.etag) or (not meta.etag and now.mtime_ns != meta.mtime_ns):
                raise FileChangedError(None, "it has changed", self.place.uri_of(key))
            return result.bytes()

    def list(self, folder: str) -> list[tuple[str, ObjectMeta | None]]:
        """The names right in a folder, with their version; None for a folder. Empty where there is no such folder."""
        self._check_lists()
        prefix = f"{folder}/" if folder else ""
        with self._errors(folder):
            found = self._store().list_with_delimiter(folder or None)
        names: list[tuple[str, ObjectMeta | None]] = [
            (path[len(prefix) :].rstrip("/"), None) for path in found["common_prefixes"]
        ]
        names += [(one["path"][len(prefix) :], _meta(one)) for one in found["objects"]]
        # An object that is named like the folder marks an empty folder.
        return [(name, meta) for name, meta in names if name]

    def sizes_below(self, folder: str) -> dict[str, int]:
        """The keys of all objects in a folder and its subfolders, with their sizes."""
        self._check_lists()
        with self._errors(folder):
            pages = self._store().list(folder or None, chunk_size=1000)
            return {one["path"]: one["size"] for page in pages for one in page}

    def is_folder(self, folder: str) -> bool:
        """Whether any object lies in a folder or its subfolders."""
        if self.place.is_web:
            return False
        with self._errors(folder):
            return bool(next(iter(self._store().list(folder or None, chunk_size=1)), ()))

    def put(
        self,
        key: str,
        content: bytes | IO[bytes],
        size: int,
        *,
        absent: bool = False,
        replaces: ObjectMeta | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> ObjectMeta:
        """Write an object in one request, unless it is very large.

        With ``absent``, raises ``FileExistsError`` where there is one, and with ``replaces``, ``FileChangedError`` where it
        is not that version any more.
        """
        if self.place.is_web:
            raise StoreError(errno.EROFS, WEB_IS_READ_ONLY, self.place.uri_of(key))
        mode: Any = "create" if absent else "overwrite"
        if replaces is not None:
            mode = {"e_tag": replaces.etag, "version": replaces.version}
            mode = {name: value for name, value in mode.items() if value}
        seconds = 20 + size // _MIN_BYTES_PER_SECOND
        with self._errors(key):
            result = self._store(seconds).put(
                key,
                content,
                mode=mode,
                attributes=dict(attributes or {}),
                use_multipart=size > MAX_SINGLE_PUT and mode == "overwrite",
                chunk_size=_UPLOAD_PART,
                max_concurrency=4,
            )
        return ObjectMeta(size, result["e_tag"] or "", 0, result["version"] or "")

    def attributes(self, key: str) -> tuple[ObjectMeta, dict[str, str]]:
        """The current version of an object, and what was recorded with it."""
        with self._errors(key):
            result = self._store().get(key, options={"head": True})
            return _meta(result.meta), {str(name): str(value) for name, value in result.attributes.items()}

    def copy(self, key: str, other: str) -> None:
        """Copy an object inside the store."""
        with self._errors(key):
            self._store(60).copy(key, other, overwrite=True)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that do not exist are no error."""
        with self._errors(keys[0] if keys else ""):
            for start in range(0, len(keys), 1000):
                try:
                    self._store().delete(list(keys[start : start + 1000]))
                except FileNotFoundError:
                    continue

    def _check_lists(self) -> None:
        if self.place.is_web:
            raise OSError(errno.ENOTSUP, "a web server has no list of its files; name each file", self.place.uri_of(""))

    def _store(self, seconds: int = 0) -> ObjectStore:
        """The store for short requests, or for one that may take a number of seconds."""
        # Few stores, since each has connections of its own.
        seconds = 0 if not seconds else next((limit for limit in (22, 120, 600) if seconds <= limit), 3600)
        with self._lock:
            if seconds not in self._stores:
                client: dict[str, Any] = {"connect_timeout": f"{_CONNECT_SECONDS}s", "timeout": "3600s"}
                # It also limits how long a request may send before the answer begins.
                client["read_timeout"] = f"{seconds or _READ_SECONDS}s"
                self._stores[seconds] = store_options(self.place).open(client, _RETRIES)
            return self._stores[seconds]

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turn every exception of obstore into an ``OSError`` about ``key``."""
        if self._down is not None and time.monotonic() < self._down[0]:
            raise self._down[1]
        try:
            yield
        except (FileChangedError, StoreError):
            raise
        except Exception as error:
            if not isinstance(error, OSError | ValueError) and not type(error).__module__.startswith("obstore"):
                raise
            translated = _translated(error, self.place, key)
            if translated.errno == errno.ETIMEDOUT:
                self._down = time.monotonic() + _DOWN_SECONDS, translated
            raise translated from None


def _meta(meta: Any) -> ObjectMeta:
    modified: datetime | None = meta["last_modified"]
    mtime_ns = 0 if modified is None else int(modified.astimezone(UTC).timestamp()) * 1_000_000_000
    return ObjectMeta(meta["size"], meta["e_tag"] or "", mtime_ns, meta["version"] or "")


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MAX_IN_FLIGHT, thread_name_prefix="datacheck-ranges")


def _translated(error: Exception, place: ObjectUri, key: str) -> OSError:
    """What an exception of obstore says, without the credentials that its message may have."""
    uri = place.uri_of(key)
    name, text = type(error).__name__, str(error)
    first = redacted(text.partition("\n\nDebug source")[0].strip().partition("\n")[0])
    # The whole answer of a server is no message.
    first = first.partition(": <")[0][:300]
    # A URL with a query has no path of its own there.
    first = first.replace(" for path : ", ": ")
    if name == "AlreadyExistsError":
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), uri)
    if name == "PreconditionError":
        return FileChangedError(None, "it has changed", uri)
    if any(code in text for code in ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")):
        return StoreError(errno.ENOENT, f"the {place.what} {place.bucket!r} does not exist; check its name", uri)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)
    if name in ("PermissionDeniedError", "UnauthenticatedError"):
        return StoreError(errno.EACCES, f"access denied ({first}); {store_options(place).credentials_hint}", uri)
    # Not in the answer, which may repeat the request.
    said = text.partition(": <")[0]
    if any(sign in said for sign in ("169.254.169.254", "token request", "MissingAccount", "redential")):
        return StoreError(errno.EACCES, f"no credentials were found; {store_options(place).credentials_hint}", uri)
    if name == "NotSupportedError":
        if "Range request" in first:
            first = f"{place.service} does not answer requests for ranges of bytes"
        return StoreError(errno.ENOTSUP, f"{first}; download the file, and check it here", uri)
    if "InvalidPath" in name or "PathError" in name:
        return FileNotFoundError(errno.ENOENT, f"the name is not one of an object ({first})", uri)
    problem = "answered with an error" if "status code" in text else "did not answer"
    return StoreError(errno.ETIMEDOUT, f"{place.service} {problem} ({first})", uri)
