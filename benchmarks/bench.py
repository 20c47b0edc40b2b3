"""What every benchmark is given: a folder of its own for data, and a scale for the sizes."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.results import Section

__all__ = ["Bench", "is_installed"]


@dataclass(frozen=True, slots=True)
class Bench:
    """Sizes are those of the targets times ``scale``."""

    folder: Path
    scale: float = 1.0

    def rows(self, full: int, least: int = 1) -> int:
        """``full`` rows at this scale, and no fewer than ``least``."""
        return max(least, round(full * self.scale))

    @contextmanager
    def room(self, name: str) -> Iterator[Path]:
        """An empty folder for one benchmark, removed afterwards: the data of all of them would not fit at once."""
        room = self.folder / name
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir(parents=True)
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)


def is_installed(library: str, section: Section | None = None) -> bool:
    """Whether a peer is there to race against; where it is not, the section says so."""
    found = importlib.util.find_spec(library) is not None
    if not found and section is not None:
        section.notes.append(f"Not measured, since it is not installed: {library}.")
    return found
