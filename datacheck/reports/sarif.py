"""SARIF 2.1.0 (OASIS, 2020), read by code scanning on GitHub, Azure and others."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from datacheck._version import __version__
from datacheck.codes import CODES
from datacheck.findings import Finding
from datacheck.reports.gate_report import GateReport
from datacheck.reports.report import Report
from datacheck.reports.repository_paths import is_in_repository, repository_uri, to_uri
from datacheck.text import count, plain, quantity

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_RANKS = {severity: rank for rank, severity in enumerate(_LEVELS)}
#: Characters to escape with a backslash where they are literal.
_LINK_SPECIAL = re.compile(r"[\\\[\]]")
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: The name that SARIF tools use for the base of relative URIs.
_ROOT = "%SRCROOT%"
#: GitHub code scanning rejects a run with more results.
_MAX_RESULTS = 25_000


def render(report: Report) -> str:
    """The findings as one run of the tool ``datacheck``. Codes are its rules, fields are logical locations.

    Known findings are included as suppressed results. Above the maximum number of results the least severe findings are
    omitted, and a notification says how many.
    """
    all_known = report.known if isinstance(report, GateReport) else ()
    has_baseline = isinstance(report, GateReport) and report.baseline is not None
    new, known = _most_severe(report.findings, all_known)
    codes = sorted({finding.code for finding in (*new, *known)})
    positions = {code: position for position, code in enumerate(codes)}
    results = [_result(finding, positions[finding.code]) for finding in new]
    if has_baseline:
        results = [{**result, "baselineState": "new"} for result in results]
        results += [{**_result(finding, positions[finding.code]), **_suppressed()} for finding in known]
    num_omitted = len(report.findings) + len(all_known) - len(results)
    run = {
        "tool": {"driver": {"name": "datacheck", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "invocations": [{"executionSuccessful": True, **_omitted(num_omitted)}],
        "originalUriBaseIds": {_ROOT: {"uri": repository_uri()}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False)


def _most_severe(new: Sequence[Finding], known: Sequence[Finding]) -> tuple[Sequence[Finding], Sequence[Finding]]:
    """The findings that fit: the most severe new ones, then known ones, each in their original order."""
    if len(new) > _MAX_RESULTS:
        by_severity = sorted(range(len(new)), key=lambda position: _RANKS[_severity(new[position])])
        new = [new[position] for position in sorted(by_severity[:_MAX_RESULTS])]
    return new, known[: _MAX_RESULTS - len(new)]


def _omitted(number: int) -> dict[str, Any]:
    if not number:
        return {}
    text = f"{quantity(number, 'finding')} omitted: code scanning takes {count(_MAX_RESULTS)}. The json format has all of them."
    return {"toolExecutionNotifications": [{"level": "warning", "message": {"text": text}}]}


def fingerprint(parts: Iterable[str]) -> str:
    """Identifies a finding across runs, by its file, field, code and rule. Counts may change."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _suppressed() -> dict[str, Any]:
    suppression = {"kind": "external", "justification": "The finding is in the baseline."}
    return {"baselineState": "unchanged", "suppressions": [suppression]}


def _rule(number: str) -> dict[str, Any]:
    code = CODES[number]
    return {
        "id": number,
        "name": code.name,
        "shortDescription": {"text": code.finds},
        "fullDescription": {"text": code.why},
        "help": {"text": code.remedy},
        "defaultConfiguration": {"level": _LEVELS[code.severity]},
    }


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    artifact = {"uri": to_uri(finding.uri)}
    if is_in_repository(finding.uri):
        artifact["uriBaseId"] = _ROOT
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": artifact,
            # Code scanning hides results without a line. Only text files have some; the message names the rows.
            "region": {"startLine": finding.line or 1},
        }
    }
    if finding.field is not None:
        location["logicalLocations"] = [{"name": plain(finding.field), "kind": "member"}]
    same = fingerprint(finding.key)
    return {
        "ruleId": finding.code,
        "ruleIndex": rule_index,
        "level": _LEVELS[_severity(finding)],
        "message": {"text": _escaped(finding.message)},
        "locations": [location],
        # GitHub identifies alerts by the second one. Without it, GitHub would hash the line, which is 1 for most findings,
        # and findings on two fields would become one alert.
        "partialFingerprints": {"datacheck/v1": same, "primaryLocationLineHash": f"{same[:16]}:1"},
        "properties": {"num_violations": finding.num_violations, "num_checked": finding.num_checked},
    }


def _severity(finding: Finding) -> str:
    return finding.severity.value if finding.severity else "error"


def _escaped(text: str) -> str:
    """A message in which names from data are neither placeholders nor links (SARIF sections 3.11.5 and 3.11.6)."""
    text = text.replace("{", "{{").replace("}", "}}")
    return _LINK_SPECIAL.sub(r"\\\g<0>", text) if "](" in text else text
