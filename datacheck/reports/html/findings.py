"""The sections of any report: what was found, where it is, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from datacheck.codes import CODES
from datacheck.codes.code import Family
from datacheck.findings import Finding, Severity
from datacheck.reports.html.charts import HeatRow, heat_map, share_bar
from datacheck.reports.html.elements import Html, Section, folded, join, name, table, tag
from datacheck.row_spread import RowSpread
from datacheck.text import plain, quantity

_MAX_GROUPS = 120
_MAX_MESSAGES = 200
_FIRST_MESSAGES = 12
_MAX_MAPS = 12
_MAX_MAP_ROWS = 40
_MAX_VALUES = 4
#: Of a message in the summary: most end before that.
_MAX_SUMMARY = 400
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
    sections = [Section("What was found", *_summary(groups, checked or {}))]
    maps = list(_maps(groups))
    if maps:
        explanation = tag(
            "p",
            "Each line is a file with findings, from its first row on the left to its last on the right. "
            "Darker cells hold more.",
            class_="soft",
        )
        sections.append(Section("Where it is", explanation, *maps))
    return sections


def nothing_found(volume: str) -> Section:
    """What a page shows that has nothing to show."""
    text = (
        f"Nothing was found in {volume}: no value breaks a rule of the schema; without a schema, there is no NaN, no "
    )
    text += "infinity, and no null in a number or a boolean."
    return Section("What was found", tag("p", text, class_="empty"))


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


def _summary(groups: Sequence[_Group], checked: Mapping[Identity, int]) -> Iterator[Html]:
    yield table(
        "One line for each code and field, over all files",
        ("code", "field or rule", "found", "of", "share", "files", "examples or details"),
        (_summary_row(group, checked) for group in groups[:_MAX_GROUPS]),
        numbers=(2, 3, 5),
        is_wide=True,
    )
    if len(groups) > _MAX_GROUPS:
        yield _more(len(groups) - _MAX_GROUPS, "code and field", "codes and fields")


def _summary_row(group: _Group, checked: Mapping[Identity, int]) -> tuple[str, ...]:
    code, _, _ = group.identity
    total = checked.get(group.identity) or group.num_checked
    share = group.num_violations / total if total else 0.0
    word, style = _CHIPS[group.severity]
    chip = None if group.severity is Severity.ERROR else tag("span", word, class_="chip")
    has_rows = any(one.row is not None for finding in group.findings for one in finding.examples)
    is_of_values = CODES[code].level in ("value", "row")
    is_counted = is_of_values or (has_rows and total > 1)
    has_share = is_counted and total > 1
    return (
        tag("span", tag("code", code, class_=style), f" {CODES[code].name} ", chip),
        _subject(group),
        f"{group.num_violations:,}" if is_counted else "",
        f"{total:,}" if has_share else "",
        tag("span", share_bar(share), _percent(share), class_="share") if has_share else "",
        f"{len({finding.uri for finding in group.findings}):,}",
        (is_of_values and _values(group)) or plain(group.findings[0].message, _MAX_SUMMARY),
    )


def _subject(group: _Group) -> Html:
    _, field, rule = group.identity
    return join(part for one in (field, rule) if one for part in (name(one), " "))


def _percent(share: float) -> str:
    return "under 0.01\u00a0%" if 0 < share < 0.0001 else f"{100 * share:.2f}\u00a0%"


def _values(group: _Group) -> Html:
    values = dict.fromkeys(one.value for finding in group.findings for one in finding.examples if one.value)
    return join(tag("code", plain(value, 60), class_="value") for value in list(values)[:_MAX_VALUES])


def _maps(groups: Sequence[_Group]) -> Iterator[Html]:
    by_field: dict[str, list[Finding]] = {}
    for group in groups:
        for finding in group.findings:
            if finding.spread is not None:
                by_field.setdefault(group.subject or "the array", []).append(finding)
    for subject, found in list(by_field.items())[:_MAX_MAPS]:
        yield from _map(subject, found)
    if len(by_field) > _MAX_MAPS:
        yield _more(len(by_field) - _MAX_MAPS, "field with a map of its own", "fields with maps of their own")


def _map(subject: str, findings: Sequence[Finding]) -> Iterator[Html]:
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
    folder = _common_folder(uris)
    below = tag("span", f" below {plain(folder, 100)}", class_="soft") if folder else None
    yield tag("h3", name(subject), below)
    short = [HeatRow(row.label.removeprefix(folder), row.cells) for row in rows]
    yield heat_map(title, short, ("first row", last))
    yield _map_table(title, rows)


def _common_folder(uris: Sequence[str]) -> str:
    """The folder that all files lie in, with its slash."""
    first, last = uris[0], uris[-1]  # in order: what these two share, all do
    parts = takewhile(lambda pair: pair[0] == pair[1], zip(first.split("/")[:-1], last.split("/")[:-1], strict=False))
    return "".join(f"{part}/" for part, _ in parts)


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
    head = ("file", "violations", "most of them in")
    return folded("as a table", table(f"{title}, as numbers", head, lines, numbers=(1,)))


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
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.code, finding)
    for code, finding in sorted(first.items()):
        known = CODES[code]
        yield tag(
            "details",
            tag("summary", f"{code} {known.name}: {known.finds}"),
            tag("p", known.why),
            tag("pre", tag("code", known.remedy), tabindex="0"),
            *_command(finding),
        )


def _command(finding: Finding) -> Iterator[Html]:
    """The command that prints the bad rows, where there are rows in a file; a rule needs the schema that has it."""
    if finding.spread is None or finding.uri.startswith("<"):
        return
    words = ["datacheck", "rows", finding.uri, "--where", finding.code]
    if CODES[finding.code].family is not Family.MISSING:
        words += ["--schema", "SCHEMA"]
    yield tag("p", "Show the rows:")
    yield tag("pre", tag("code", plain(shlex.join(words), 400)), tabindex="0")


def _more(number: int, singular: str, plural: str) -> Html:
    text = (
        f"and {quantity(number, f'more {singular}', f'more {plural}')}; all of them: --format jsonl -o findings.jsonl"
    )
    return tag("p", text, class_="soft")
