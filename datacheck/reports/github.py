"""Workflow commands of GitHub Actions: findings as annotations of a pull request."""

from __future__ import annotations

from datacheck.findings import Finding
from datacheck.reports.gate_text import summary_in_full
from datacheck.reports.places import inside_path
from datacheck.reports.report import Report
from datacheck.text import plain

__all__ = ["render"]

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(report: Report) -> str:
    """One command a finding, then the summary as a plain line of the log."""
    return "\n".join([*map(_command, report.findings), _data(summary_in_full(report))])


def _command(finding: Finding) -> str:
    level = _LEVELS[finding.severity.value if finding.severity else "error"]
    title = f"{finding.code} {finding.name}"
    return f"::{level} file={_property(inside_path(finding.uri))},title={_property(title)}::{_data(finding.message)}"


def _data(text: str) -> str:
    return plain(text, 4000).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
