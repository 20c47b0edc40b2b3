"""Apply settings to findings: which ones count, their severity, and tolerances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from datacheck.codes import codes_with_prefix, longest_prefix, value_by_prefix
from datacheck.findings import Finding, Severity
from datacheck.gate.settings import Settings
from datacheck.schema.tolerances import apply_tolerance

T = TypeVar("T")
#: The prefix of all of datacheck's codes.
ALL_CODES = "DC"


@dataclass(frozen=True, slots=True)
class Selected:
    """The findings that count, and the number of ignored ones."""

    findings: tuple[Finding, ...]
    num_ignored: int


def select(findings: Iterable[Finding], settings: Settings) -> Selected:
    """Apply ``select``, ``ignore``, ``severity`` and ``tolerances``.

    If a code matches both ``select`` and ``ignore``, the longer prefix wins, and ``ignore`` wins a tie. A finding within
    its tolerance stays in the report as a note.
    """
    counted: list[Finding] = []
    num_ignored = 0
    for finding in findings:
        if _is_ignored(finding.code, settings):
            num_ignored += 1
        else:
            counted.append(apply_tolerance(_apply_severity(finding, settings.severity), settings.tolerances))
    return Selected(tuple(counted), num_ignored)


def _is_ignored(code: str, settings: Settings) -> bool:
    selected, ignored = longest_prefix(code, settings.select), longest_prefix(code, settings.ignore)
    if selected is None and ALL_CODES in settings.select and code not in codes_with_prefix(ALL_CODES):
        selected = ""  # a check of the user's: all are selected
    return selected is None or (ignored is not None and len(ignored) >= len(selected))


def _apply_severity(finding: Finding, severities: Mapping[str, Severity]) -> Finding:
    severity = value_by_prefix(finding.code, severities)
    return finding if severity is None else replace(finding, severity=severity)
