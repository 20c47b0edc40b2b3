"""A store of small JSON values in one SQLite file, for what can be made again: corrupt or locked, it is done without.

Every entry carries a hash over its key and its value, so that what is read is what was written, whatever became of the
file in between. Processes may share it. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
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
from datacheck.text import plain

__all__ = ["STORE_NAME", "Cache", "default_folder"]

#: The name of the store; its number changes with the form of what is in it.
STORE_NAME = "verdicts-1.sqlite"
#: Entries that nobody asked for in so many days are dropped.
_KEPT_DAYS = 90
#: An entry's day of use is written again after so many days, so that most runs write nothing.
_USE_DAYS = 7
_CHUNK = 500
_LOCK_SECONDS = 2.0
#: What says nothing against the store: it is in use, or cannot be opened or written, or the disk is full.
_NO_CORRUPTION = frozenset(
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
    """Where caches of this user belong: ``$XDG_CACHE_HOME/datacheck``, or the same of the operating system."""
    named = os.environ.get("XDG_CACHE_HOME")
    # A relative one is to be ignored, says the XDG base directory specification.
    if named and Path(named).is_absolute():
        return Path(named) / "datacheck"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "datacheck"


class Cache:
    """A store of values by key. A context manager, which writes what was put when it ends, however it ends.

    With ``folder`` None it is in the user's own cache folder, and where there can be none it keeps nothing. A folder that
    was asked for and cannot be made raises ``OutputError``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._put: dict[str, str] = {}
        self._used: set[str] = set()
        self._today = int(time.time() // 86400)
        self._store: sqlite3.Connection | None = None
        self._path: Path | None = None
        try:
            place = default_folder() if folder is None else Path(folder)
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path = place / STORE_NAME
        except (OSError, RuntimeError) as error:
            if folder is not None:
                reason = getattr(error, "strerror", None) or str(error)
                raise OutputError(
                    f"{plain(os.fspath(folder))}: no cache can be kept there: {reason}; name another, or use --no-cache"
                ) from None

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._put or self._used:
            self._do(self._write)
        self._close()

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of those keys that are there, whole, and as they were put."""
        found: dict[str, Any] = {}
        for key, value, proof, used in self._do(lambda store: _select(store, list(dict.fromkeys(keys)))) or ():
            if isinstance(key, str) and isinstance(value, str) and proof == _proof(key, value):
                found[key] = json.loads(value)
                if not isinstance(used, int) or self._today - used >= _USE_DAYS:
                    self._used.add(key)
        return found

    def put(self, key: str, value: Any) -> None:
        """Keep a value of plain JSON, in place of what was there."""
        self._put[key] = json.dumps(value, separators=(",", ":"), allow_nan=False)

    def _write(self, store: sqlite3.Connection) -> None:
        entries = [(key, value, _proof(key, value), self._today) for key, value in self._put.items()]
        store.execute("BEGIN IMMEDIATE")
        store.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", entries)
        store.executemany("UPDATE entries SET used = ? WHERE key = ?", [(self._today, key) for key in self._used])
        store.execute("DELETE FROM entries WHERE used < ?", (self._today - _KEPT_DAYS,))
        store.execute("COMMIT")

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do work on the store; None where that is not possible. A store that is corrupt is made anew, once."""
        for _ in range(2):
            if self._path is None:
                return None
            try:
                if self._store is None:
                    self._store = _connect(self._path)
                return work(self._store)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                # The second: what a corrupt store says of itself need not even be text.
                self._close()
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _NO_CORRUPTION:
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
        # What a power failure corrupts is made again.
        store.execute("PRAGMA synchronous = OFF")
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
    # A journal that stays would be played back into the new store.
    for name in (f"{path.name}-journal", path.name):
        with suppress(OSError):
            path.with_name(name).unlink()


def _proof(key: str, value: str) -> str:
    return hashlib.sha256(f"{key}\0{value}".encode()).hexdigest()
