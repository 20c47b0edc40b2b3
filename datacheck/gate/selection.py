"""What a finding counts for: its severity, what is tolerated of it, and whether it counts at all."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from datacheck.codes import longest_prefix
from datacheck.findings import Finding, Severity
from datacheck.gate.limits import Limit
from datacheck.gate.settings import Settings, Tolerances

__all__ = ["Selected", "select"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Selected:
    """The findings that count, and how many do not."""

    findings: tuple[Finding, ...]
    num_ignored: int


def select(findings: Iterable[Finding], settings: Settings) -> Selected:
    """Judge findings by settings.

    Of ``select`` and ``ignore`` the longer code decides, and ``ignore`` where both are equally long. A finding within its
    tolerance stays, as a note that says so: nothing is passed in silence.
    """
    counted: list[Finding] = []
    num_ignored = 0
    for finding in findings:
        if _is_ignored(finding.code, settings):
            num_ignored += 1
        else:
            counted.append(_tolerated(_with_severity(finding, settings.severity), settings.tolerances))
    return Selected(tuple(counted), num_ignored)


def _is_ignored(code: str, settings: Settings) -> bool:
    selected, ignored = longest_prefix(code, settings.select), longest_prefix(code, settings.ignore)
    return selected is None or (ignored is not None and len(ignored) >= len(selected))


def _with_severity(finding: Finding, severities: Mapping[str, Severity]) -> Finding:
    severity = _by_longest(finding.code, severities)
    return finding if severity is None else replace(finding, severity=severity)


def _tolerated(finding: Finding, tolerances: Tolerances) -> Finding:
    limit = _limit(finding, tolerances)
    if limit is None or not limit.admits(finding) or finding.severity is Severity.INFO:
        return finding
    detail = "; ".join(filter(None, (finding.detail, f"within the tolerance of {limit}")))
    return replace(finding, severity=Severity.INFO, detail=detail)


def _limit(finding: Finding, tolerances: Tolerances) -> Limit | None:
    """The limit that holds for a finding: that of the field's own name, or of the first pattern that matches it."""
    if finding.field in tolerances:
        return _by_longest(finding.code, tolerances[finding.field])
    for pattern, limits in tolerances.items():
        if pattern is not None and fnmatch.fnmatchcase(finding.field or "", pattern):
            return _by_longest(finding.code, limits)
    return None


def _by_longest(code: str, by_prefix: Mapping[str, T]) -> T | None:
    """What the longest beginning of a code says; None where there is none."""
    prefix = longest_prefix(code, by_prefix)
    return None if prefix is None else by_prefix[prefix]
