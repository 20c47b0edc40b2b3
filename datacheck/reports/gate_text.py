"""The report of the gate for people: findings, what is fixed, what is known, and one line that sums up."""

from __future__ import annotations

from collections.abc import Iterable

from datacheck.codes import CODES
from datacheck.reports.gate_report import Fixed, GateReport
from datacheck.reports.report import Report
from datacheck.reports.text import render_finding, summary
from datacheck.text import count, plain, quantity

__all__ = ["render_gate", "summary_in_full"]


def render_gate(report: GateReport) -> str:
    """Every finding in a line, then what the baseline knows, then the summary."""
    return "\n".join([*map(render_finding, report.findings), *_baseline(report), _end(report)])


def _baseline(report: GateReport) -> Iterable[str]:
    for fixed in report.fixed:
        yield _fixed(fixed)
    if report.baseline is None:
        return
    name = plain(report.baseline)
    if report.fixed:
        yield f"{quantity(len(report.fixed), 'known finding')} fixed; 'datacheck baseline write' takes note of it"
    if report.known:
        yield f"{quantity(len(report.known), 'finding')} known, in {name}"


def _fixed(fixed: Fixed) -> str:
    field = "" if fixed.field is None else f" in '{plain(fixed.field)}'"
    left = count(fixed.num_left) if fixed.num_left else "none"
    name = CODES[fixed.code].name if fixed.code in CODES else ""
    return f"fixed: {plain(fixed.code)} {name}{field}, {count(fixed.num_known)} known, {left} left ({plain(fixed.uri)})"


def _end(report: GateReport) -> str:
    return "; ".join([summary(report, with_rate=not report.num_unchanged), *_notes(report)])


def summary_in_full(report: Report) -> str:
    """One line with all that there is to say in sum, for a report of any kind."""
    if not isinstance(report, GateReport):
        return summary(report)
    parts = [_end(report)]
    if report.known:
        parts.append(f"{quantity(len(report.known), 'finding')} known")
    if report.fixed:
        parts.append(f"{quantity(len(report.fixed), 'known finding')} fixed")
    return "; ".join(parts)


def _notes(report: GateReport) -> Iterable[str]:
    if report.num_ignored:
        yield f"{quantity(report.num_ignored, 'finding')} ignored"
    if report.num_unchanged:
        yield f"{quantity(report.num_unchanged, 'file')} unchanged since last checked"
