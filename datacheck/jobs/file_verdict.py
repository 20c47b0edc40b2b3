"""The verdict on one file."""

from __future__ import annotations

from dataclasses import dataclass

from datacheck.findings import Finding

__all__ = ["FileVerdict"]


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What there is to say of one file on its own, whatever other files there are."""

    uri: str
    findings: tuple[Finding, ...] = ()
    num_rows: int = 0
    num_bytes: int = 0
