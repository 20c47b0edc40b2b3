"""The trips and actions of a guard, as findings."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datacheck.findings import Finding, Severity
from datacheck.reports.report import Report
from datacheck.reports.text import MAX_LINES, render_finding
from datacheck.reports.training_run import DiagnosisText
from datacheck.text import quantity
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.history import HistoryBuffer
from datacheck.torch.guard.tracking.tracker import Tracker
from datacheck.torch.guard.trip import Trip

if TYPE_CHECKING:
    from datacheck.reports.html.elements import Section


#: Findings that are kept; further ones are counted.
MAX_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class GuardReport(Report):
    """A report of a training run: ``num_rows`` counts its steps, ``diagnoses`` holds the diagnoses in order,
    ``curves`` the loss, the gradient norm and other numbers of the last steps, by step.
    """

    diagnoses: tuple[Diagnosis, ...] = ()
    curves: Mapping[str, Sequence[tuple[int, float | None]]] = field(default_factory=dict)

    def _title(self) -> str:
        return "datacheck guard"

    def _verdict(self) -> tuple[str, str]:
        number = len({step for step, _ in self._anomalies()})
        if not number:
            return Report._verdict(self) if self.findings else ("No anomaly", "good")
        return f"{quantity(number, 'step')} with an anomaly", "bad"

    def _anomalies(self) -> list[tuple[int, str]]:
        """Step and message of each anomaly and of what was done about it, as far as findings name their step."""
        places = ((re.fullmatch(r"step (\d+)", finding.uri), finding) for finding in self.findings)
        return [(int(place[1]), f"{finding.code} {finding.message}") for place, finding in places if place]

    def _facts(self) -> list[tuple[str, str]]:
        acts = Counter(finding.rule or "" for finding in self.findings if finding.code == "DC460")
        losses = [loss for _, loss in self.curves.get("loss", ()) if loss is not None and math.isfinite(loss)]
        return [
            ("steps", f"{self.num_rows:,}"),
            ("diagnoses", f"{len(self.diagnoses):,}"),
            *((f"action: {action}", f"{number:,}") for action, number in sorted(acts.items())),
            *([("last finite loss", f"{losses[-1]:.4g}")] if losses else []),
        ]

    def _html_sections(self) -> list[Section]:
        from datacheck.reports.html.training import run_sections

        texts = [DiagnosisText.of(diagnosis.parts()) for diagnosis in self.diagnoses]
        return run_sections(self.curves, self._anomalies(), texts)

    def to_text(self, limit: int = MAX_LINES) -> str:  # noqa: ARG002 - there are few
        lines = [render_finding(finding) for finding in self.findings]
        errors = sum(finding.is_error for finding in self.findings)
        found = "no findings" if not self.findings else quantity(errors, "error")
        if len(self.findings) > errors:
            found += f", {quantity(len(self.findings) - errors, 'other finding')}"
        lines.append(f"{found} in {quantity(self.num_rows, 'step')} ({self.seconds:.2f} s)")
        return "\n".join(lines)


class GuardLog:
    """Collects findings in bounded memory."""

    def __init__(self) -> None:
        #: Reports the run while it goes on; set once there is one.
        self.tracker: Tracker | None = None
        self._started = time.monotonic()
        self._findings: list[Finding] = []
        self._num_left_out: dict[str, int] = {}
        self._diagnoses: list[Diagnosis] = []

    def add_trip(self, trip: Trip) -> None:
        if self.tracker is not None:
            self.tracker.add_trip(trip)
        self._add(trip.to_finding())

    def add_diagnosis(self, diagnosis: Diagnosis) -> None:
        if self.tracker is not None:
            self.tracker.add_diagnosis(diagnosis)
        self._diagnoses.append(diagnosis)
        del self._diagnoses[:-MAX_FINDINGS]
        self._add(diagnosis.to_finding())

    def add_act(self, action: str, step: int, detail: str) -> None:
        if self.tracker is not None:
            self.tracker.add_act(action, step, detail)
        self._add(Finding("DC460", f"step {step}", num_violations=1, num_checked=1, rule=action, detail=detail))

    def add_note(self, field: str, detail: str, severity: Severity | None = None) -> None:
        """Report once that something could not be watched or replayed."""
        note = Finding(
            "DC005", "training", field=field, num_violations=1, num_checked=1, detail=detail, severity=severity
        )
        if note not in self._findings:
            self._add(note)

    def add_finding(self, finding: Finding) -> None:
        """Report what was found about the run as a whole."""
        self._add(finding)

    def _add(self, finding: Finding) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding)
        else:
            self._num_left_out[finding.code] = self._num_left_out.get(finding.code, 0) + 1

    def report(self, num_steps: int, history: HistoryBuffer | None = None) -> GuardReport:
        findings = list(self._findings)
        for code, number in self._num_left_out.items():
            findings.append(
                Finding(
                    code, "training", num_violations=number, num_checked=number, rule="more", detail=f"{number:,} more"
                )
            )
        seconds = time.monotonic() - self._started
        return GuardReport(
            tuple(findings),
            num_rows=num_steps,
            seconds=seconds,
            diagnoses=tuple(self._diagnoses),
            curves={} if history is None else history.curves(),
        )
