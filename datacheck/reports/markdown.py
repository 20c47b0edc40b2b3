"""Markdown: a table for a pull request's comment or a job's summary. Names from data cannot leave their cell."""

from __future__ import annotations

import re

from datacheck.findings import Finding
from datacheck.reports.report import Report
from datacheck.reports.text import summary
from datacheck.text import count, ordinal_list, plain

__all__ = ["render"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&@:])")


def render(report: Report) -> str:
    """A heading that sums up, and a table with a row a finding."""
    lines = [f"**datacheck:** {_escaped(summary(report))}"]
    if report.findings:
        lines += ["", "| code | file | field | violations | of | where |", "|---|---|---|---:|---:|---|"]
        lines += map(_row, report.findings)
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    rows = [example.row for example in finding.examples if example.row is not None]
    where = ordinal_list("row", list(dict.fromkeys(rows))) or plain(finding.detail, 200)
    cells = (
        f"{finding.code} {finding.name}",
        finding.uri,
        finding.field or "",
        count(finding.num_violations),
        count(finding.num_checked),
        where,
    )
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", plain(text, 400))
