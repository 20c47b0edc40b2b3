"""The report of the gate: what counts, what is known already, and what of that is fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datacheck.findings import Finding
from datacheck.reports.report import Report

__all__ = ["Fixed", "GateReport"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A known finding of which less is left, or nothing."""

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


@dataclass(frozen=True, slots=True)
class GateReport(Report):
    """What was found, and what of it counts.

    ``findings`` are those that are neither ignored nor known. ``known`` stand in the ``baseline``, which is None where
    none is used, and ``fixed`` stand there and are no more. ``num_unchanged`` files were not read, since their verdict was
    remembered.
    """

    known: tuple[Finding, ...] = ()
    fixed: tuple[Fixed, ...] = ()
    baseline: str | None = None
    num_ignored: int = 0
    num_unchanged: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values; ``gate`` is there where it has something to say."""
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

    def __str__(self) -> str:
        from datacheck.reports.gate_text import render_gate

        return render_gate(self)
