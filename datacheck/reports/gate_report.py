"""The report of ``datacheck scan``: new findings, known findings, and known findings that were fixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datacheck.codes import CODES
from datacheck.findings import Finding
from datacheck.reports.report import Report
from datacheck.reports.text import MAX_LINES, finding_lines, row_note
from datacheck.text import count, plain, quantity


@dataclass(frozen=True, slots=True)
class Fixed:
    """A known finding with fewer violations than the baseline records, or none."""

    uri: str
    field: str | None
    code: str
    rule: str | None
    num_known: int
    num_left: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "uri": self.uri,
            "field": self.field,
            "rule": self.rule,
            "num_known": self.num_known,
            "num_left": self.num_left,
        }

    def __str__(self) -> str:
        field = "" if self.field is None else f" in '{plain(self.field)}'"
        left = count(self.num_left) if self.num_left else "none"
        name = CODES[self.code].name if self.code in CODES else ""
        return (
            f"fixed: {plain(self.code)} {name}{field}, {count(self.num_known)} known, {left} left ({plain(self.uri)})"
        )


@dataclass(frozen=True, slots=True)
class GateReport(Report):
    """What was found, compared with a baseline.

    ``findings`` are neither ignored nor known. ``known`` findings are in the ``baseline`` (None: no baseline is used), and
    ``fixed`` ones are in it with more violations than are left. ``num_unchanged`` files were not read, because their
    verdict was cached.
    """

    known: tuple[Finding, ...] = ()
    fixed: tuple[Fixed, ...] = ()
    baseline: str | None = None
    num_ignored: int = 0
    num_unchanged: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values, with a key ``gate`` if a baseline, the cache or ``ignore`` had an effect."""
        gate: dict[str, Any] = {}
        if self.num_ignored:
            gate["num_ignored"] = self.num_ignored
        if self.num_unchanged:
            gate["num_unchanged"] = self.num_unchanged
        if self.baseline is not None:
            gate["baseline"] = self.baseline
            gate["known"] = [finding.to_dict() for finding in self.known]
            gate["fixed"] = [fixed.to_dict() for fixed in self.fixed]
        record = Report.to_dict(self)
        return {**record, "gate": gate} if gate else record

    def summary(self) -> str:
        parts = [self._last_line()]
        if self.known:
            parts.append(f"{quantity(len(self.known), 'finding')} known")
        if self.fixed:
            parts.append(f"{quantity(len(self.fixed), 'known finding')} fixed")
        return "; ".join(parts)

    def _last_line(self) -> str:
        # A rate would be wrong: unchanged files count with their bytes and were not read.
        parts = [self._summary(with_rate=not self.num_unchanged)]
        if self.num_ignored:
            parts.append(f"{quantity(self.num_ignored, 'finding')} ignored")
        if self.num_unchanged:
            parts.append(f"{quantity(self.num_unchanged, 'file')} unchanged since the last check")
        return "; ".join(parts)

    def _baseline_lines(self) -> Iterator[str]:
        yield from map(str, self.fixed)
        if self.baseline is None:
            return
        if self.fixed:
            yield f"{quantity(len(self.fixed), 'known finding')} fixed; record it with 'datacheck baseline write'"
        if self.known:
            yield f"{quantity(len(self.known), 'known finding')} in {plain(self.baseline)}"

    def to_text(self, limit: int = MAX_LINES) -> str:
        last = f"{self._last_line()}{row_note(self.findings)}"
        return "\n".join([*finding_lines(self.findings, limit), *self._baseline_lines(), last])
