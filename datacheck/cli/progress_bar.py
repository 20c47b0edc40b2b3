"""The progress bar on stderr: rows, bytes and rate."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["ProgressBar"]


class ProgressBar:
    """A transient progress bar for a job; a context manager."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._num_rows = 0

    def __enter__(self) -> ProgressBar:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, traceback)

    def start(self, task: str, num_units: int, num_bytes: int) -> None:  # noqa: ARG002 - the protocol's arguments
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._num_rows = 0
        self._task = self._progress.add_task(task, total=num_bytes, rows=0)

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:  # noqa: ARG002 - the protocol's arguments
        if self._task is not None:
            self._num_rows += num_rows
            self._progress.update(self._task, advance=num_bytes, rows=self._num_rows)
