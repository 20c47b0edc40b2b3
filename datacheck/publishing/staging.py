"""The staging area of an output folder: where parts wait, which units are done, and who may write.

::

    <output>/.datacheck/
        lock        held with flock while a run writes; the system releases it when the run's main process dies,
                    however it dies: forked workers do not inherit it
        parts/      finished parts, under their own names
        units/      one JSON record for each finished unit, written after its parts are on the disk
"""

from __future__ import annotations

import errno
import fcntl
import functools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datacheck.errors import OutputError
from datacheck.storage.atomic import make_folder, remove_partials, sync_directory, write_atomically
from datacheck.storage.os_errors import output_error, output_errors
from datacheck.text import plain

__all__ = ["STAGING_NAME", "StagingArea"]

#: The folder inside an output that holds what is not published yet.
STAGING_NAME = ".datacheck"
_RECORD_SUFFIX = ".json"


class StagingArea:
    """The staging area of ``output_dir``, made and locked on construction and unlocked by ``close``.

    A context manager. Raises ``OutputError`` where the folder cannot be written or another run holds it. Temporary
    files that a killed run left in the output folder and in the area are removed.
    """

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self.folder = output_dir / STAGING_NAME
        self.parts = self.folder / "parts"
        self.units = self.folder / "units"
        self._lock: int | None = None
        with output_errors(self.folder):
            self._acquire()
        try:
            with output_errors(self.folder):
                for folder in (self.parts, self.units):
                    make_folder(folder)
            for folder in (self.output_dir, self.folder, self.parts, self.units):
                remove_partials(folder)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def part_path(self, name: str) -> Path:
        """Where the part called ``name`` is written."""
        return self.parts / _checked(name)

    def finished_units(self) -> dict[str, dict[str, Any]]:
        """The records of the units that are done, by name, sorted.

        A record that cannot be read counts as none: its unit is done again.
        """
        records: dict[str, dict[str, Any]] = {}
        with output_errors(self.units):
            paths = sorted(path for path in self.units.iterdir() if path.suffix == _RECORD_SUFFIX)
            for path in paths:
                try:
                    record = json.loads(path.read_bytes())
                except ValueError:
                    continue
                if isinstance(record, dict):
                    records[path.name.removesuffix(_RECORD_SUFFIX)] = record
        return records

    def record_unit(self, name: str, record: Mapping[str, Any]) -> None:
        """Write that a unit is done. Its parts must be closed; their names are put on the disk first."""
        self.record_units({name: record})

    def record_units(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Write that several units are done, each atomically, with the folders synced once for all of them."""
        with output_errors(self.parts):
            sync_directory(self.parts)
        for name, record in records.items():
            content = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
            write_atomically(self.units / f"{_checked(name)}{_RECORD_SUFFIX}", content.encode(), sync_folder=False)
        with output_errors(self.units):
            sync_directory(self.units)

    def forget_unit(self, name: str) -> None:
        """Remove the record of a unit, so that it is done again."""
        path = self.units / f"{_checked(name)}{_RECORD_SUFFIX}"
        with output_errors(path):
            path.unlink(missing_ok=True)
            sync_directory(self.units)

    def clear(self) -> None:
        """Remove the area and all that it holds: its run is published, or is not to be gone on with.

        The records go first, so that a run killed in between never trusts a record whose parts are gone.
        """
        with output_errors(self.folder):
            for folder in (self.units, self.parts):
                if folder.is_dir():
                    shutil.rmtree(folder)
            sync_directory(self.folder)
            shutil.rmtree(self.folder)
            sync_directory(self.output_dir)
        self.close()

    def close(self) -> None:
        """Release the lock; the area stays for the next run."""
        if self._lock in _held_locks:
            _held_locks.discard(self._lock)
            os.close(self._lock)
        self._lock = None

    def _acquire(self) -> None:
        while True:
            make_folder(self.folder)
            path = self.folder / "lock"
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
                os.close(descriptor)
                raise self._held(error, holder) from None
            if _is_same_file(descriptor, path):
                break
            # The run that held it cleared the area meanwhile: this lock is on a file that is gone.
            os.close(descriptor)
        _leave_locks_behind_on_fork()
        _held_locks.add(descriptor)
        self._lock = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def _held(self, error: OSError, holder: str) -> OutputError:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return output_error(error, self.folder)
        who = f" (process {holder})" if holder.isdigit() else ""
        return OutputError(
            f"{plain(str(self.output_dir))}: another run{who} is writing there; wait for it to end, or choose another"
            " output"
        )


#: Descriptors of the locks that this process holds.
_held_locks: set[int] = set()


@functools.cache
def _leave_locks_behind_on_fork() -> None:
    """A worker that outlives a killed run must not hold the run's lock, or the run could never be gone on with."""
    os.register_at_fork(after_in_child=_close_inherited_locks)


def _close_inherited_locks() -> None:
    while _held_locks:
        os.close(_held_locks.pop())


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _checked(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise OutputError(
            f"'{plain(name)}' cannot name a part: use a file name without '/' that does not start with '.'"
        )
    return name
