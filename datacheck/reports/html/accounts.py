"""The sections of a run: where every row went, and what was repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from datacheck.reports.accounts import InputAccount, RepairTotal
from datacheck.reports.html.charts import legend, stacked_bar
from datacheck.reports.html.elements import Html, Section, folded, name, table, tag
from datacheck.reports.html.style import BAR_COLORS
from datacheck.text import quantity

_COUNTS = ("num_read", "num_kept", "num_dropped", "num_quarantined")
_PARTS = ("kept", "dropped", "quarantined")
_MAX_INPUTS = 100


def account_sections(accounts: Sequence[InputAccount]) -> list[Section]:
    """The sections about the rows of a run's inputs."""
    if not accounts:
        return []
    sections = [Section("Where every row went", *_splits(accounts))]
    repairs = RepairTotal.add(total for account in accounts for total in account.repairs)
    if repairs:
        rows = [
            (total.action, name(total.field) if total.field else "the array", f"{total.num_values:,}")
            for total in repairs
        ]
        body = table("Values that repairs replaced", ("repair", "field", "values"), rows, numbers=(2,))
        sections.append(Section("What was repaired", body))
    return sections


def _splits(accounts: Sequence[InputAccount]) -> Iterator[Html]:
    splits: dict[str, Counter[str]] = {}
    for account in accounts:
        splits.setdefault(account.split, Counter()).update({key: getattr(account, key) for key in _COUNTS})
    for split, counts in splits.items():
        parts = [(part, counts[f"num_{part}"], color) for part, color in zip(_PARTS, BAR_COLORS, strict=True)]
        yield tag("h3", name(split), f" {quantity(counts['num_read'], 'row')} read")
        yield stacked_bar(f"Rows of {split}: " + ", ".join(f"{part} {count:,}" for part, count, _ in parts), parts)
    yield legend(list(zip(_PARTS, BAR_COLORS, strict=True)))
    rows = [(name(split), *(f"{counts[key]:,}" for key in _COUNTS)) for split, counts in splits.items()]
    head = ("split", "read", "= kept", "+ dropped", "+ quarantined")
    yield table("Rows by split: read = kept + dropped + quarantined", head, rows, numbers=(1, 2, 3, 4))
    yield _inputs(accounts)


def _inputs(accounts: Sequence[InputAccount]) -> Html:
    rows = [
        (
            name(account.uri),
            *(f"{getattr(account, key):,}" for key in _COUNTS),
            ", ".join(f"{code} {number:,}" for code, number in sorted(account.removed_by_code.items()))
            if account.is_cleaned
            else "could not be read; nothing of it is in the output",
        )
        for account in accounts[:_MAX_INPUTS]
    ]
    head = ("input", "read", "kept", "dropped", "quarantined", "rows removed by code")
    body = table("Rows by input", head, rows, numbers=(1, 2, 3, 4))
    hidden = len(accounts) - len(rows)
    more = (
        tag("p", f"and {quantity(hidden, 'more input')}; all are in manifest.json", class_="soft") if hidden else None
    )
    return folded(f"by input ({len(accounts):,})", *(part for part in (body, more) if part is not None))
