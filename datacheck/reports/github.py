"""Workflow commands of GitHub Actions: findings as annotations of a pull request."""

from __future__ import annotations

from collections import Counter

from datacheck.findings import Finding
from datacheck.reports.gate_text import summary_in_full
from datacheck.reports.places import inside_path
from datacheck.reports.report import Report
from datacheck.text import plain, quantity

__all__ = ["render"]

#: Annotations that GitHub shows of each level in a step.
_SHOWN = 10
_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(report: Report) -> str:
    """One command a finding, then the summary as a plain line of the log.

    GitHub makes annotations of the first ten of each level in a step, and the log has all: the last line says so.
    """
    lines = [*map(_command, report.findings), _data(summary_in_full(report))]
    hidden = sum(max(0, number - _SHOWN) for number in Counter(map(_level, report.findings)).values())
    if hidden:
        lines.append(
            f"{quantity(hidden, 'finding')} of these stand in this log alone: GitHub shows ten annotations of a level"
        )
    return "\n".join(lines)


def _level(finding: Finding) -> str:
    return _LEVELS[finding.severity.value if finding.severity else "error"]


def _command(finding: Finding) -> str:
    title = f"{finding.code} {finding.name}"
    return f"::{_level(finding)} file={_property(inside_path(finding.uri))},title={_property(title)}::{_data(finding.message)}"


def _data(text: str) -> str:
    return plain(text, 4000).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
