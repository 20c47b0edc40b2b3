"""JUnit XML: a test suite a file, a test case a finding; for Jenkins, GitLab and whatever shows tests."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from datacheck.findings import Finding
from datacheck.reports.report import Report
from datacheck.text import plain

__all__ = ["render"]

#: What XML 1.0 cannot hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """The report as ``<testsuites>``. A report without findings is one passed test case, so that no run looks empty."""
    by_file: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_file.setdefault(finding.uri, []).append(finding)
    root = ElementTree.Element("testsuites", name="datacheck", time=f"{report.seconds:.3f}")
    num_errors = sum(finding.is_error for finding in report.findings)
    root.set("tests", str(max(1, len(report.findings))))
    root.set("failures", str(num_errors))
    for uri, findings in by_file.items():
        failures = sum(finding.is_error for finding in findings)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_text(uri),
            tests=str(len(findings)),
            failures=str(failures),
            errors="0",
            skipped="0",
        )
        for finding in findings:
            _add_case(suite, finding)
    if not by_file:
        suite = ElementTree.SubElement(
            root, "testsuite", name="datacheck", tests="1", failures="0", errors="0", skipped="0"
        )
        ElementTree.SubElement(suite, "testcase", classname="datacheck", name=f"{report.num_files:,} files")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _add_case(suite: ElementTree.Element, finding: Finding) -> None:
    name = " ".join(filter(None, (finding.code, finding.name, finding.field, finding.rule)))
    case = ElementTree.SubElement(suite, "testcase", classname=_text(finding.uri), name=_text(name))
    if finding.is_error:
        failure = ElementTree.SubElement(case, "failure", type=finding.code, message=_text(finding.message))
        failure.text = _text(finding.message)
    else:
        ElementTree.SubElement(case, "system-out").text = _text(finding.message)


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", plain(text, 2000))
