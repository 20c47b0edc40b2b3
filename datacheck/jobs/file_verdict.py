"""The verdict on one file."""

from __future__ import annotations

from dataclasses import dataclass

from datacheck.findings import Finding

__all__ = ["FileVerdict"]


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """The result of checking one file, independent of other files."""

    uri: str
    findings: tuple[Finding, ...] = ()
    num_rows: int = 0
    num_bytes: int = 0
