"""The report of a run: what was found, what was done about it, and where every row went."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from datacheck._version import __version__
from datacheck.codes import CODES
from datacheck.findings import Finding, Severity, typed
from datacheck.reports.accounts import InputAccount, RepairTotal
from datacheck.reports.report import Report
from datacheck.reports.text import (
    MAX_LINES,
    append_detail,
    format_table,
    format_volume,
    num_by_severity,
    render_finding,
)
from datacheck.text import plain, quantity

if TYPE_CHECKING:
    from datacheck.reports.html.elements import Section


MANIFEST_VERSION = 1

_COUNTS = ("num_read", "num_kept", "num_dropped", "num_quarantined")


@dataclass(frozen=True, slots=True)
class RunReport(Report):
    """What a run found, and what it did with every row.

    ``ok`` means that every input was read, that the inputs are complete and alike, and that the output has no violation:
    everything found was repaired, dropped or quarantined as the pipeline says. ``failed`` counts violations that stopped
    the run, by code. ``is_new`` is false if the output had already been published. ``checked`` is how many values or rows
    of all inputs were checked for a code, field and rule.
    """

    name: str = ""
    output: str = ""
    accounts: tuple[InputAccount, ...] = ()
    failed: dict[str, int] = field(default_factory=dict)
    is_new: bool = True
    checked: Mapping[tuple[str, str | None, str | None], int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        is_clean = all(account.is_cleaned and not account.left_by_code for account in self.accounts)
        return not self.failed and is_clean and not any(map(_is_fault_of_inputs, self.findings))

    def for_ci(self) -> RunReport:
        """The report with every finding that is absent from the output reduced to a note."""
        accounts = {uri: account for account in self.accounts for uri in (account.uri, *(account.files or {}).values())}
        findings = (
            _as_resolved(finding) if self._is_resolved(finding, accounts.get(finding.uri)) else finding
            for finding in self.findings
        )
        return replace(self, findings=tuple(findings))

    def _is_resolved(self, finding: Finding, account: InputAccount | None) -> bool:
        if account is None or finding.code in self.failed or CODES[finding.code].about_inputs:
            return False
        return account.is_cleaned and not account.leaves(finding.code, finding.field)

    def to_dict(self) -> dict[str, Any]:
        return {
            **Report.to_dict(self),
            "output": self.output,
            "failed": self.failed,
            "inputs": [account.to_dict() for account in self.accounts],
        }

    def totals(self) -> dict[str, int]:
        """Rows read, kept, dropped and quarantined, over all inputs."""
        return {name: sum(getattr(account, name) for account in self.accounts) for name in _COUNTS}

    def to_manifest(
        self,
        fingerprint: str,
        schema: Mapping[str, Any],
        statistics: str | None,
        identity: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The bytes of the manifest. They hold no time and no number of workers: equal runs write equal bytes.

        ``identity`` is what tells this run from others, so that a later one can say what differs.
        """
        record = {
            "version": MANIFEST_VERSION,
            "datacheck": __version__,
            "name": self.name,
            "fingerprint": fingerprint,
            "schema": schema,
            "identity": identity,
            "statistics": statistics,
            **self.totals(),
            "num_files": self.num_files,
            "num_bytes": self.num_bytes,
            "inputs": [account.to_dict() for account in self.accounts],
            "checked": [[*identity, number] for identity, number in self.checked.items()],
            "findings": [finding.to_dict() for finding in self.findings],
        }
        return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()

    @classmethod
    def from_manifest(cls, record: dict[str, Any], output: str) -> RunReport:
        """The report of the run that wrote a manifest."""
        return cls(
            tuple(Finding.from_dict(finding) for finding in record["findings"]),
            record["num_files"],
            record["num_read"],
            record["num_bytes"],
            name=record["name"],
            output=output,
            accounts=tuple(map(InputAccount.from_dict, record["inputs"])),
            is_new=False,
            checked={tuple(identity): typed(number, int) for *identity, number in record.get("checked", ())},
        )

    def _title(self) -> str:
        return f"datacheck run {plain(self.name)}".rstrip()

    def in_memory_outcome(self) -> str:
        """What became of the rows of data that was in memory."""
        counts = self.totals()
        if self.failed:
            return f"stopped by a fail rule ({_counts_by_code(self.failed)})"
        return f"kept {counts['num_kept']:,} of {quantity(counts['num_read'], 'row')}"

    def _verdict(self) -> tuple[str, str]:
        if not self.output:
            outcome = self.in_memory_outcome()
            return outcome[0].upper() + outcome[1:], "good" if self.ok else "bad"
        if self.failed:
            return f"Stopped by a fail rule ({_counts_by_code(self.failed)}); nothing was published", "bad"
        if not any(account.is_cleaned for account in self.accounts):
            return "No input could be read; nothing was published", "bad"
        if not self.ok:
            return f"Published, and {' and '.join(self._problems())}", "bad"
        return "Clean output published", "good"

    def _problems(self) -> Iterator[str]:
        """What is wrong with the output: inputs that are not in it, and what is left in the others."""
        unread = {account.uri for account in self.accounts if not account.is_cleaned}
        if unread:
            yield f"{quantity(len(unread), 'input')} could not be read"
        left = [one for one in self.for_ci().findings if one.is_error and one.uri not in unread]
        if left:
            yield f"violations are left: {num_by_severity(left)}"

    def _facts(self) -> list[tuple[str, str]]:
        counts = self.totals()
        named = ((name.removeprefix("num_"), f"{counts[name]:,}") for name in _COUNTS)
        return [("inputs", f"{self.num_files:,}"), *((f"rows {name}", count) for name, count in named)]

    def _html_sections(self) -> list[Section]:
        from datacheck.reports.html.accounts import account_sections
        from datacheck.reports.html.findings import finding_sections

        return [*account_sections(self.accounts), *finding_sections(self.findings, self.checked)]

    def to_text(self, limit: int = MAX_LINES) -> str:  # noqa: ARG002 - findings are summed up anyway
        lines = [*_finding_lines(self.findings, self.checked), ""]
        if self.accounts:
            lines += [*_row_table(self), ""]
        for line in _repair_lines(self.accounts):
            lines += [line, ""]
        left: Counter[str] = Counter()
        for account in self.accounts:
            left.update(account.left_by_code)
        if left:
            lines.append(f"left in the output by a report rule: {_counts_by_code(left)}")
        num_unread = sum(not account.is_cleaned for account in self.accounts)
        if num_unread:
            lines.append(f"{quantity(num_unread, 'input')} could not be read and left out of the output; see above")
        lines.append(_outcome(self))
        return "\n".join(lines)


