"""The options of a table sink, which come from pipeline files and can be of any type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from datacheck.batch import Batch
from datacheck.errors import UsageError, nearest_name
from datacheck.sinks.writer import FileWriter
from datacheck.text import plain


@dataclass(frozen=True, slots=True)
class TableSink:
    """A sink with a compression, and key-value ``metadata`` of the schema. Raises ``UsageError`` for other options.

    Attributes:
        compressions: the names of the compressions that its ``writer`` knows.
    """

    format: ClassVar[str]
    suffix: ClassVar[str]
    compressions: ClassVar[tuple[str, ...]]
    writer: ClassVar[type[Any]]
    compression: str = "none"
    metadata: Mapping[str | bytes, str | bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given: Any = self.metadata
        if self.compression not in self.compressions:
            name = plain(str(self.compression))
            hint = nearest_name(name, self.compressions)
            raise UsageError(
                f"{self.format}: unknown compression '{name}'{hint}; use one of {', '.join(self.compressions)}"
            )
        if not isinstance(given, Mapping) or not all(
            isinstance(text, str | bytes) for pair in given.items() for text in pair
        ):
            raise UsageError(f"{self.format}: metadata: expected strings by name, such as {{'origin': 'nycflights13'}}")

    def open(self, uri: str, template: Batch) -> FileWriter:
        writer: FileWriter = self.writer(uri, template, self.compression, dict(self.metadata) or None)
        return writer
