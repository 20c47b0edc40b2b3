"""Markdown: a table for a pull request's comment or a job's summary. Names from data cannot leave their cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from datacheck.findings import Finding
from datacheck.reports.gate_text import summary_in_full
from datacheck.reports.report import Report
from datacheck.text import count, ordinal_list, plain, quantity

__all__ = ["render"]

#: What may mean something to Markdown, to HTML or to a table. Inside of code tags, where no mention, issue number or
#: address becomes a link, everything else is only itself.
_SPECIAL = re.compile(r"[!-+:-@\[-`{-~]|(?<=www)\.", re.IGNORECASE)


#: A summary of a job on GitHub holds 1 MiB; a larger one is not shown at all.
_MAX_BYTES = 900_000


def render(report: Report) -> str:
    """A line that sums up, and a table with a row a finding; what a baseline knows is counted."""
    lines = [f"**datacheck:** {summary_in_full(report)}"]
    if report.findings:
        lines += ["", "| code | file | field | violations | of | where |", "|---|---|---|---:|---:|---|"]
        lines += _rows(report.findings)
    return "\n".join(lines)


def _rows(findings: Sequence[Finding]) -> Iterator[str]:
    size = 0
    for place, finding in enumerate(findings):
        row = _row(finding)
        size += len(row.encode()) + 1
        if size > _MAX_BYTES:
            yield f"\n{quantity(len(findings) - place, 'more finding')}, for which there is no room here."
            return
        yield row


def _row(finding: Finding) -> str:
    rows = [example.row for example in finding.examples if example.row is not None]
    where = ordinal_list("row", list(dict.fromkeys(rows)), finding.num_violations > len(rows)) or finding.detail
    mark = "" if finding.is_error or finding.severity is None else f" ({finding.severity.value})"
    cells = (
        f"{finding.code} {finding.name}{mark}",
        _code(finding.uri),
        _code(finding.rule or finding.field or ""),
        count(finding.num_violations),
        count(finding.num_checked),
        _code(where),
    )
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """Text as code, with everything that could mean something written as a number."""
    if not text:
        return ""
    return f"<code>{_SPECIAL.sub(lambda match: f'&#{ord(match[0])};', plain(text, 400))}</code>"
