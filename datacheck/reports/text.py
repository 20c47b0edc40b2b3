"""A report for people: one line a finding, then one line that sums up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from datacheck.findings import Finding, Severity
from datacheck.reports.report import Report
from datacheck.text import quantity

__all__ = ["render", "render_finding", "render_text", "size_in_words", "summary"]

_WORDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def render(report: Report) -> str:
    """The report as its own kind shows itself: a scan by finding, a run by field and split."""
    return str(report)


def render_text(report: Report) -> str:
    """Every finding in a line, then the summary."""
    return "\n".join([*map(render_finding, report.findings), summary(report)])


def render_finding(finding: Finding) -> str:
    """One finding in one line: ``DC101 3 of 4,096 values are NaN in 'x' (train.parquet, row group 2, rows 17, 90, 91)``."""
    mark = "" if finding.is_error else f"{finding.severity.value}: " if finding.severity else ""
    return f"{finding.code} {mark}{finding.message}"


def summary(report: Report, *, with_rate: bool = True) -> str:
    """What was read, how fast, and what came of it; no rate where not all of it was read."""
    found = ", ".join(_numbers(report.findings)) or "no findings"
    rate = f", {size_in_words(report.num_bytes / report.seconds)}/s" if with_rate and report.seconds > 0 else ""
    read = (
        f"{quantity(report.num_files, 'file')}, {quantity(report.num_rows, 'row')}, {size_in_words(report.num_bytes)}"
    )
    return f"{found} in {read} ({report.seconds:.2f} s{rate})"


def _numbers(findings: Sequence[Finding]) -> Iterable[str]:
    """How many errors, warnings and notes there are; errors also where there is none beside others."""
    severities = Counter(finding.severity for finding in findings)
    for severity, word in _WORDS.items():
        if severities[severity] or (findings and severity is Severity.ERROR):
            yield quantity(severities[severity], word)


def size_in_words(num_bytes: float) -> str:
    """``1536`` as ``1.5 KiB``."""
    for unit in _UNITS[:-1]:
        if num_bytes < 1024:
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:,.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.1f} {_UNITS[-1]}"
