"""The verdict on one file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from datacheck.findings import Finding

__all__ = ["ColumnSummary", "Columns", "FileVerdict", "files_by_columns"]


class ColumnSummary(NamedTuple):
    """What is known of one field of a file, to be compared with other files.

    ``is_null`` is True if it has slots and no value; ``unseen`` says what its values are that no check sees into.
    """

    path: str | None
    dtype: str
    is_null: bool = False
    unseen: str = ""


Columns = tuple[ColumnSummary, ...]


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """The result of checking one file, independent of other files. ``columns`` is empty where it could not be read."""

    uri: str
    findings: tuple[Finding, ...] = ()
    num_rows: int = 0
    num_bytes: int = 0
    columns: Columns = ()


def files_by_columns(verdicts: Iterable[FileVerdict]) -> dict[Columns, list[str]]:
    """The files by their columns: most files of a dataset have the same."""
    files: dict[Columns, list[str]] = {}
    for verdict in verdicts:
        files.setdefault(verdict.columns, []).append(verdict.uri)
    return files
