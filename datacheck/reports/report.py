"""The report: all findings, counts and the time taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datacheck.findings import Finding
from datacheck.reports.text import format_size, format_volume, num_by_severity, render_finding, row_note

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a scan or a run found.

    ``num_rows`` counts the rows read. ``num_bytes`` is the size of the inputs on disk, or in memory for data that was
    already there. ``seconds`` is wall time.
    """

    findings: tuple[Finding, ...] = ()
    num_files: int = 0
    num_rows: int = 0
    num_bytes: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there are no errors. Warnings and notes do not count."""
        return not any(finding.is_error for finding in self.findings)

    def __bool__(self) -> bool:
        """Raise: ``if report:`` reads as "if there is something to report" to one and as "if it is ok" to another."""
        raise TypeError("a report is neither true nor false; use report.ok, or report.findings")

    def for_ci(self) -> Report:
        """The report for CI tools, which fail on any error: it has errors only if the report is not ``ok``."""
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
        """The report as strict JSON: ASCII only, without NaN or Infinity tokens."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Report:
        """Read what :meth:`to_dict` wrote."""
        findings = tuple(Finding.from_dict(finding) for finding in record["findings"])
        return cls(findings, record["num_files"], record["num_rows"], record["num_bytes"], record["seconds"])

    def summary(self) -> str:
        """One line: the number of findings, what was read, and how fast."""
        return self._summary(with_rate=True)

    def _summary(self, *, with_rate: bool) -> str:
        rate = f", {format_size(self.num_bytes / self.seconds)}/s" if with_rate and self.seconds > 0 else ""
        volume = format_volume(self.num_files, self.num_rows, self.num_bytes)
        return f"{num_by_severity(self.findings)} in {volume} ({self.seconds:.2f} s{rate})"

    def __str__(self) -> str:
        return "\n".join([*map(render_finding, self.findings), f"{self.summary()}{row_note(self.findings)}"])
