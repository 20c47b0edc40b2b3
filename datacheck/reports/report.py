"""The report: all findings, counts and the time that it took, whatever door they came through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datacheck.findings import Finding

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a scan or a run found.

    ``num_rows`` are the rows that were read, ``num_bytes`` the bytes of the inputs on disk (in memory, for data that was
    there), ``seconds`` the wall time.
    """

    findings: tuple[Finding, ...] = ()
    num_files: int = 0
    num_rows: int = 0
    num_bytes: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was found that is an error."""
        return not any(finding.is_error for finding in self.findings)

    def judged(self) -> Report:
        """The report as the tools of CI are told: its errors are what makes it not ok, and nothing else."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "ok": self.ok,
            "num_files": self.num_files,
            "num_rows": self.num_rows,
            "num_bytes": self.num_bytes,
            "seconds": round(self.seconds, 6),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The report as JSON that any reader takes: no NaN or Infinity tokens, ASCII only."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Report:
        """The report that :meth:`to_dict` wrote."""
        findings = tuple(Finding.from_dict(finding) for finding in record["findings"])
        return cls(findings, record["num_files"], record["num_rows"], record["num_bytes"], record["seconds"])

    def __str__(self) -> str:
        from datacheck.reports.text import render_text

        return render_text(self)
