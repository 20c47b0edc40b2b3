"""GitLab's Code Quality report: findings in the widget of a merge request."""

from __future__ import annotations

import json
from typing import Any

from datacheck.findings import Finding
from datacheck.reports.report import Report
from datacheck.reports.repository_paths import path_in_repository
from datacheck.reports.sarif import fingerprint

_SEVERITIES = {"error": "critical", "warning": "minor", "info": "info"}


def render(report: Report) -> str:
    """The findings as a list of issues. GitLab requires a line, which only text files have: it is 1 for others."""
    return json.dumps([_issue(finding) for finding in report.findings], indent=2, allow_nan=False)


def _issue(finding: Finding) -> dict[str, Any]:
    return {
        "description": f"{finding.code} {finding.message}",
        "check_name": f"{finding.code} {finding.name}",
        "fingerprint": fingerprint(finding.key),
        "severity": _SEVERITIES[finding.severity.value if finding.severity else "error"],
        "location": {"path": path_in_repository(finding.uri), "lines": {"begin": finding.line or 1}},
    }
