"""Markdown: a table for a pull request comment or a job summary. Names from data cannot break out of their cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from datacheck.findings import Finding
from datacheck.reports.gate_report import Fixed
from datacheck.reports.report import Report
from datacheck.text import count, ordinal_list, plain, quantity

#: Characters with a meaning in Markdown, HTML or a table. Everything else is literal inside code tags, where mentions,
#: issue numbers and addresses do not become links.
_SPECIAL = re.compile(r"[!-+:-@\[-`{-~]|(?<=www)\.", re.IGNORECASE)
#: GitHub shows no job summary above 1 MiB.
_MAX_BYTES = 900_000
_MAX_FIXED = 200


def render(report: Report) -> str:
    """The summary, then a table with one row per finding. Known findings are only counted."""
    lines = [f"**datacheck:** {report.summary()}"]
    if report.findings:
        lines += ["", "| code | file | field | violations | of | where |", "|---|---|---|---:|---:|---|"]
        lines += _rows(report.findings)
    fixed: Sequence[Fixed] = getattr(report, "fixed", ())
    if fixed:
        lines += ["", "| fixed | file | field | before | now |", "|---|---|---|---:|---:|"]
        lines += [_fixed_row(one) for one in fixed[:_MAX_FIXED]]
    return "\n".join(lines)


def _rows(findings: Sequence[Finding]) -> Iterator[str]:
    size = 0
    for position, finding in enumerate(findings):
        row = _row(finding)
        size += len(row.encode()) + 1
        if size > _MAX_BYTES:
            yield f"\n{quantity(len(findings) - position, 'more finding')} omitted to stay below the size limit."
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


def _fixed_row(fixed: Fixed) -> str:
    field = _code(fixed.rule or fixed.field or "")
    return (
        f"| {plain(fixed.code)} | {_code(fixed.uri)} | {field} | {count(fixed.num_known)} | {count(fixed.num_left)} |"
    )


def _code(text: str) -> str:
    """Text in code tags, with every special character as a numeric reference."""
    if not text:
        return ""
    return f"<code>{_SPECIAL.sub(lambda match: f'&#{ord(match[0])};', plain(text, 400))}</code>"
