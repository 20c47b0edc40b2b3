"""The verdict on one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from datacheck.codes import CODES
from datacheck.findings import Finding

if TYPE_CHECKING:
    # A verdict that is remembered needs no Arrow.
    from datacheck.checks.structure import FieldMap


#: For each path the number of slots of a file, and of those that hold a value.
NumValues = Mapping[str | None, tuple[int, int]]


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


def columns_of(fields: FieldMap, num_values: NumValues) -> Columns:
    """The summaries of the fields that a file has of itself, which those that describe an image or a recording are not."""
    return tuple(
        ColumnSummary(path, facts.dtype, _is_null(num_values.get(path, (0, 0))), facts.unseen)
        for path, facts in fields.items()
        if not facts.is_derived
    )


def _is_null(counts: tuple[int, int]) -> bool:
    slots, present = counts
    # One row says nothing about a file.
    return slots > 1 and not present


def with_count(finding: Finding, num_rows: int, num_values: NumValues) -> Finding:
    """Set the number of rows or values in the file, unless the finding is from a named rule, which counts itself.

    The spread is that over the whole file.
    """
    code = CODES[finding.code]
    if finding.spread is not None:
        finding = replace(finding, spread=finding.spread.over(num_rows))
    if finding.rule is not None:
        return finding
    if code.level == "row":
        return replace(finding, num_checked=num_rows)
    if not code.counts_values or finding.field not in num_values:
        return finding
    slots, present = num_values[finding.field]
    if code.becomes_null:
        present += finding.num_violations
    return replace(finding, num_checked=slots if code.counts_nulls else present)
