"""JSON, and JSON Lines with one finding per line for tools that read streams."""

from __future__ import annotations

import json

from datacheck.reports.report import Report


def render_json(report: Report) -> str:
    """The whole report as one object."""
    return report.to_json()


def render_jsonl(report: Report) -> str:
    """One object per finding, in order. The last line is the summary, recognizable by its key ``ok``."""
    lines = [json.dumps(finding.to_dict(), allow_nan=False) for finding in report.findings]
    summary = report.to_dict()
    del summary["findings"]
    return "\n".join([*lines, json.dumps(summary, allow_nan=False)])
