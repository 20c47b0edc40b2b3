"""What a sink is: it writes the batches of one part to one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    # Whoever only publishes a file loads neither NumPy nor Arrow.
    from datacheck.batch import Batch

__all__ = ["PartWriter", "Sink"]


class PartWriter(Protocol):
    """Writes one part. Nothing is complete before ``close`` returns; ``abort`` removes what was written."""

    def write(self, batch: Batch) -> None: ...

    def close(self) -> int:
        """Finish and sync the file to disk; the number of bytes that it holds."""
        ...

    def abort(self) -> None: ...


class Sink(Protocol):
    """Writes one format. The same batches give the same bytes, always."""

    format: ClassVar[str]
    suffix: ClassVar[str]

    def open(self, path: Path, template: Batch) -> PartWriter:
        """A writer for one part; ``template`` is a batch of no rows that gives names and types."""
        ...
