"""Reporting the progress of a job as its units finish."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NullProgress", "Progress"]


class Progress(Protocol):
    """Receives the progress of a job, always on the thread that called it."""

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        """A stage starts; ``task`` is its name."""
        ...

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        """That many more units, rows and bytes are finished."""
        ...


class NullProgress:
    """Ignores all progress."""

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        pass

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        pass