def _is_fault_of_inputs(finding: Finding) -> bool:
    """Whether an error is about the inputs together, so that no rule could act on it."""
    return finding.is_error and CODES[finding.code].about_inputs


def _as_resolved(finding: Finding) -> Finding:
    if finding.severity is Severity.INFO:
        return finding
    return replace(finding, severity=Severity.INFO, detail=append_detail(finding, "not in the output"))


def _finding_lines(
    findings: Sequence[Finding], checked: Mapping[tuple[str, str | None, str | None], int]
) -> Iterator[str]:
    """A line for each finding on a whole file, then a table of the others, summed over files.

    The table has a row for each code and field, so that its length does not depend on the number of files.
    """
    by_field: dict[tuple[str, str | None, str | None], list[Finding]] = {}
    for finding in findings:
        has_rows = any(example.row is not None for example in finding.examples)
        code = CODES[finding.code]
        if (code.level == "file" or code.about_inputs) and not has_rows:
            yield render_finding(finding)
        else:
            by_field.setdefault((finding.code, finding.field, finding.rule), []).append(finding)
    rows = [
        (
            code,
            CODES[code].name,
            plain(rule or field or "-", 40),
            f"{sum(finding.num_violations for finding in group):,}",
            f"{checked.get((code, field, rule)) or sum(finding.num_checked for finding in group):,}",
            quantity(len(group), "file"),
        )
        for (code, field, rule), group in sorted(by_field.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    ]
    if rows:
        yield from format_table([("found", "", "field", "violations", "of", "in"), *rows], "lllrrr")


def _row_table(report: RunReport) -> Iterator[str]:
    splits: dict[str, Counter[str]] = {}
    for account in report.accounts:
        counts = splits.setdefault(account.split, Counter())
        counts.update({name: getattr(account, name) for name in _COUNTS})
    rows = [(plain(split), *(f"{counts[name]:,}" for name in _COUNTS)) for split, counts in splits.items()]
    if len(rows) > 1:
        rows.append(("all", *(f"{number:,}" for number in report.totals().values())))
    return format_table([("split", "read", "= kept", "+ dropped", "+ quarantined"), *rows], "lrrrr")


def _repair_lines(accounts: Sequence[InputAccount]) -> Iterator[str]:
    by_action: dict[str, list[str]] = {}
    for total in RepairTotal.add(total for account in accounts for total in account.repairs):
        name = "the array" if total.field is None else plain(total.field)
        by_action.setdefault(total.action, []).append(f"{name} {total.num_values:,}")
    for action, repaired in by_action.items():
        yield f"values repaired by {action}: {', '.join(repaired)}"


def _counts_by_code(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {number:,}" for code, number in sorted(counts.items()))


def _outcome(report: RunReport) -> str:
    if not report.output:
        return f"{report.in_memory_outcome()} ({report.seconds:.2f} s)"
    volume = format_volume(report.num_files, report.num_rows, report.num_bytes)
    if report.failed:
        return f"stopped by a fail rule ({_counts_by_code(report.failed)}) after {volume}; nothing was published"
    if not any(account.is_cleaned for account in report.accounts):
        return f"no input could be read; nothing was published ({report.seconds:.2f} s)"
    outcome = "published to" if report.is_new else "nothing to do: the output of these inputs is already in"
    kept = [part for account in report.accounts for part in account.outputs if part["kind"] == "rows"]
    num_rows = sum(account.num_kept for account in report.accounts)
    volume = format_volume(len(kept), num_rows, sum(part["num_bytes"] for part in kept))
    return f"{outcome} {plain(report.output)}: {volume} ({report.seconds:.2f} s)"
