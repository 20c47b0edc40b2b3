"""Plain text for people: findings, sizes and tables as every report writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from datacheck.codes import CODES
from datacheck.findings import Finding, Severity
from datacheck.text import plain, quantity

#: The number of findings above which a table comes first and the rest is left out, unless more are requested.
MAX_LINES = 40
#: In place of a number of findings: only the table of all of them, or only the last line.
TABLE_ONLY, LAST_LINE_ONLY = -2, -1
_SEVERITY_ORDER = (Severity.ERROR, Severity.WARNING, Severity.INFO)

_SEVERITY_NOUNS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def render_finding(finding: Finding) -> str:
    """One finding in one line: ``DC101 3 of 4,096 values are NaN in 'x' (train.parquet, row group 2, rows 17, 90, 91)``."""
    mark = "" if finding.is_error else f"{finding.severity.value}: " if finding.severity else ""
    return f"{finding.code} {mark}{finding.message}"


def finding_lines(findings: Sequence[Finding], limit: int = MAX_LINES) -> Iterator[str]:
    """The findings in words. Beyond ``limit`` (0 for none) a table of all of them, then the first ones.

    ``TABLE_ONLY`` shows the table alone, ``LAST_LINE_ONLY`` neither. The table has a line for each code and field, so that its
    length does not depend on the number of files.
    """
    if limit == LAST_LINE_ONLY:
        return
    if limit == TABLE_ONLY:
        yield from summary_table(findings) if findings else ()
        return
    if limit == 0 or len(findings) <= limit:
        yield from map(render_finding, findings)
        return
    yield from summary_table(findings)
    yield ""
    shown = min(limit, MAX_LINES) // 4 or 1
    yield from map(render_finding, findings[:shown])
    yield f"and {quantity(len(findings) - shown, 'more finding')}; --limit 0 prints all"


def errors_text(findings: Iterable[Finding], limit: int = 5) -> str:
    """The first errors in words, a line each, for an exception."""
    errors = [finding for finding in findings if finding.is_error]
    more = [f"and {quantity(len(errors) - limit, 'more finding')}"] if len(errors) > limit else []
    return "\n".join([*map(render_finding, errors[:limit]), *more])


def summary_table(findings: Sequence[Finding]) -> Iterator[str]:
    """A line for each code and field, worst first: how many of the values in how many files, and where the first is."""
    groups: dict[tuple[str, str | None, str | None], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.field, finding.rule), []).append(finding)
    rows = [
        (
            code,
            f"{CODES[code].name}{_mark_of(group)}",
            plain(rule or field or "-", 40),
            f"{sum(finding.num_violations for finding in group):,}",
            f"{sum(finding.num_checked for finding in group):,}" if CODES[code].level in ("value", "row") else "-",
            quantity(len({finding.uri for finding in group}), "file"),
            _first_place(group),
        )
        for (code, field, rule), group in sorted(groups.items(), key=_by_severity)
    ]
    yield from format_table([("found", "", "field", "violations", "of", "in", "first"), *rows], "lllrrrl")


def _by_severity(item: tuple[tuple[str, str | None, str | None], list[Finding]]) -> tuple[int, str, str]:
    (code, field, rule), group = item
    return _SEVERITY_ORDER.index(_worst(group)), code, rule or field or ""


def _worst(group: Sequence[Finding]) -> Severity:
    return min((finding.severity or Severity.ERROR for finding in group), key=_SEVERITY_ORDER.index)


def _mark_of(group: Sequence[Finding]) -> str:
    worst = _worst(group)
    return "" if worst is Severity.ERROR else f" ({_SEVERITY_NOUNS[worst]})"


def _first_place(group: Sequence[Finding]) -> str:
    finding = group[0]
    row = next((example.row for example in finding.examples if example.row is not None), None)
    return plain(finding.uri, 60) + ("" if row is None else f", row {row}")


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
