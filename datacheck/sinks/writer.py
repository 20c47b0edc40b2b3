"""What all part writers share: a part appears whole when it is closed, and nothing is left on failure."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, cast

from datacheck.batch import Batch
from datacheck.errors import OutputError
from datacheck.storage import open_file, storage_of
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

_CHUNK = 1 << 20


def write_file(uri: str, fill: Callable[[BinaryIO], None]) -> int:
    """Write a file atomically with what ``fill`` writes to it; returns its size in bytes. Raises ``OutputError``."""
    storage = storage_of(uri)
    with output_errors(uri):
        with storage.create(uri) as file:
            fill(file)
        return storage.stat(uri, recent=True).fingerprint.size


def copy_file(source: str, uri: str) -> int:
    """Copy a file byte for byte, atomically; returns its size in bytes. Raises ``OutputError``."""

    def fill(target: BinaryIO) -> None:
        with open_file(source) as file:
            while chunk := file.read(_CHUNK):
                target.write(chunk)

    return write_file(uri, fill)


class FileWriter(ABC):
    """Writes one part, which appears under ``uri`` when the writer is closed.

    Any failure, interrupts included, removes what was written; an ``OSError`` becomes an ``OutputError``. A subclass
    checks its template, calls ``_open``, and implements ``_write`` and ``_finish``; ``_discard`` drops what it holds when
    the part is aborted, which ends temporary files, too.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._storage = storage_of(uri)
        self._created = ExitStack()
        self._num_bytes: int | None = None
        self._failed = False

    def write(self, batch: Batch) -> None:
        """Append the rows of ``batch``; raises ``OutputError``."""
        with self._guarded():
            self._write(batch)

    def close(self) -> int:
        """Finish the part and give it its name; returns its size in bytes.

        Its content is durable. Its name is durable once the folder is synced, which whoever records the part does.
        """
        if self._num_bytes is None:
            with self._guarded():
                self._finish()
                self._created.close()
                self._num_bytes = self._storage.stat(self.uri, recent=True).fingerprint.size
        return self._num_bytes

    def abort(self) -> None:
        """Remove what was written, including a part that was closed."""
        if self._num_bytes is not None:
            with suppress(OSError):
                self._storage.delete(self.uri)
            return
        self._failed = True
        self._discard()
        with suppress(OSError):
            self._created.__exit__(_AbortedError, _AbortedError(), None)

    def _open(self) -> BinaryIO:
        """The file to write, removed if the part is aborted."""
        with output_errors(self.uri):
            return self._created.enter_context(self._storage.create(self.uri))

    def _open_buffer(self) -> BinaryIO:
        """A temporary file, beside the output if that is on this machine: there is room for it."""
        folder = self._storage.local_path(self.uri.rpartition("/")[0] or ".")
        with output_errors(self.uri):
            file: Any = self._created.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
            return cast(BinaryIO, file)  # of another class on Windows

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._failed or self._num_bytes is not None:
            raise OutputError(f"{plain(self.uri)}: cannot be written to after it was closed")
        try:
            with output_errors(self.uri):
                yield
        except BaseException:
            self.abort()
            raise

    @abstractmethod
    def _write(self, batch: Batch) -> None: ...

    def _finish(self) -> None:  # noqa: B027 - optional
        """Hand all bytes that are left to the file, without closing it."""

    def _discard(self) -> None:  # noqa: B027 - optional
        """Drop buffered rows and other resources; the file is removed afterwards."""


@dataclass(frozen=True, slots=True)
class WriterSink:
    """A sink without options: ``writer``, a class of its own that takes a URI and a template, writes its parts."""

    format: ClassVar[str]
    suffix: ClassVar[str]
    writer: ClassVar[type[Any]]

    def open(self, uri: str, template: Batch) -> FileWriter:
        writer: FileWriter = self.writer(uri, template)
        return writer


class _AbortedError(Exception):
    """Tells the storage that a file was not completed."""
