"""The staging area of an output folder: finished parts, records of finished units, and the lock of the running job.

::

    <output>/.datacheck/
        lock        held while a run writes; the system releases it when the run's main process dies, however it
                    dies: forked workers do not inherit it
        parts/      finished parts, under their own names
        units/      one JSON record per finished unit, written once its parts are durable
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from datacheck.errors import OutputError
from datacheck.publishing.links import check_no_link
from datacheck.publishing.sealed_json import DamagedError, read_json, sealed, unsealed
from datacheck.storage import storage_of
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

__all__ = ["STAGING_NAME", "StagingArea", "check_parts_folder"]

#: The folder inside an output that holds everything unpublished.
STAGING_NAME = ".datacheck"
_RECORD_SUFFIX = ".json"


class StagingArea:
    """The staging area of ``output``, created and locked on construction and unlocked by ``close``.

    A context manager. Raises ``OutputError`` if the folder cannot be written or another run has locked it. Removes the
    partial files that a killed run left in the output folder and in the area.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        self.folder = f"{output}/{STAGING_NAME}"
        self.parts = f"{self.folder}/parts"
        self.units = f"{self.folder}/units"
        self.storage = storage_of(output)
        with output_errors(self.folder):
            self._unlock = self._lock()
        try:
            with output_errors(self.folder):
                for folder in (self.parts, self.units):
                    check_no_link(self.output, folder)
                    self.storage.make_folder(folder)
                for folder in (self.output, self.folder, self.parts, self.units):
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
        records: dict[str, dict[str, Any]] = {}
        check_no_link(self.output, self.units)
        with output_errors(self.units):
            for entry in self.storage.list(self.units):
                if not entry.name.endswith(_RECORD_SUFFIX):
                    continue
                with suppress(DamagedError):
                    record = unsealed(read_json(f"{self.units}/{entry.name}"))
                    records[entry.name.removesuffix(_RECORD_SUFFIX)] = record
        return records

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
            self.storage.delete_folder(self.folder)
            self.storage.sync(self.output)
        self.close()

    def close(self) -> None:
        """Release the lock; the area stays for the next run."""
        self._unlock()

    def _record_uri(self, name: str) -> str:
        return f"{self.units}/{_checked(name)}{_RECORD_SUFFIX}"

    def _lock(self) -> Callable[[], None]:
        while True:
            check_no_link(self.output, self.folder)
            self.storage.make_folder(self.folder)
            try:
                return self.storage.lock(f"{self.folder}/lock")
            except FileNotFoundError:
                # The run that held the lock removed the folder just now.
                continue
            except BlockingIOError as error:
                holder = f" (process {error.filename2})" if error.filename2 else ""
                raise OutputError(
                    f"{plain(self.output)}: another run{holder} is writing there; wait for it to finish, or choose"
                    " another output"
                ) from None


def check_parts_folder(parts: str) -> None:
    """Raise ``OutputError`` if the folder for the parts of a staging area lies behind a link by now."""
    check_no_link(parts.removesuffix(f"/{STAGING_NAME}/parts"), parts)


def _checked(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise OutputError(
            f"'{plain(name)}' cannot name a part: use a file name without '/' that does not start with '.'"
        )
    return name
