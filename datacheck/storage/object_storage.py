"""Object stores and web servers as a storage: no folders, no links, no maps, no renames; a version for every object."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

from datacheck.storage.base import Entry, FileChangedError, FileInfo, Fingerprint, Lock, NoLock, StoreError
from datacheck.storage.lease import take_lease
from datacheck.storage.object_client import MAX_COPY, WEB_IS_READ_ONLY, ObjectMeta
from datacheck.storage.object_clients import client_of
from datacheck.storage.os_calls import run_in_forks
from datacheck.storage.ranges import RangeFile
from datacheck.storage.remote import RemoteStorage

#: What is read when an object is opened: all of a small one.
_FIRST_BYTES = 64 << 10
SMALL_BYTES = 1 << 20
#: The beginnings of objects that are kept in memory.
_MAX_KEPT_BYTES = 64 << 20
#: For so long the version of an object is known.
_RECENT_SECONDS = 10.0
_MAX_RECENT = 100_000
#: Hashes of what was just written.
_MAX_DIGESTS = 1000
#: A file that is being written is in memory up to this size, and on the disk beyond it.
_MAX_SPOOLED = 16 << 20
_CHUNK = 1 << 20
#: What is recorded with every object that is written.
_HASH = "sha256"
#: Copies at a time.
_NUM_COPIES = 128
#: How often an update is tried while others update the same object, and how much of it is read in one request.
_MAX_UPDATES = 50
_MAX_UPDATED = 8 << 20


class ObjectStorage(RemoteStorage):
    """Objects of S3, Google Cloud Storage, Azure Blob Storage and web servers.

    A folder exists as long as an object lies in it. Every read of an open file is of the version that was opened: if there
    is another by then, it raises ``FileChangedError``.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[str, tuple[float, ObjectMeta]] = OrderedDict()
        self._kept: OrderedDict[tuple[str, ObjectMeta], bytes] = OrderedDict()
        self._num_kept = 0
        self._digests: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        run_in_forks(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    # Reading

    def stat(self, uri: str, *, recent: bool = False) -> FileInfo:
        if recent and (known := self._known(uri)) is not None:
            return _info(known)
        client, key = client_of(uri)
        # A bucket, or the root of a server, is a folder, even an empty one. One that does not exist is an error.
        is_root = not key and not client.place.is_file
        if not is_root:
            try:
                meta = client.head(key)
            except FileNotFoundError:
                pass
            else:
                self._learn(uri, meta)
                return _info(meta)
        if client.is_folder(key) or is_root:
            return FileInfo("folder", Fingerprint(0))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)

    def open(self, uri: str, *, recent: bool = False) -> RangeFile:
        known = self._known(uri) if recent else None
        if known is not None and (first := self._kept.get((uri, known))) is not None:
            return self._opened(uri, known, first)
        client, key = client_of(uri)
        # The beginning comes with the version, in one request.
        length = SMALL_BYTES if known is not None and known.size <= SMALL_BYTES else _FIRST_BYTES
        meta, first = client.first(key, length)
        self._learn(uri, meta)
        self._keep(uri, meta, first)
        return self._opened(uri, meta, first)

    def _opened(self, uri: str, meta: ObjectMeta, first: bytes) -> RangeFile:
        def fetch(start: int, stop: int) -> bytes:
            # Looked up each time, since a fork has another client.
            client, key = client_of(uri)
            try:
                return client.read(key, start, stop, meta)
            except OSError:
                self._forget(uri)
                raise

        return RangeFile(meta.size, first, fetch)

    def list(self, folder: str) -> list[Entry]:
        client, key = client_of(folder)
        found = client.list(key)
        base = folder.rstrip("/")
        for name, meta in found:
            if meta is not None:
                self._learn(f"{base}/{name}", meta)
        # An object and a folder may have the same name: both are listed.
        return sorted((Entry(name, meta is None) for name, meta in found), key=lambda entry: entry.name)

    def walk(self, folder: str) -> Iterator[tuple[str, int]]:
        client, key = client_of(folder)
        for path, size in client.sizes_below(key).items():
            yield path.removeprefix(f"{key}/"), size

    def written_hash(self, uri: str) -> str:
        with self._lock:
            # Asked for right after the file was written.
            digest = self._digests.pop(uri, None)
        if digest is not None:
            return f"sha256:{digest}"
        client, key = client_of(uri)
        recorded = client.attributes(key)[1].get(_HASH)
        return f"sha256:{recorded}" if recorded else self.content_hash(uri)

    # Writing

    def why_read_only(self, uri: str) -> str:
        return WEB_IS_READ_ONLY if client_of(uri)[0].place.is_web else ""

    @contextmanager
    def create(self, uri: str) -> Iterator[BinaryIO]:
        with tempfile.SpooledTemporaryFile(_MAX_SPOOLED) as file:
            yield cast(BinaryIO, file)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
            file.seek(0)
            self._put(uri, cast("IO[bytes]", file), size, digest)

    def put(self, uri: str, content: bytes, *, if_absent: bool = False) -> None:
        self._put(uri, bytes(content), len(content), hashlib.sha256(content).hexdigest(), if_absent=if_absent)

    def _put(self, uri: str, content: bytes | IO[bytes], size: int, digest: str, *, if_absent: bool = False) -> None:
        client, key = client_of(uri)
        self._forget(uri)
        meta = client.put(key, content, size, absent=if_absent, attributes={_HASH: digest})
        self._learn(uri, meta)
        with self._lock:
            self._digests[uri] = digest
            while len(self._digests) > _MAX_DIGESTS:
                self._digests.popitem(last=False)

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        listed = list(moves)
        with ThreadPoolExecutor(_NUM_COPIES, thread_name_prefix="datacheck-copies") as pool:
            for _ in pool.map(lambda move: self._copy(*move), listed):
                pass
        # Not before all are copied, since a resumed run looks for either.
        self._delete([staged for staged, _ in listed])

    def _copy(self, staged: str, final: str) -> None:
        client, key = client_of(staged)
        known = self._known(staged)
        size = client.head(key).size if known is None else known.size
        self._forget(final)
        if size <= MAX_COPY:
            client.copy(key, client_of(final)[1])
            return
        with self.open(staged) as source, self.create(final) as target:
            while chunk := source.read(8 * _CHUNK):
                target.write(chunk)

    def delete(self, uri: str) -> None:
        self._delete([uri])

    def delete_folder(self, folder: str) -> None:
        client, key = client_of(folder)
        client.delete(list(client.sizes_below(key)))

    def delete_empty_folder(self, folder: str) -> None:
        """Nothing: a folder without an object does not exist."""

    def make_folder(self, folder: str) -> None:
        """Nothing: an object makes its folder."""

    def sync(self, folder: str) -> None:
        """Nothing: what was written is durable."""

    def remove_partials(self, folder: str) -> int:  # noqa: ARG002 - an object appears whole
        return 0

    def lock(self, uri: str, *, shared: bool = False) -> Lock:
        if shared:
            return NoLock()
        client, key = client_of(uri)
        return take_lease(client, key, uri)

    def _delete(self, uris: Sequence[str]) -> None:
        if uris:
            for uri in uris:
                self._forget(uri)
            client_of(uris[0])[0].delete([client_of(uri)[1] for uri in uris])

    # What is known of objects

    def _known(self, uri: str) -> ObjectMeta | None:
        with self._lock:
            at, meta = self._recent.get(uri, (-_RECENT_SECONDS, None))
            return meta if time.monotonic() - at < _RECENT_SECONDS else None

    def _learn(self, uri: str, meta: ObjectMeta) -> None:
        with self._lock:
            self._recent[uri] = time.monotonic(), meta
            self._recent.move_to_end(uri)
            while len(self._recent) > _MAX_RECENT:
                self._recent.popitem(last=False)

    def _forget(self, uri: str) -> None:
        with self._lock:
            self._recent.pop(uri, None)
            self._digests.pop(uri, None)

    def _keep(self, uri: str, meta: ObjectMeta, first: bytes) -> None:
        with self._lock:
            before = self._kept.pop((uri, meta), b"")
            self._kept[uri, meta] = first
            self._num_kept += len(first) - len(before)
            while self._num_kept > _MAX_KEPT_BYTES:
                self._num_kept -= len(self._kept.popitem(last=False)[1])


def _info(meta: ObjectMeta) -> FileInfo:
    # The etag alone says whether an object has changed; it may be written again with the same content.
    mtime_ns = 0 if meta.etag else meta.mtime_ns
    return FileInfo("file", Fingerprint(meta.size, mtime_ns, version=meta.etag.strip('"')))


OBJECTS = ObjectStorage()


def update_object(uri: str, change: Callable[[bytes | None], bytes]) -> None:
    """Replace an object by what ``change`` makes of its content, None if there is none; again if another was faster.

    Raises ``OSError``.
    """
    client, key = client_of(uri)
    for attempt in range(_MAX_UPDATES):
        try:
            meta, content = client.first(key, _MAX_UPDATED)
        except FileNotFoundError:
            meta, content = None, b""
        if meta is not None and meta.size > len(content):
            content = client.read(key, 0, meta.size, meta)
        changed = change(None if meta is None else content)
        try:
            client.put(key, changed, len(changed), absent=meta is None, replaces=meta)
            return
        except (FileExistsError, FileChangedError):
            time.sleep(random.uniform(0, 0.1 * (attempt + 1)))  # noqa: S311 - no secret
    raise StoreError(errno.EAGAIN, "other processes keep changing it; run again", uri)
