"""A lock in an object store: an object that its holder writes again and again, and that another run may take if it stops.

Nobody releases such a lock when its holder is killed. A lock whose holder has ended, as is known of processes of this
machine, is taken at once; any other after it was watched for ``LEASE_SECONDS`` and was not renewed. No clocks are
compared.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from datacheck.storage.base import FileChangedError, StoreError
from datacheck.storage.object_client import ObjectClient, ObjectMeta

#: A lock that is not renewed for so long is free.
LEASE_SECONDS = 30.0
#: How often it is renewed. A holder that could not for two thirds of the lease stops.
RENEW_SECONDS = 5.0
_POLL_SECONDS = 1.0


class Lease:
    """A lock that this process holds, and renews in a thread."""

    def __init__(self, client: ObjectClient, key: str, uri: str, record: dict[str, Any], meta: ObjectMeta) -> None:
        self._client, self._key, self._uri, self._record, self._meta = client, key, uri, record, meta
        self._renewed = time.monotonic()
        self._lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="datacheck-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise ``StoreError`` where another run may hold the lock by now."""
        if self._lost or time.monotonic() - self._renewed > LEASE_SECONDS * 2 / 3:
            problem = "another run took over, since this one could not reach the store for too long; run again"
            raise StoreError(errno.EAGAIN, problem, self._uri)

    def release(self) -> None:
        """Delete the lock, if it is still ours."""
        if self._released.is_set():
            return
        self._released.set()
        if self._thread.ident and self._thread.is_alive():
            self._thread.join()
        with suppress(OSError):
            if not self._lost and self._client.head(self._key).etag == self._meta.etag:
                self._client.delete([self._key])

    def _renew(self) -> None:
        number = 0
        while not self._released.wait(RENEW_SECONDS) and not self._lost:
            number += 1
            content = _content({**self._record, "renewed": number})
            started = time.monotonic()
            try:
                self._meta = self._client.put(self._key, content, len(content), replaces=self._meta)
                self._renewed = started
            except (FileChangedError, FileExistsError, FileNotFoundError):
                self._lost = not self._is_ours(number)
            except OSError:
                # Tried again at the next time: the lease outlasts several.
                continue

    def _is_ours(self, number: int) -> bool:
        """Whether the lock has the content of a renewal of ours, whose answer was lost."""
        try:
            meta, content = self._client.first(self._key, 1 << 16)
        except OSError:
            return False
        found = _parse(content)
        if found.get("token") != self._record["token"] or found.get("renewed", 0) > number:
            return False
        self._meta, self._renewed = meta, time.monotonic()
        return True


def take_lease(client: ObjectClient, key: str, uri: str) -> Lease:
    """Take the lock.

    Raises ``BlockingIOError``, with the name of the holder as ``filename2``, where another process renews it, and
    ``OSError`` (ENOTSUP) where the store ignores conditions: then no lock can be made there.
    """
    record = {**_this_process(), "token": secrets.token_hex(8)}
    mine = _content(record)
    try:
        meta = client.put(key, mine, len(mine), absent=True)
    except FileExistsError:
        meta = _take_over(client, key, uri, mine)
    try:
        client.put(key, mine, len(mine), absent=True)
    except FileExistsError:
        return Lease(client, key, uri, record, meta)
    client.delete([key])
    problem = (
        "the store overwrites an object that was to be created only if absent, so two runs could not be kept apart"
    )
    raise StoreError(errno.ENOTSUP, f"{problem}; choose a store with conditional writes, or another output", uri)


def _take_over(client: ObjectClient, key: str, uri: str, mine: bytes) -> ObjectMeta:
    """Replace the lock of a holder that is gone."""
    seen, since = "", time.monotonic()
    while True:
        try:
            meta, content = client.first(key, 1 << 16)
        except FileNotFoundError:
            try:
                return client.put(key, mine, len(mine), absent=True)
            except FileExistsError:
                continue
        holder = _parse(content)
        version = f"{meta.etag} {meta.version} {meta.mtime_ns}"
        if version != seen:
            if seen:
                # It was renewed while we watched.
                raise BlockingIOError(errno.EAGAIN, "locked", uri, None, _describe(holder))
            seen, since = version, time.monotonic()
        if _has_ended(holder) or time.monotonic() - since > LEASE_SECONDS:
            try:
                return client.put(key, mine, len(mine), replaces=meta)
            except (FileChangedError, FileExistsError):
                raise BlockingIOError(errno.EAGAIN, "locked", uri, None, _describe(holder)) from None
        if _is_alive(holder):
            raise BlockingIOError(errno.EAGAIN, "locked", uri, None, _describe(holder))
        time.sleep(_POLL_SECONDS)


def _content(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode()


def _parse(content: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        record = json.loads(content)
        if isinstance(record, dict):
            return record
    return {}


def _this_process() -> dict[str, Any]:
    """What identifies this process, on this machine and from other machines."""
    namespace, boot = "", ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    pid = os.getpid()
    return {"host": platform.node(), "machine": f"{boot} {namespace}", "pid": pid, "started": _start_of(pid)}


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty for a process that does not exist."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _is_here(holder: dict[str, Any]) -> bool:
    return bool(holder.get("started")) and holder.get("machine") == _this_process()["machine"] != " "


def _has_ended(holder: dict[str, Any]) -> bool:
    return _is_here(holder) and _start_of(holder["pid"]) != holder["started"]


def _is_alive(holder: dict[str, Any]) -> bool:
    return _is_here(holder) and _start_of(holder["pid"]) == holder["started"]


def _describe(holder: dict[str, Any]) -> str:
    return f"{holder.get('pid', '?')} on {holder.get('host', '?')}"
