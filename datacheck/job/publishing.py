"""From finished units to an output: where each part goes, and the order in which a killed run can be gone on with.

The manifest of an earlier run goes first, and its files; then this run's parts get their final names; then its manifest
is written, and only then is the staging area removed. Whoever finds a manifest finds every file that it names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datacheck.job import records
from datacheck.job.inputs import Input
from datacheck.job.manifest import MANIFEST_NAME
from datacheck.job.unit_clean import CleanTask, UnitRecord
from datacheck.sinks.concatenate import concatenate, supports_concatenation
from datacheck.sinks.failures import output_errors
from datacheck.sinks.publish import publish_all, sync_directory, write_atomically
from datacheck.sinks.staging import StagingArea

__all__ = ["STATISTICS_NAME", "Publisher"]

STATISTICS_NAME = "statistics.json"
_STATE_NAME = "run.json"


class Publisher:
    """Keeps what a run has done, and publishes it.

    ``before`` is the manifest of an earlier run that is to be replaced.
    """

    def __init__(self, staging: StagingArea, fingerprint: str, before: Mapping[str, Any] | None) -> None:
        self.staging = staging
        self.fingerprint = fingerprint
        self.parts = staging.parts
        self._output = staging.output_dir
        self._moves: list[tuple[Path, Path]] = []
        state = self._read_state()
        is_same = state.get("fingerprint") == fingerprint
        self._is_publishing = is_same and state.get("publishing") is True
        #: Files of an earlier run's output that are to go.
        self._before: list[str] = list(state.get("replaces", ()))
        if before is not None:
            self._before = [part["path"] for account in before["inputs"] for part in account["outputs"]]
        if not is_same:
            self._forget()
        self._write_state(publishing=self._is_publishing)

    def finished(self) -> dict[str, UnitRecord]:
        """The units that an earlier, killed run of the same job finished, whose parts are still there."""
        found = {}
        for name, record in self.staging.finished_units().items():
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                read = records.from_json(record)
                if all(self._is_there(part, size, name) for part, size in read.parts.items()):
                    found[name] = read
        return found

    def _is_there(self, part: str, size: int, task_name: str) -> bool:
        places = [self.parts / part]
        if self._is_publishing:
            places.append(self._output / _final_name(task_name.partition(".")[0], part))
        for place in places:
            with suppress(OSError):
                if place.stat().st_size == size:
                    return True
        return False

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
        joined: dict[str, list[str]] = {}
        for task, record in units:
            for part in record.parts:
                kind = _kind(part)
                if kind == "rows" and supports_concatenation(format_):
                    joined.setdefault(part.removeprefix(task.name), []).append(part)
                    continue
                final = _final_name(task.split, part)
                self._moves.append((self.parts / part, self._output / final))
                rows = {"rows": record.num_kept, "quarantine": record.num_quarantined}.get(
                    kind, record.num_dropped + record.num_quarantined
                )
                outputs.append(
                    {
                        "path": final,
                        "kind": kind,
                        "num_rows": rows,
                        "row_start": task.unit.row_start,
                        "num_read": record.num_read,
                    }
                )
        names: list[str | None] = list(item.files) if item.files else [None] * len(joined)
        for (ending, parts), name in zip(joined.items(), names, strict=True):
            num_rows = sum(record.num_kept for _, record in units)
            final = f"{item.split}/{self._joined_name(item, name, Path(ending).suffix)}"
            staged = self.parts / f"{units[0][0].name}{ending}.joined"
            if len(parts) == 1:
                staged = self.parts / parts[0]
            else:
                concatenate(format_, [self.parts / part for part in parts], staged)
            self._moves.append((staged, self._output / final))
            num_read = sum(record.num_read for _, record in units)
            outputs.append({"path": final, "kind": "rows", "num_rows": num_rows, "row_start": 0, "num_read": num_read})
        return outputs

    def _joined_name(self, item: Input, field: str | None, suffix: str) -> str:
        if field is not None:
            return f"{field}{suffix}"
        plain_name = f"{Path(item.uri).stem}{suffix}"
        taken = Counter(final for _, final in self._moves)
        if taken[self._output / item.split / plain_name] == 0:
            return plain_name
        return f"{Path(item.uri).stem}-{len(self._moves)}{suffix}"

    def publish(self, manifest: bytes, statistics: str | None) -> None:
        """Give every part its final name, then write the manifest, then remove the staging area."""
        self._remove_before()
        self._before = []
        self._write_state(publishing=True)
        publish_all((staged, final) for staged, final in self._moves if staged.exists())
        if statistics is not None:
            write_atomically(self._output / STATISTICS_NAME, statistics.encode())
        write_atomically(self._output / MANIFEST_NAME, manifest)
        self.staging.clear()

    def give_up(self) -> None:
        """Publish nothing, and keep nothing."""
        self.staging.clear()

    def _remove_before(self) -> None:
        """Remove the output of the run before: its manifest first, so that what is left is never believed."""
        ours = {final for _, final in self._moves} if self._is_publishing else set()
        with output_errors(self._output):
            (self._output / MANIFEST_NAME).unlink(missing_ok=True)
            sync_directory(self._output)
            for part in self._before:
                path = self._output / part
                if path not in ours and path.resolve().is_relative_to(self._output.resolve()):
                    path.unlink(missing_ok=True)

    def _read_state(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            state = json.loads((self.staging.folder / _STATE_NAME).read_bytes())
            if isinstance(state, dict):
                return state
        return {}

    def _write_state(self, *, publishing: bool) -> None:
        self._is_publishing = publishing
        state = {"fingerprint": self.fingerprint, "publishing": publishing, "replaces": self._before}
        write_atomically(self.staging.folder / _STATE_NAME, json.dumps(state).encode())

    def _forget(self) -> None:
        """Forget what a run of another job left here."""
        for name in self.staging.finished_units():
            self.staging.forget_unit(name)
        with output_errors(self.parts):
            for part in self.parts.iterdir():
                part.unlink()
            (self.staging.folder / STATISTICS_NAME).unlink(missing_ok=True)


def _kind(part: str) -> str:
    if part.endswith(".ledger.parquet"):
        return "ledger"
    return "quarantine" if ".quarantine." in part else "rows"


def _final_name(split: str, part: str) -> str:
    """Where a part goes, from the output folder: rows to their split, the rest to folders of their own."""
    kind = _kind(part)
    name = part.removeprefix(f"{split}.").replace(f".{kind}.", ".")
    return f"{split}/{name}" if kind == "rows" else f"{kind}/{split}/{name}"
