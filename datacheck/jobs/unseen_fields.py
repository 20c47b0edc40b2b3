"""One note for each field of a dataset whose values no check sees into."""

from __future__ import annotations

import re
from collections.abc import Iterable

from datacheck.findings import Finding
from datacheck.jobs.file_verdict import FileVerdict, files_by_columns
from datacheck.text import join_limited, quantity

_DETAILS = {
    "JSON": "it holds JSON as text, whose numbers are not checked; store it as a struct or a list",
    "vectors": "it holds lists of numbers as text, in which NaN is not found; store them as lists of numbers",
    "bytes": "it holds bytes, in which no number is checked; store tensors as lists of numbers",
}
_SUFFIX_OF_BYTES = re.compile(r"[_.]?(bytes|data|raw|buffer|values?|tensor)$", re.IGNORECASE)


def unseen_fields(verdicts: Iterable[FileVerdict]) -> list[Finding]:
    """One note for each field that holds values which no check sees into, over all files."""
    files: dict[tuple[str | None, str], list[str]] = {}
    for columns, uris in files_by_columns(verdicts).items():
        for column in columns:
            if column.unseen:
                detail = _describe(column.path, column.unseen, [other.path for other in columns])
                files.setdefault((column.path, detail), []).extend(uris)
    return [
        Finding("DC008", uris[0], path, len(uris), len(uris), detail=_with_others(detail, len(uris) - 1))
        for (path, detail), uris in files.items()
    ]


def _with_others(detail: str, num_others: int) -> str:
    return f"{detail}; also in {quantity(num_others, 'other file')}" if num_others else detail


def _describe(path: str | None, kind: str, paths: Iterable[str | None]) -> str:
    """The detail of a finding on a field, with the details of the other fields that say how to read its bytes."""
    if kind in ("JSON", "vectors"):
        return _DETAILS[kind]
    stems = {path or "", _SUFFIX_OF_BYTES.sub("", path or "")}
    keys = {f"{stem}{separator}{what}" for stem in stems for separator in "_." for what in ("shape", "dtype")}
    beside = [other for other in paths if other in keys]
    if beside:
        fix = "probably tensors; store them as lists of numbers"
        return f"it holds bytes, which with {join_limited(beside)} are {fix}"
    return _DETAILS.get(kind, f"it holds {kind} as bytes, which are not decoded")
