"""The interface of a sink: it writes the batches of one part to one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    # Publishing a file must not load NumPy or Arrow.
    from datacheck.batch import Batch


class PartWriter(Protocol):
    """Writes one part, which is complete only after ``close``; ``abort`` removes what was written."""

    def write(self, batch: Batch) -> None: ...

    def close(self) -> int:
        """Finish the part and make it durable; returns its size in bytes."""
        ...

    def abort(self) -> None: ...


class Sink(Protocol):
    """Writes one format. The same batches always give the same bytes."""

    format: ClassVar[str]
    suffix: ClassVar[str]

    def open(self, uri: str, template: Batch) -> PartWriter:
        """A writer for one part; ``template`` is an empty batch that gives names and types."""
        ...
