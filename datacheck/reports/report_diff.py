"""Two reports compared: what is new, what is fixed, and what is as it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from datacheck.codes import CODES, OWN_CODE, register_code
from datacheck.codes.code import Code, Family
from datacheck.errors import UsageError
from datacheck.findings import Finding
from datacheck.reports.gate_report import Fixed
from datacheck.reports.report import Report
from datacheck.reports.text import MAX_LINES, append_detail, finding_lines, num_by_severity
from datacheck.storage.documents import read_document
from datacheck.text import count, plain, quantity

if TYPE_CHECKING:
    from datacheck.reports.html.elements import Section


#: No report is larger.
_MAX_BYTES = 256 << 20
#: The fixed findings that a page lists.
_MAX_ROWS = 500
_HINT = "write one with 'datacheck scan --format json -o FILE'"


@dataclass(frozen=True, slots=True)
class ReportDiff(Report):
    """What changed from one report to the next.

    ``findings`` are those that are new or have grown; ``fixed`` ones have fewer violations or none; ``unchanged`` ones are as
    they were. ``before`` and ``after`` name the reports. It is ``ok`` without new errors.
    """

    fixed: tuple[Fixed, ...] = ()
    unchanged: tuple[Finding, ...] = ()
    before: str = ""
    after: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "before": self.before,
            "after": self.after,
            "findings": [finding.to_dict() for finding in self.findings],
            "fixed": [fixed.to_dict() for fixed in self.fixed],
            "unchanged": [finding.to_dict() for finding in self.unchanged],
        }

    def summary(self) -> str:
        if not (self.findings or self.fixed):
            return f"no difference: {quantity(len(self.unchanged), 'finding')} in both"
        new = f"{quantity(len(self.findings), 'new finding')} ({num_by_severity(self.findings)})"
        parts = [new if self.findings else "no new findings", f"{count(len(self.fixed))} fixed"]
        return ", ".join([*parts, f"{count(len(self.unchanged))} unchanged"])

    def to_text(self, limit: int = MAX_LINES) -> str:
        fixed = map(str, self.fixed[: limit or None] if limit >= 0 else ())
        left = [f"and {len(self.fixed) - limit:,} more fixed"] if 0 < limit < len(self.fixed) else []
        return "\n".join([*finding_lines(self.findings, limit), *fixed, *left, self.summary()])

    def _title(self) -> str:
        return f"datacheck diff {plain(self.before)} {plain(self.after)}"

    def _verdict(self) -> tuple[str, str]:
        summary = self.summary()
        return summary[0].upper() + summary[1:], "good" if self.ok else "bad"

    def _facts(self) -> list[tuple[str, str]]:
        counts = {"new": self.findings, "fixed": self.fixed, "unchanged": self.unchanged}
        return [(name, f"{len(found):,}") for name, found in counts.items()]

    def _html_sections(self) -> list[Section]:
        from datacheck.reports.html.elements import Section, table
        from datacheck.reports.html.findings import finding_sections

        rows = [
            (one.code, plain(one.rule or one.field or "-"), plain(one.uri), count(one.num_known), count(one.num_left))
            for one in self.fixed[:_MAX_ROWS]
        ]
        head = ("code", "field", "file", "before", "now")
        fixed = [Section("Fixed", table("Findings with fewer violations, or none", head, rows, (3, 4)))] if rows else []
        return [*finding_sections(self.findings), *fixed]


def diff_reports(before: str | os.PathLike[str], after: str | os.PathLike[str]) -> ReportDiff:
    """Compare two reports that were written as JSON, JSON Lines, or as the manifest of a run.

    Where no file has the same path in both, paths are compared below the folder that all of a report share. So the
    reports on two versions of a dataset can be compared. Raises ``UsageError`` for a file that is not a report.
    """
    old, new = (read_findings(os.fspath(path)) for path in (before, after))
    old_names, new_names = _names(old, new)
    known = {_key(finding, old_names): finding for finding in old}
    found = {_key(finding, new_names): finding for finding in new}
    grown, fixed, unchanged = [], [], []
    for key, finding in found.items():
        earlier = known.get(key)
        if earlier is None:
            grown.append(finding)
        elif finding.num_violations > earlier.num_violations:
            grown.append(replace(finding, detail=append_detail(finding, f"{count(earlier.num_violations)} before")))
        elif finding.num_violations < earlier.num_violations:
            fixed.append(_fixed(earlier, finding.num_violations))
        else:
            unchanged.append(finding)
    fixed += [_fixed(finding, 0) for key, finding in known.items() if key not in found]
    names = (os.fspath(before), os.fspath(after))
    return ReportDiff(tuple(grown), fixed=tuple(fixed), unchanged=tuple(unchanged), before=names[0], after=names[1])


def _fixed(finding: Finding, num_left: int) -> Fixed:
    return Fixed(finding.uri, finding.field, finding.code, finding.rule, finding.num_violations, num_left)


def _key(finding: Finding, names: Mapping[str, str]) -> tuple[str | None, ...]:
    return names[finding.uri], finding.field, finding.code, finding.rule


def _names(old: Sequence[Finding], new: Sequence[Finding]) -> tuple[dict[str, str], dict[str, str]]:
    """What to call each file, so that the same file has the same name in both reports."""
    before, after = ({finding.uri for finding in findings} for findings in (old, new))
    if before & after:
        return {uri: uri for uri in before}, {uri: uri for uri in after}
    return _below_shared(before), _below_shared(after)


def _below_shared(uris: Iterable[str]) -> dict[str, str]:
    parts = {uri: PurePosixPath(uri).parts for uri in uris}
    levels = zip(*(some[:-1] for some in parts.values()), strict=False)
    num_shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    return {uri: "/".join(some[num_shared:]) for uri, some in parts.items()}


def read_findings(path: str) -> list[Finding]:
    """The findings of a report in a file; raises ``UsageError`` for a file that is not a report."""
    place = plain(path)
    content = read_document(path, "a report of datacheck", _MAX_BYTES, missing=_HINT)
    try:
        records = _records(content.decode())
        return [Finding.from_dict(record) for record in map(_with_code, records)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{place}: not a report of datacheck ({plain(str(error), 80)}); {_HINT}") from None


def _records(text: str) -> list[Any]:
    """The findings in JSON, or in JSON Lines, whose last line is the summary."""
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        lines = [json.loads(line) for line in text.splitlines()]
        if not lines or "ok" not in lines[-1]:
            raise
        return lines[:-1]
    if "findings" not in record and "ok" in record:
        return []
    found = record["findings"]
    return [*found, *record.get("gate", {}).get("known", ())]


def _with_code(record: Any) -> Any:
    """The record of a finding; the code of a user's own check is registered."""
    code = record["code"]
    if isinstance(code, str) and OWN_CODE.fullmatch(code) and code not in CODES:
        message = "{violations} of {checked} violations of " + plain(str(record["name"]), 60).replace("{", "").replace(
            "}", ""
        )
        register_code(
            Code(
                code=code,
                name=plain(str(record["name"]), 60),
                family=Family.OWN,
                level="value",
                message=f"{message} in {{field}}",
                finds="What a check of your own finds.",
                why="The schema that names the check says why.",
                example="",
                remedy="",
            )
        )
    return record
