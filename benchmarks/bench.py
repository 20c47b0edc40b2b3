"""What every benchmark is given: a folder of its own for data, and a scale for the sizes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Bench"]


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
