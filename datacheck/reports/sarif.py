"""SARIF 2.1.0 (OASIS, 2020): what code scanning of GitHub, Azure and others reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from datacheck import __version__
from datacheck.codes import CODES
from datacheck.findings import Finding
from datacheck.reports.gate_report import GateReport
from datacheck.reports.places import folder_uri, is_inside, uri_of
from datacheck.reports.report import Report
from datacheck.text import plain

__all__ = ["fingerprint", "render"]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: What relative URIs are relative to, by the name that SARIF tools have agreed on.
_ROOT = "%SRCROOT%"


def render(report: Report) -> str:
    """The findings as one run of the tool ``datacheck``; codes are its rules, fields are logical locations.

    Findings that a baseline knows are there too, suppressed.
    """
    known = report.known if isinstance(report, GateReport) else ()
    compares = isinstance(report, GateReport) and report.baseline is not None
    codes = sorted({finding.code for finding in (*report.findings, *known)})
    places = {code: place for place, code in enumerate(codes)}
    results = [_result(finding, places[finding.code]) for finding in report.findings]
    if compares:
        results = [{**result, "baselineState": "new"} for result in results]
        results += [{**_result(finding, places[finding.code]), **_suppressed()} for finding in known]
    run = {
        "tool": {"driver": {"name": "datacheck", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "invocations": [{"executionSuccessful": True}],
        "originalUriBaseIds": {_ROOT: {"uri": folder_uri()}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False)


def fingerprint(parts: Iterable[str]) -> str:
    """What makes a finding the same in the next run: file, field, code and rule, and not how many there are."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _suppressed() -> dict[str, Any]:
    suppression = {"kind": "external", "justification": "The finding stands in the baseline."}
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


def _result(finding: Finding, place: int) -> dict[str, Any]:
    artifact = {"uri": uri_of(finding.uri)}
    if is_inside(finding.uri):
        artifact["uriBaseId"] = _ROOT
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": artifact,
            # Code scanning shows no result without a line. Data has none; what there is is in the message.
            "region": {"startLine": 1},
        }
    }
    if finding.field is not None:
        location["logicalLocations"] = [{"name": plain(finding.field), "kind": "member"}]
    severity = finding.severity.value if finding.severity else "error"
    return {
        "ruleId": finding.code,
        "ruleIndex": place,
        "level": _LEVELS[severity],
        "message": {"text": _without_links(finding.message)},
        "locations": [location],
        "partialFingerprints": {"datacheck/v1": fingerprint(finding.key)},
        "properties": {"num_violations": finding.num_violations, "num_checked": finding.num_checked},
    }


def _without_links(text: str) -> str:
    """A message in which no name from data becomes a link (section 3.11.6 of the specification)."""
    return text.replace("[", "\\[").replace("]", "\\]") if "](" in text else text
