"""Reporting the progress of a job as its units finish, and a bar that shows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from datacheck.errors import UsageError
from datacheck.reports.text import format_size


class Progress(Protocol):
    """Receives the progress of a job, always on the thread that called it."""

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        """A stage starts; ``task`` is its name."""
        ...

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        """That many more units, rows and bytes are finished."""
        ...


#: True for a bar on stderr, False or None for nothing, or an object with the methods of :class:`Progress`.
ProgressLike = Progress | bool | None


class NullProgress:
    """Ignores all progress."""

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        pass

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        pass


@contextmanager
def following(progress: ProgressLike) -> Iterator[Progress]:
    """What follows a job in this block; a bar that ``progress=True`` asks for ends with it."""
    if progress is not True:
        if progress and not hasattr(progress, "advance"):
            raise UsageError(f"progress: expected True, or an object with start and advance, got {progress!r}")
        yield progress or NullProgress()
        return
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.close()


#: Cells of the bar, and the least number of seconds between two drawings: on a screen, and in a log.
_WIDTH = 20
_SCREEN_PERIOD, _LOG_PERIOD = 0.1, 10.0


class ProgressBar:
    """One line for each stage of a job, drawn over and over: in a terminal, and below the cell of a notebook.

    A log, which keeps every line, gets one every 10 seconds. ``leave`` says whether the line stays once its stage is over.
    """

    def __init__(self, stream: TextIO | None = None, *, leave: bool = True) -> None:
        self._stream = stream or sys.stderr
        self._leave = leave
        self._is_screen = self._stream.isatty() or type(self._stream).__module__.startswith("ipykernel")
        self._task = ""
        self._drawn = 0
        self._total = self._done = self._num_rows = 0
        self._started = self._last = 0.0

    def start(self, task: str, num_units: int, num_bytes: int) -> None:  # noqa: ARG002 - the protocol's arguments
        self.close()
        self._task, self._total, self._done, self._num_rows = task, num_bytes, 0, 0
        self._started = self._last = time.monotonic()
        if self._is_screen:
            self._draw()

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:  # noqa: ARG002 - the protocol's arguments
        self._done, self._num_rows = self._done + num_bytes, self._num_rows + num_rows
        if time.monotonic() - self._last >= (_SCREEN_PERIOD if self._is_screen else _LOG_PERIOD):
            self._draw()

    def close(self) -> None:
        """End the line of the stage."""
        if not self._task:
            return
        if self._is_screen and not self._leave:
            self._write(f"\r{' ' * self._drawn}\r")
        else:
            self._draw()
            self._write("\n" if self._is_screen else "")
        self._task, self._drawn = "", 0

    def _draw(self) -> None:
        self._last = time.monotonic()
        line = self._line(self._last - self._started)
        self._write(f"\r{line.ljust(self._drawn)}" if self._is_screen else f"{line}\n")
        self._drawn = len(line)

    def _line(self, seconds: float) -> str:
        rate = f", {format_size(self._done / seconds)}/s" if self._done and seconds > 0.01 else ""
        counted = f"{self._num_rows:,} rows{rate}"
        if not self._total:  # which is unknown for data in memory
            return f"{self._task} {format_size(self._done)}, {counted}, {_clock(seconds)}"
        share = min(self._done / self._total, 1.0)
        full = round(share * _WIDTH)
        ending = f"{_clock(seconds / share - seconds)} left" if 0 < share < 1 else _clock(seconds)
        volume = f"{format_size(self._done)} of {format_size(self._total)}, {counted}"
        return f"{self._task} {share:4.0%} |{'#' * full}{'.' * (_WIDTH - full)}| {volume}, {ending}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
