"""SARIF 2.1.0 (OASIS, 2020): what code scanning of GitHub, Azure and others reads."""

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
from datacheck.reports.places import is_inside, root_uri, uri_of
from datacheck.reports.report import Report
from datacheck.text import count, plain, quantity

__all__ = ["fingerprint", "render"]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_ORDER = {level: place for place, level in enumerate(_LEVELS)}
#: What is written with a backslash where it is only itself.
_LINK_SPECIAL = re.compile(r"[\\\[\]]")
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: What relative URIs are relative to, by the name that SARIF tools have agreed on.
_ROOT = "%SRCROOT%"
#: Code scanning of GitHub refuses a run with more results.
_MAX_RESULTS = 25_000


def render(report: Report) -> str:
    """The findings as one run of the tool ``datacheck``; codes are its rules, fields are logical locations.

    Findings that a baseline knows are there too, suppressed. Of more findings than a consumer takes the lesser ones are left
    out, and the invocation says how many.
    """
    compares = isinstance(report, GateReport) and report.baseline is not None
    new, known = _most_severe(report.findings, report.known if isinstance(report, GateReport) else ())
    codes = sorted({finding.code for finding in (*new, *known)})
    places = {code: place for place, code in enumerate(codes)}
    results = [_result(finding, places[finding.code]) for finding in new]
    if compares:
        results = [{**result, "baselineState": "new"} for result in results]
        results += [{**_result(finding, places[finding.code]), **_suppressed()} for finding in known]
    total = len(report.findings) + (len(report.known) if isinstance(report, GateReport) else 0)
    run = {
        "tool": {"driver": {"name": "datacheck", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "invocations": [{"executionSuccessful": True, **_left_out(total - len(results))}],
        "originalUriBaseIds": {_ROOT: {"uri": root_uri()}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False)


def _most_severe(new: Sequence[Finding], known: Sequence[Finding]) -> tuple[Sequence[Finding], Sequence[Finding]]:
    """As many findings as a consumer takes, new ones first, of these the most severe, each in their order."""
    if len(new) > _MAX_RESULTS:
        by_severity = sorted(range(len(new)), key=lambda place: _ORDER[_severity(new[place])])
        new = [new[place] for place in sorted(by_severity[:_MAX_RESULTS])]
    return new, known[: _MAX_RESULTS - len(new)]


def _left_out(number: int) -> dict[str, Any]:
    if not number:
        return {}
    text = (
        f"{quantity(number, 'finding')} left out: code scanning takes {count(_MAX_RESULTS)}. The format json has all."
    )
    return {"toolExecutionNotifications": [{"level": "warning", "message": {"text": text}}]}


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
    same = fingerprint(finding.key)
    return {
        "ruleId": finding.code,
        "ruleIndex": place,
        "level": _LEVELS[_severity(finding)],
        "message": {"text": _escaped(finding.message)},
        "locations": [location],
        # The second is the one that code scanning of GitHub tells alerts apart by. Where it is not given it is made from the
        # line, which is the first for every finding in a file: findings on two fields would become one alert.
        "partialFingerprints": {"datacheck/v1": same, "primaryLocationLineHash": f"{same[:16]}:1"},
        "properties": {"num_violations": finding.num_violations, "num_checked": finding.num_checked},
    }


def _severity(finding: Finding) -> str:
    return finding.severity.value if finding.severity else "error"


def _escaped(text: str) -> str:
    """A message in which no name from data is a placeholder or a link (sections 3.11.5 and 3.11.6 of the specification)."""
    text = text.replace("{", "{{").replace("}", "}}")
    return _LINK_SPECIAL.sub(r"\\\g<0>", text) if "](" in text else text
