"""Plain text for people: findings, sizes and tables as every report writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from datacheck.findings import Finding, Severity
from datacheck.text import quantity

__all__ = [
    "append_detail",
    "format_size",
    "format_table",
    "format_volume",
    "num_by_severity",
    "render_finding",
    "row_note",
]

_SEVERITY_NOUNS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def render_finding(finding: Finding) -> str:
    """One finding in one line: ``DC101 3 of 4,096 values are NaN in 'x' (train.parquet, row group 2, rows 17, 90, 91)``."""
    mark = "" if finding.is_error else f"{finding.severity.value}: " if finding.severity else ""
    return f"{finding.code} {mark}{finding.message}"


def row_note(findings: Iterable[Finding]) -> str:
    """The end of a summary that says what rows are counted from, if a finding names one."""
    has_rows = any(example.row is not None for finding in findings for example in finding.examples)
    return "; rows are counted from 0" if has_rows else ""


def append_detail(finding: Finding, text: str) -> str:
    """The finding's detail followed by ``text``."""
    return "; ".join(filter(None, (finding.detail, text)))


def num_by_severity(findings: Iterable[Finding]) -> str:
    """``2 errors, 1 warning``; errors are counted even where there are none, beside other findings."""
    counts = Counter(finding.severity for finding in findings)
    shown = (
        quantity(counts[severity], noun)
        for severity, noun in _SEVERITY_NOUNS.items()
        if counts[severity] or (counts and severity is Severity.ERROR)
    )
    return ", ".join(shown) or "no findings"


def format_volume(num_files: int, num_rows: int, num_bytes: int) -> str:
    """``3 files, 1,015 rows, 1.0 MiB``."""
    return f"{quantity(num_files, 'file')}, {quantity(num_rows, 'row')}, {format_size(num_bytes)}"


def format_size(num_bytes: float) -> str:
    """``1536`` as ``1.5 KiB``."""
    for unit in _UNITS[:-1]:
        if num_bytes < 1024:
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:,.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.1f} {_UNITS[-1]}"


def format_table(rows: Sequence[Sequence[str]], alignment: str) -> Iterator[str]:
    """One line for each row. ``alignment`` has one letter for each column: ``l`` for left, ``r`` for right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, alignment, strict=True)
        ]
        yield "  ".join(cells).rstrip()
