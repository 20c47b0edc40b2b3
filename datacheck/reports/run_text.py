"""A run for people: what was found, what was done about it, and where every row is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from datacheck.codes import CODES
from datacheck.findings import Finding
from datacheck.reports.accounts import RepairTotal, RunReport
from datacheck.reports.text import render_finding, size_in_words
from datacheck.text import plain, quantity

__all__ = ["render_run"]

#: Codes of whole files, whose details are worth a line each unless they name rows.
_OF_FILES = ("DC0", "DC304", "DC306", "DC9")
_COUNTS = ("num_read", "num_kept", "num_dropped", "num_quarantined")


def render_run(report: RunReport) -> str:
    """The whole run as plain text, in tables that are as long as there are fields and splits, not files."""
    lines = [*_found(report.findings), ""]
    unread = [account for account in report.accounts if account.status != "cleaned"]
    if report.accounts:
        lines += [*_rows(report), ""]
    left: Counter[str] = Counter()
    for account in report.accounts:
        left.update(account.left_by_code)
    lines += _repairs(report)
    if left:
        lines.append(f"left in the output, as a report rule says: {_by_code(left)}")
    if unread:
        lines.append(
            f"{quantity(len(unread), 'input')} could not be read, and nothing of it is in the output; see above"
        )
    lines.append(_end(report))
    return "\n".join(lines)


def _found(findings: Sequence[Finding]) -> Iterable[str]:
    """Findings on values and rows summed over files; those on whole files as they are."""
    by_field: dict[tuple[str, str | None, str | None], list[Finding]] = {}
    for finding in findings:
        of_values = any(example.row is not None for example in finding.examples)
        if finding.code.startswith(_OF_FILES) and not of_values:
            yield render_finding(finding)
        else:
            by_field.setdefault((finding.code, finding.field, finding.rule), []).append(finding)
    rows = [
        (
            code,
            CODES[code].name,
            plain(rule or field or "-", 40),
            f"{sum(finding.num_violations for finding in group):,}",
            f"{sum(finding.num_checked for finding in group):,}",
            quantity(len(group), "file"),
        )
        for (code, field, rule), group in sorted(by_field.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    ]
    yield from _table(("found", "", "field", "violations", "of", "in"), rows, "lllrrr")


def _rows(report: RunReport) -> Iterable[str]:
    splits: dict[str, Counter[str]] = {}
    for account in report.accounts:
        counts = splits.setdefault(account.split, Counter())
        counts.update({name: getattr(account, name) for name in _COUNTS})
    rows = [(plain(split), *(f"{counts[name]:,}" for name in _COUNTS)) for split, counts in splits.items()]
    if len(rows) > 1:
        rows.append(("all", *(f"{number:,}" for number in report.totals().values())))
    return _table(("split", "read", "= kept", "+ dropped", "+ quarantined"), rows, "lrrrr")


def _repairs(report: RunReport) -> Iterable[str]:
    totals = RepairTotal.add(total for account in report.accounts for total in account.repairs)
    by_action: dict[str, list[str]] = {}
    for total in totals:
        name = "the array" if total.field is None else plain(total.field)
        by_action.setdefault(total.action, []).append(f"{name} {total.num_values:,}")
    for action, done in by_action.items():
        yield from (f"values repaired by {action}: {', '.join(done)}", "")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], alignment: str) -> Iterable[str]:
    if not rows:
        return
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    for row in (titles, *rows):
        cells = [
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, alignment, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _by_code(counts: Counter[str]) -> str:
    return ", ".join(f"{code} {number:,}" for code, number in sorted(counts.items()))


def _end(report: RunReport) -> str:
    read = (
        f"{quantity(report.num_files, 'file')}, {quantity(report.num_rows, 'row')}, {size_in_words(report.num_bytes)}"
    )
    if report.failed:
        return f"stopped by a fail rule ({_by_code(Counter(report.failed))}) after {read}; nothing was published"
    if not any(account.status == "cleaned" for account in report.accounts):
        return f"no input could be read; nothing was published ({report.seconds:.2f} s)"
    done = "published to" if report.is_new else "nothing to do: the output of these inputs is already in"
    return f"{done} {plain(report.output)}: {read} ({report.seconds:.2f} s)"
