"""Progress: who wants to know how far a job is, is told rows and bytes as units end."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NullProgress", "Progress"]


class Progress(Protocol):
    """Told of a job's progress, always from the thread that called the job."""

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        """A stage begins: ``task`` names it."""
        ...

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        """So many more units, rows and bytes are done."""
        ...


class NullProgress:
    """Tells nobody."""

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        pass

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        pass
