"""GitLab's Code Quality report: findings in the widget of a merge request."""

from __future__ import annotations

import json
from typing import Any

from datacheck.findings import Finding
from datacheck.reports.places import inside_path
from datacheck.reports.report import Report
from datacheck.reports.sarif import fingerprint

__all__ = ["render"]

_SEVERITIES = {"error": "critical", "warning": "minor", "info": "info"}


def render(report: Report) -> str:
    """The findings as a list of issues; GitLab wants a path in the repository, and a line, which data has not."""
    return json.dumps([_issue(finding) for finding in report.findings], indent=2, allow_nan=False)


def _issue(finding: Finding) -> dict[str, Any]:
    return {
        "description": f"{finding.code} {finding.message}",
        "check_name": f"{finding.code} {finding.name}",
        "fingerprint": fingerprint(finding.key),
        "severity": _SEVERITIES[finding.severity.value if finding.severity else "error"],
        "location": {"path": inside_path(finding.uri), "lines": {"begin": 1}},
    }
