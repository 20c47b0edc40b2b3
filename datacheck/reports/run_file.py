"""The file that a guard writes while training runs: a JSON value per line, for ``datacheck watch`` and for resuming."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datacheck.errors import SourceError, UsageError
from datacheck.text import finite_json, plain

#: The longest line that is read: a diagnosis and its propagation path take some kilobytes.
MAX_LINE = 1 << 20


def run_file_name(rank: int) -> str:
    """The name of the file of a rank, in the folder of the run."""
    return "guard.jsonl" if rank == 0 else f"guard-rank{rank}.jsonl"


class RunFile:
    """Appends events, each in one write, so that a killed run leaves whole lines."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.path = folder / run_file_name(rank)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor: int | None = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(f"run_dir: cannot write to {plain(str(folder))}: {error.strerror}") from error

    def write(self, event: str, **fields: Any) -> None:
        """Append one event."""
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        record = {"event": event, "time": round(time.time(), 3), **finite_json(fields)}
        os.write(self._descriptor, json.dumps(record, allow_nan=False, default=str).encode() + b"\n")

    def close(self) -> None:
        """Close the file; a later event opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_events(path: Path, offset: int = 0) -> tuple[list[Mapping[str, Any]], int]:
    """The events of a file from an offset on, and the offset after them.

    A line that is still being written is left for the next time; one that is damaged is left out.
    """
    events: list[Mapping[str, Any]] = []
    try:
        with path.open("rb") as file:
            if offset > os.fstat(file.fileno()).st_size:
                offset = 0
            file.seek(offset)
            while line := file.readline(MAX_LINE):
                if not line.endswith(b"\n") and len(line) < MAX_LINE:
                    break
                offset += len(line)
                record = _parse(line)
                if isinstance(record, dict) and isinstance(record.get("event"), str):
                    events.append(record)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SourceError("DC901", str(path), error.strerror or str(error)) from error
    return events, offset


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
