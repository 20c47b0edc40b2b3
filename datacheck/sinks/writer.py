"""What every part writer shares: a temporary name until the part is whole and synced, and nothing left on failure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datacheck.batch import Batch
from datacheck.errors import OutputError
from datacheck.storage.atomic import partial_path, sync_file
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

__all__ = ["FileWriter"]


class FileWriter(ABC):
    """Writes one part to a temporary file beside ``path``; ``close`` syncs it and gives it its name.

    Whatever fails, an interrupt included, removes the temporary file; an ``OSError`` becomes an ``OutputError``. A
    format implements ``_write``, ``_finish`` (all bytes handed to the system) and ``_discard`` (handles closed,
    whatever they say).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = partial_path(path)
        self._num_bytes: int | None = None
        self._failed = False
        with output_errors(path), suppress(FileNotFoundError):
            # A name that is too long or forbidden is said now, not after the work is done.
            path.lstat()

    def write(self, batch: Batch) -> None:
        """Append the rows of ``batch``; raises ``OutputError``."""
        with self._guarded():
            self._write(batch)

    def close(self) -> int:
        """Finish and sync the part and give it its name; its size in bytes. The folder is synced by who records it."""
        if self._num_bytes is None:
            with self._guarded():
                self._finish()
                self._num_bytes = sync_file(self.partial)
                self.partial.replace(self.path)
        return self._num_bytes

    def abort(self) -> None:
        """Remove what was written, a part that was closed already included."""
        if self._num_bytes is None:
            self._failed = True
            self._discard()
            written = self.partial
        else:
            written = self.path
        with suppress(OSError):
            written.unlink()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._failed or self._num_bytes is not None:
            raise OutputError(f"{plain(str(self.path))}: was written to after it was closed")
        try:
            with output_errors(self.path):
                yield
        except BaseException:
            self.abort()
            raise

    @abstractmethod
    def _write(self, batch: Batch) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...

    @abstractmethod
    def _discard(self) -> None: ...
