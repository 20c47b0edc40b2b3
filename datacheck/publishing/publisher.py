"""From finished units to an output: where each part goes, and the order in which a killed run can be gone on with.

The manifest of an earlier run goes first, and its files; then this run's parts get their final names; then its manifest
is written, and only then is the staging area removed. Whoever finds a manifest finds every file that it names. What is
about to be removed or moved is written down before (``run.json`` in the staging area), so that no file is ever left
that nobody knows of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datacheck.errors import OutputError
from datacheck.jobs.inputs import Input
from datacheck.jobs.units import records
from datacheck.jobs.units.clean import UnitRecord
from datacheck.jobs.units.label import CleanTask
from datacheck.publishing.atomic import publish_all, sync_directory, write_atomically
from datacheck.publishing.manifest import MANIFEST_NAME, STATISTICS_NAME, files_of
from datacheck.publishing.output_names import LEDGER, QUARANTINE, ROWS, FinalNames, kind_of
from datacheck.publishing.staging import StagingArea
from datacheck.sinks.concatenate import concatenate, supports_concatenation
from datacheck.storage.os_errors import output_errors
from datacheck.text import plain

__all__ = ["Publisher", "read_state"]

_STATE_NAME = "run.json"


def read_state(staging_folder: Path) -> dict[str, Any]:
    """What a run that did not end wrote down: ``fingerprint``, ``moves`` (part to final name) and ``replaces``."""
    with suppress(OSError, ValueError):
        state = json.loads((staging_folder / _STATE_NAME).read_bytes())
        if isinstance(state, dict):
            return state
    return {}


class Publisher:
    """Keeps what a run has done, and publishes it.

    ``before`` is the manifest of an earlier run that is to be replaced.
    """

    def __init__(self, staging: StagingArea, fingerprint: str, before: Mapping[str, Any] | None) -> None:
        self.staging = staging
        self.fingerprint = fingerprint
        self.parts = staging.parts
        self._output = staging.output_dir
        self._names = FinalNames()
        #: Where each part goes, from the output folder; those of a run that was killed while it published.
        self._moves: dict[str, str] = {}
        self._moved: dict[str, str] = {}
        state = read_state(staging.folder)
        moves: dict[str, str] = dict(state.get("moves", {}))
        #: Files of earlier runs, ended or killed, that are to go.
        self._before: dict[str, None] = dict.fromkeys(state.get("replaces", ()))
        if before is not None:
            self._before.update(dict.fromkeys(files_of(before)))
        if state.get("fingerprint") == fingerprint:
            self._moved = moves
        else:
            self._before.update(dict.fromkeys(moves.values()))
            self._forget()
        self._write_state(self._moved)

    def check_folders(self, splits: Iterable[str]) -> None:
        """Raise ``OutputError`` where a folder of the output holds what no run put there: readers would take it for rows."""
        known = {self._output / name for name in (*self._before, *self._moved.values())}
        for folder in (*splits, QUARANTINE, LEDGER):
            with output_errors(self._output / folder):
                for path in sorted((self._output / folder).rglob("*")):
                    if path not in known and not path.name.startswith((".", "_")) and not path.is_dir():
                        raise OutputError(
                            f"{plain(str(path))}: was not written by datacheck; move it away, or choose another output"
                        )

    def finished(self, tasks: Sequence[CleanTask]) -> dict[str, UnitRecord]:
        """The units that an earlier, killed run of the same job finished, whose parts are still there.

        One that ran in another folder called the inputs by other paths, which are in its parts: those are made again.
        """
        uris = {task.name: task.unit.uri for task in tasks}
        found = {}
        for name, record in self.staging.finished_units().items():
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                read = records.from_json(record)
                if read.uri == uris.get(name) and all(self._is_there(part, size) for part, size in read.parts.items()):
                    found[name] = read
        return found

    def _is_there(self, part: str, size: int) -> bool:
        places = [self.parts / part]
        if part in self._moved:
            places.append(self._output / self._moved[part])
        for place in places:
            with suppress(OSError):
                if place.stat().st_size == size:
                    return True
        return False

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost with the staging area: no unit is done, and no file is waiting to be removed."""
        has_manifest = (self._output / MANIFEST_NAME).exists()
        has_statistics = (self.staging.folder / STATISTICS_NAME).exists()
        is_waiting = bool(self._moved or self._before) and not has_manifest
        return not (is_waiting or has_statistics or self.staging.finished_units())

    def record(self, record: UnitRecord) -> UnitRecord:
        """Write down that a unit is done, unless its input could not be read or a rule made it fail."""
        if record.error is None and not record.failed:
            self.staging.record_unit(record.name, records.to_json(record))
        return record

    def discard(self, units: Sequence[tuple[CleanTask, UnitRecord]]) -> None:
        """Forget the units of an input of which another unit could not be read."""
        for _, record in units:
            if record.error is None:
                self.staging.forget_unit(record.name)
            for part in record.parts:
                with suppress(OSError):
                    (self.parts / part).unlink()

    def place(self, item: Input, units: Sequence[tuple[CleanTask, UnitRecord]], format_: str) -> list[dict[str, Any]]:
        """Decide the final names of an input's parts; what each of them is, for the manifest."""
        outputs: list[dict[str, Any]] = []
        joined: list[list[str]] = []
        for task, record in units:
            rows = [part for part in record.parts if kind_of(part) == ROWS]
            if supports_concatenation(format_):
                joined = joined or [[] for _ in rows]
                for parts, part in zip(joined, rows, strict=bool(rows)):
                    parts.append(part)
            for part, size in record.parts.items():
                kind = kind_of(part)
                if kind == ROWS and joined:
                    continue
                counts = {ROWS: record.num_kept, QUARANTINE: record.num_quarantined}
                num_rows = counts.get(kind, record.num_dropped + record.num_quarantined)
                final = self._moves[part] = self._names.of_part(task, part)
                outputs.append(_output(final, kind, num_rows, task.unit.row_start, record.num_read, size))
        arrays = next((record.arrays for _, record in units if record.arrays), [])
        for array, parts in zip(arrays, joined, strict=bool(joined)):
            outputs.append(self._place_joined(item, array, parts, units, format_))
        return outputs

    def _place_joined(
        self,
        item: Input,
        array: str | None,
        parts: Sequence[str],
        units: Sequence[tuple[CleanTask, UnitRecord]],
        format_: str,
    ) -> dict[str, Any]:
        """One file of all the rows of an input, for formats that readers do not take in parts."""
        final = self._names.of_array(item, array, Path(parts[0]).suffix)
        part = parts[0]
        size = next(record.parts[part] for _, record in units if part in record.parts)
        if len(parts) > 1:
            part = f"{parts[0]}.joined"
            size = concatenate(format_, [self.parts / name for name in parts], self.parts / part)
        self._moves[part] = final
        num_rows = sum(record.num_kept for _, record in units)
        return _output(final, ROWS, num_rows, 0, sum(record.num_read for _, record in units), size)

    def publish(self, manifest: bytes, statistics: str | None) -> None:
        """Give every part its final name, then write the manifest, then remove the staging area."""
        self._remove_before()
        self._before = {}
        written = {} if statistics is None else {STATISTICS_NAME: STATISTICS_NAME}
        self._write_state({**self._moves, **written})
        moves = [(self.parts / part, self._output / final) for part, final in self._moves.items()]
        publish_all((staged, final) for staged, final in moves if staged.exists())
        if statistics is not None:
            write_atomically(self._output / STATISTICS_NAME, statistics.encode())
        write_atomically(self._output / MANIFEST_NAME, manifest)
        self.staging.clear()

    def give_up(self) -> None:
        """Publish nothing, and keep nothing."""
        self.staging.clear()

    def _remove_before(self) -> None:
        """Remove the output of the run before: its manifest first, so that what is left is never believed."""
        ours = set(self._moved.values())
        root = self._output.resolve()
        with output_errors(self._output):
            (self._output / MANIFEST_NAME).unlink(missing_ok=True)
            sync_directory(self._output)
            for name in self._before:
                path = self._output / name
                if name not in ours and path.parent.resolve().is_relative_to(root):
                    path.unlink(missing_ok=True)
                    for folder in path.relative_to(self._output).parents[:-1]:
                        with suppress(OSError):
                            (self._output / folder).rmdir()

    def _write_state(self, moves: Mapping[str, str]) -> None:
        state = {"fingerprint": self.fingerprint, "moves": dict(moves), "replaces": list(self._before)}
        write_atomically(self.staging.folder / _STATE_NAME, json.dumps(state).encode())

    def _forget(self) -> None:
        """Forget what a run of another job left here."""
        for name in self.staging.finished_units():
            self.staging.forget_unit(name)
        with output_errors(self.parts):
            for part in self.parts.iterdir():
                part.unlink()
            (self.staging.folder / STATISTICS_NAME).unlink(missing_ok=True)


def _output(path: str, kind: str, num_rows: int, row_start: int, num_read: int, num_bytes: int) -> dict[str, Any]:
    """What the manifest says of one file."""
    return {
        "path": path,
        "kind": kind,
        "num_rows": num_rows,
        "row_start": row_start,
        "num_read": num_read,
        "num_bytes": num_bytes,
    }
