"""Tables whose log says which files they have. Those are read, so what is left to say is why a log cannot be followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from datacheck.batch import Batch
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit
from datacheck.sources.dataset_folders import log_error
from datacheck.sources.discover import InputFile


class LoggedTable:
    """A table as a source: it raises what is wrong with its log."""

    format: ClassVar[str]

    def list_files(self, uri: str, options: ReadOptions) -> Sequence[InputFile]:
        raise NotImplementedError

    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        self.list_files(uri, options)
        raise log_error(uri, "it is the folder of a table", "name the folder, not this")

    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        raise log_error(unit.uri, "it is the folder of a table", "name the folder, not this")
