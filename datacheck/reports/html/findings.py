"""The sections of any report: what was found, where it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from datacheck.codes import CODES
from datacheck.findings import Finding, Severity
from datacheck.reports.html.charts import HeatRow, heat_map, share_bar
from datacheck.reports.html.elements import Html, Section, join, name, table, tag
from datacheck.row_spread import RowSpread
from datacheck.text import plain, quantity

__all__ = ["explanation_sections", "finding_sections"]

_MAX_GROUPS = 120
_MAX_MESSAGES = 200
_FIRST_MESSAGES = 12
_MAX_MAPS = 12
_MAX_MAP_ROWS = 40
_MAX_VALUES = 4
_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
_CHIPS = {Severity.ERROR: ("error", "bad"), Severity.WARNING: ("warning", "warn"), Severity.INFO: ("note", "soft")}

Identity = tuple[str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class _Group:
    """The findings of one code, field and rule, over all files."""

    identity: Identity
    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity:
        return min((finding.severity or Severity.ERROR for finding in self.findings), key=_ORDER.__getitem__)

    @property
    def num_violations(self) -> int:
        return sum(finding.num_violations for finding in self.findings)

    @property
    def num_checked(self) -> int:
        return sum(finding.num_checked for finding in self.findings)

    @property
    def subject(self) -> str:
        _, field, rule = self.identity
        return rule or field or ""


def finding_sections(findings: Sequence[Finding], checked: Mapping[Identity, int] | None = None) -> list[Section]:
    """What was found, and where. ``checked`` are totals over files without a finding too, where they are known."""
    if not findings:
        return []
    groups = _groups(findings)
    sections = [Section("What was found", _summary(groups, checked or {}))]
    maps = list(_maps(groups))
    if maps:
        explanation = tag(
            "p",
            "Each line is a file, from its first row on the left to its last on the right. Darker cells hold more.",
            class_="soft",
        )
        sections.append(Section("Where it is", explanation, *maps))
    return sections


def explanation_sections(findings: Sequence[Finding]) -> list[Section]:
    """Each finding in words, and what its code means; nothing without findings."""
    if not findings:
        return []
    return [
        Section("Every finding in words", _messages(findings)),
        Section("What it means and what to do", *_explanations(findings)),
    ]


def _groups(findings: Iterable[Finding]) -> list[_Group]:
    by_identity: dict[Identity, list[Finding]] = {}
    for finding in findings:
        by_identity.setdefault((finding.code, finding.field, finding.rule), []).append(finding)
    groups = [_Group(identity, tuple(found)) for identity, found in by_identity.items()]
    return sorted(
        groups, key=lambda group: (_ORDER[group.severity], -group.num_violations, group.identity[0], group.subject)
    )


def _summary(groups: Sequence[_Group], checked: Mapping[Identity, int]) -> Html:
    shown = groups[:_MAX_GROUPS]
    body = table(
        "One line for each code and field, over all files",
        ("code", "field or rule", "found", "of", "share", "files", "examples"),
        (_summary_row(group, checked) for group in shown),
        numbers=(2, 3, 5),
    )
    hidden = len(groups) - len(shown)
    return join([body, _more(hidden, "code and field", "codes and fields")]) if hidden else body


def _summary_row(group: _Group, checked: Mapping[Identity, int]) -> tuple[str, ...]:
    code, _, _ = group.identity
    total = checked.get(group.identity) or group.num_checked
    share = group.num_violations / total if total else 0.0
    word, style = _CHIPS[group.severity]
    label = join([tag("code", code), f" {CODES[code].name} ", tag("span", word, class_=f"chip {style}")])
    is_counted = CODES[code].level in ("value", "row") and total > 1
    return (
        label,
        name(group.subject) if group.subject else "",
        f"{group.num_violations:,}",
        f"{total:,}" if is_counted else "",
        join([_percent(share), share_bar(share)]) if is_counted else "",
        f"{len({finding.uri for finding in group.findings}):,}",
        _values(group),
    )


def _percent(share: float) -> str:
    if 0 < share < 0.0001:
        return "under 0.01 % "
    return f"{100 * share:.2f}\u00a0% "


def _values(group: _Group) -> Html:
    values = dict.fromkeys(one.value for finding in group.findings for one in finding.examples if one.value)
    shown = [tag("code", plain(value, 60)) for value in list(values)[:_MAX_VALUES]]
    return join(part for value in shown for part in (value, " "))


def _maps(groups: Sequence[_Group]) -> Iterator[Html]:
    by_field: dict[str, list[Finding]] = {}
    for group in groups:
        for finding in group.findings:
            if finding.spread is not None:
                by_field.setdefault(group.subject or "the array", []).append(finding)
    for subject, found in list(by_field.items())[:_MAX_MAPS]:
        yield tag("h3", name(subject))
        yield _map(subject, found)
    if len(by_field) > _MAX_MAPS:
        yield _more(len(by_field) - _MAX_MAPS, "field with a map of its own", "fields with maps of their own")


def _map(subject: str, findings: Sequence[Finding]) -> Html:
    spreads: dict[str, RowSpread] = {}
    for finding in findings:
        assert finding.spread is not None
        known = spreads.get(finding.uri)
        spreads[finding.uri] = finding.spread if known is None else known.merge(finding.spread)
    shift = max(spread.shift for spread in spreads.values())
    coarse = {uri: spread.merge(RowSpread(shift, (0,))) for uri, spread in spreads.items()}
    # With too many files, neighbours share a line.
    step = -(-len(coarse) // _MAX_MAP_ROWS)
    uris = sorted(coarse)
    rows = [_heat_row(uris[start : start + step], coarse) for start in range(0, len(uris), step)]
    num_columns = max(len(row.cells) for row in rows)
    title = f"Violations in {plain(subject)} by file and row"
    last = f"last row of the longest file ({num_columns:,} ranges of {quantity(1 << shift, 'row')})"
    drawn = heat_map(title, rows, ("first row", last))
    return join([drawn, _map_table(title, rows)])


def _heat_row(uris: Sequence[str], spreads: Mapping[str, RowSpread]) -> HeatRow:
    merged = spreads[uris[0]]
    for uri in uris[1:]:
        merged = merged.merge(spreads[uri])
    width = merged.rows_per_count
    label = uris[0] if len(uris) == 1 else f"{uris[0]} and {len(uris) - 1:,} more"
    where = (
        f"row {start:,}" if width == 1 else f"rows {start:,} to {start + width - 1:,}" for start in _starts(merged)
    )
    return HeatRow(label, [(count, f"{place}: {count:,}") for count, place in zip(merged.counts, where, strict=True)])


def _starts(spread: RowSpread) -> range:
    return range(0, len(spread.counts) * spread.rows_per_count, spread.rows_per_count)


def _map_table(title: str, rows: Sequence[HeatRow]) -> Html:
    """The same numbers as text: where most violations of each file are."""
    lines = []
    for row in rows:
        worst = sorted((cell for cell in row.cells if cell[0]), key=lambda cell: -cell[0])[:3]
        total = sum(count for count, _ in row.cells)
        lines.append((name(row.label), f"{total:,}", "; ".join(tooltip for _, tooltip in worst)))
    body = table(f"{title}, as numbers", ("file", "violations", "most of them in"), lines, numbers=(1,))
    return tag("details", tag("summary", "as a table"), body)


def _messages(findings: Sequence[Finding]) -> Html:
    ordered = sorted(findings, key=lambda finding: _ORDER[finding.severity or Severity.ERROR])
    items = [tag("li", tag("code", one.code), f" {_mark(one)}{one.message[:2000]}") for one in ordered[:_MAX_MESSAGES]]
    hidden = len(ordered) - len(items)
    first, rest = tag("ul", *items[:_FIRST_MESSAGES]), items[_FIRST_MESSAGES:]
    if not rest:
        return first
    folded = tag("details", tag("summary", f"{quantity(len(rest), 'more finding')}"), tag("ul", *rest))
    return join([first, folded, *([_more(hidden, "finding", "findings")] if hidden else [])])


def _mark(finding: Finding) -> str:
    return "" if finding.is_error else f"{_CHIPS[finding.severity or Severity.ERROR][0]}: "


def _explanations(findings: Sequence[Finding]) -> Iterator[Html]:
    for code in sorted({finding.code for finding in findings}):
        known = CODES[code]
        yield tag(
            "details",
            tag("summary", f"{code} {known.name}: {known.finds}"),
            tag("p", known.why),
            tag("pre", tag("code", known.remedy), tabindex="0"),
        )


def _more(number: int, singular: str, plural: str) -> Html:
    text = (
        f"and {quantity(number, f'more {singular}', f'more {plural}')}; all of them: --format jsonl -o findings.jsonl"
    )
    return tag("p", text, class_="soft")
