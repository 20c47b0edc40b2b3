"""The staging area of an output folder: finished parts, records of finished units, and the lock of the running job.

::

    <output>/.datacheck/
        lock        held while a run writes; the system releases it when the run's main process dies, however it
                    dies: forked workers do not inherit it
        parts/      finished parts, under their own names
        units/      one JSON record per finished unit, written once its parts are durable
        results/    what the shards of a run know, if it has shards
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from datacheck.errors import OutputError
from datacheck.publishing.links import check_no_link
from datacheck.publishing.sealed_json import DamagedError, read_json, sealed, unsealed
from datacheck.storage import storage_of
from datacheck.storage.base import Lock
from datacheck.storage.os_calls import REMOVES_OPEN_FILES
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

#: The folder inside an output that holds everything unpublished.
STAGING_NAME = ".datacheck"
_RECORD_SUFFIX = ".json"
_LOCK_NAME = "lock"
#: Records that are read at a time where each is a request.
_NUM_READERS = 16


class StagingArea:
    """The staging area of ``output``, created and locked on construction and unlocked by ``close``.

    A context manager. Raises ``OutputError`` if the folder cannot be written or another run has locked it. Removes the
    partial files that a killed run left in the output folder and in the area, unless the area is ``shared`` with others
    who are writing.
    """

    def __init__(self, output: str, *, shared: bool = False) -> None:
        self.is_shared = shared
        self.output = output
        self.folder = f"{output}/{STAGING_NAME}"
        self.parts = f"{self.folder}/parts"
        self.units = f"{self.folder}/units"
        self.storage = storage_of(output)
        with output_errors(self.folder):
            self.lock = self._lock()
        try:
            with output_errors(self.folder):
                for folder in (self.parts, self.units):
                    check_no_link(self.output, folder)
                    self.storage.make_folder(folder)
                for folder in () if shared else (self.output, self.folder, self.parts, self.units):
                    self.storage.remove_partials(folder)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def part_uri(self, name: str) -> str:
        """Where the part called ``name`` is written."""
        return f"{self.parts}/{_checked(name)}"

    def finished_units(self) -> dict[str, dict[str, Any]]:
        """The records of finished units, by name, sorted. A damaged record is ignored: its unit is done again."""
        check_no_link(self.output, self.units)
        with output_errors(self.units):
            names = [entry.name for entry in self.storage.list(self.units) if entry.name.endswith(_RECORD_SUFFIX)]
            if self.storage.local_path(self.units) is not None:
                found = list(map(self._record, names))
            else:
                with ThreadPoolExecutor(_NUM_READERS) as pool:
                    found = list(pool.map(self._record, names))
        records = zip(names, found, strict=True)
        return {name.removesuffix(_RECORD_SUFFIX): record for name, record in records if record is not None}

    def _record(self, name: str) -> dict[str, Any] | None:
        try:
            return unsealed(read_json(f"{self.units}/{name}"))
        except DamagedError:
            return None

    def record_unit(self, name: str, record: Mapping[str, Any]) -> None:
        """Record a unit as finished. Its parts must be closed; their names are made durable first."""
        content = json.dumps(sealed(record), sort_keys=True, separators=(",", ":"), allow_nan=False)
        uri = self._record_uri(name)
        for folder in (self.parts, self.units):
            check_no_link(self.output, folder)
        with output_errors(self.parts):
            self.storage.sync(self.parts)
        with output_errors(uri):
            self.storage.put(uri, content.encode())

    def forget_unit(self, name: str) -> None:
        """Delete the record of a unit, so that it is done again."""
        uri = self._record_uri(name)
        check_no_link(self.output, self.units)
        with output_errors(uri):
            self.storage.delete(uri)
            self.storage.sync(self.units)

    def clear(self) -> None:
        """Remove the area and everything in it, once its run is published or abandoned.

        Records are deleted first, so that a run killed in between never trusts a record whose parts are gone.
        """
        check_no_link(self.output, self.folder)
        with output_errors(self.folder):
            for folder in (self.units, self.parts):
                self.storage.delete_folder(folder)
            self.storage.sync(self.folder)
            if not REMOVES_OPEN_FILES:
                self._remove_lock_last()
                return
            self.storage.delete_folder(self.folder)
            self.storage.sync(self.output)
        self.close()

    def _remove_lock_last(self) -> None:
        """Remove the area where the lock's file cannot be removed while it is locked: another run may lock it at once."""
        for entry in self.storage.list(self.folder):
            remove = self.storage.delete_folder if entry.is_folder else self.storage.delete
            if entry.name != _LOCK_NAME:
                remove(f"{self.folder}/{entry.name}")
        self.close()
        with suppress(OSError):
            self.storage.delete(f"{self.folder}/{_LOCK_NAME}")
        self.storage.delete_empty_folder(self.folder)

    def close(self) -> None:
        """Release the lock; the area stays for the next run."""
        self.lock.release()

    def _record_uri(self, name: str) -> str:
        return f"{self.units}/{_checked(name)}{_RECORD_SUFFIX}"

    def _lock(self) -> Lock:
        while True:
            check_no_link(self.output, self.folder)
            self.storage.make_folder(self.folder)
            try:
                lock = f"{self.folder}/{_LOCK_NAME}"
                return self.storage.lock(lock, shared=True) if self.is_shared else self.storage.lock(lock)
            except FileNotFoundError:
                # The run that held the lock removed the folder just now.
                continue
            except BlockingIOError as error:
                holder = f" (process {error.filename2})" if error.filename2 else ""
                raise OutputError(
                    f"{plain(self.output)}: another run{holder} is writing there; wait for it to finish, or choose"
                    " another output"
                ) from None


def results_folder(output: str) -> str:
    """Where the shards of a run keep what they know. Raises ``OutputError`` if it lies behind a link."""
    folder = f"{output}/{STAGING_NAME}/results"
    check_no_link(output, folder)
    return folder


def check_parts_folder(parts: str) -> None:
    """Raise ``OutputError`` if the folder for the parts of a staging area lies behind a link by now."""
    check_no_link(parts.removesuffix(f"/{STAGING_NAME}/parts"), parts)


def _checked(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise OutputError(
            f"'{plain(name)}' cannot name a part: use a file name without '/' that does not start with '.'"
        )
    return name
