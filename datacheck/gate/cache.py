"""A cache of small JSON values in one SQLite file. A corrupt file is replaced, and a locked one is ignored.

Every entry has a keyed hash of its key and value, so that corruption never goes unnoticed, and entries of other users are
believed. Several processes may share the file. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from datacheck.errors import OutputError
from datacheck.gate.trust import key_for
from datacheck.text import plain

#: The name of the file. Its number changes with the format of the entries.
STORE_NAME = "verdicts-2.sqlite"
#: Entries expire after this many days without use.
_EXPIRY_DAYS = 90
#: The day of last use is updated only after this many days, so that most runs write nothing.
_REFRESH_DAYS = 7
_CHUNK = 500
_LOCK_SECONDS = 2.0
#: Errors that do not mean corruption: the file is in use, cannot be opened or written, or the disk is full.
_ACCESS_ERRORS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, proof TEXT NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID
"""

T = TypeVar("T")
Row = tuple[Any, Any, Any, Any]


def default_folder() -> Path:
    """The user's cache folder: ``$XDG_CACHE_HOME/datacheck``, or the default of the operating system."""
    folder = os.environ.get("XDG_CACHE_HOME")
    # The XDG base directory specification says to ignore a relative path.
    if folder and Path(folder).is_absolute():
        return Path(folder) / "datacheck"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "datacheck"


class Cache:
    """Values by key. A context manager: leaving it writes all new values, even after an exception.

    The default ``folder`` is the user's cache folder; if it cannot be created, nothing is cached. A given folder that
    cannot be created raises ``OutputError``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._put: dict[str, str] = {}
        self._used: set[str] = set()
        self._today = int(time.time() // 86400)
        self._store: sqlite3.Connection | None = None
        self._path: Path | None = None
        self._secret: bytes | None = None
        try:
            parent = default_folder() if folder is None else Path(folder)
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._secret = key_for(parent, STORE_NAME, default_folder())
            self._path = parent / STORE_NAME if self._secret is not None else None
        except (OSError, RuntimeError) as error:
            if folder is not None:
                reason = getattr(error, "strerror", None) or str(error)
                raise OutputError(
                    f"{plain(os.fspath(folder))}: cannot hold the cache: {reason}; choose another folder, or use --no-cache"
                ) from None

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._put or self._used:
            self._attempt(self._write)
        self._close()

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those keys that are present and intact."""
        found: dict[str, Any] = {}
        for key, value, proof, used in self._attempt(lambda store: _select(store, list(dict.fromkeys(keys)))) or ():
            if isinstance(key, str) and isinstance(value, str) and self._is_proven(key, value, proof):
                found[key] = json.loads(value)
                if not isinstance(used, int) or self._today - used >= _REFRESH_DAYS:
                    self._used.add(key)
        return found

    def put(self, key: str, value: Any) -> None:
        """Set a value of plain JSON."""
        self._put[key] = json.dumps(value, separators=(",", ":"), allow_nan=False)

    def _write(self, store: sqlite3.Connection) -> None:
        entries = [(key, value, self._proof(key, value), self._today) for key, value in self._put.items()]
        store.execute("BEGIN IMMEDIATE")
        store.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", entries)
        store.executemany("UPDATE entries SET used = ? WHERE key = ?", [(self._today, key) for key in self._used])
        store.execute("DELETE FROM entries WHERE used < ?", (self._today - _EXPIRY_DAYS,))
        store.execute("COMMIT")

    def _proof(self, key: str, value: str) -> str:
        return hmac.new(self._secret or b"", f"{key}\0{value}".encode(), hashlib.sha256).hexdigest()

    def _is_proven(self, key: str, value: str, proof: object) -> bool:
        return isinstance(proof, str) and hmac.compare_digest(
            self._proof(key, value).encode(), proof.encode("utf-8", "replace")
        )

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Run ``work`` on the store; None if that is not possible. A corrupt store is replaced once."""
        for _ in range(2):
            if self._path is None:
                return None
            try:
                if self._store is None:
                    self._store = _connect(self._path)
                return work(self._store)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                # UnicodeDecodeError: an error message from a corrupt store may contain arbitrary bytes.
                self._close()
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _ACCESS_ERRORS:
                    self._path = None
                else:
                    _remove(self._path)
        self._path = None
        return None

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def _connect(path: Path) -> sqlite3.Connection:
    store = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)
    try:
        # Safe, because a store that a power failure corrupted is replaced.
        store.execute("PRAGMA synchronous = OFF")
        store.execute("PRAGMA trusted_schema = OFF")
        store.execute(_TABLE)
    except BaseException:
        store.close()
        raise
    return store


def _select(store: sqlite3.Connection, keys: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for start in range(0, len(keys), _CHUNK):
        part = keys[start : start + _CHUNK]
        marks = ", ".join("?" * len(part))
        rows += store.execute(f"SELECT key, value, proof, used FROM entries WHERE key IN ({marks})", part)  # noqa: S608
    return rows


def _remove(path: Path) -> None:
    # SQLite would replay a leftover journal into the new store.
    for name in (f"{path.name}-journal", path.name):
        with suppress(OSError):
            path.with_name(name).unlink()
