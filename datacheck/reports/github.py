"""GitHub Actions workflow commands: findings as annotations of a pull request."""

from __future__ import annotations

from collections import Counter

from datacheck.findings import Finding
from datacheck.reports.report import Report
from datacheck.reports.repository_paths import path_in_repository
from datacheck.text import plain, quantity

#: How many annotations of a level GitHub shows for a step.
_NUM_SHOWN = 10
_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(report: Report) -> str:
    """One command per finding, then the summary as a plain line of the log.

    GitHub shows only the first ten annotations of each level in a step. The last line says how many are hidden.
    """
    lines = [*map(_command, report.findings), _data(report.summary())]
    hidden = sum(max(0, number - _NUM_SHOWN) for number in Counter(map(_level, report.findings)).values())
    if hidden:
        lines.append(
            f"{quantity(hidden, 'finding')} shown only in this log: GitHub annotates the first {_NUM_SHOWN} of each level"
        )
    return "\n".join(lines)


def _level(finding: Finding) -> str:
    return _LEVELS[finding.severity.value if finding.severity else "error"]


def _command(finding: Finding) -> str:
    path, title = _property(path_in_repository(finding.uri)), _property(f"{finding.code} {finding.name}")
    line = "" if finding.line is None else f",line={finding.line}"
    return f"::{_level(finding)} file={path}{line},title={title}::{_data(finding.message)}"


def _data(text: str) -> str:
    return plain(text, 4000).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
