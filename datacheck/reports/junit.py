"""JUnit XML for Jenkins, GitLab and other test viewers: one suite per file, one test case per finding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from datacheck.findings import Finding
from datacheck.reports.gate_report import GateReport
from datacheck.reports.report import Report
from datacheck.text import plain, quantity

#: Characters that XML 1.0 forbids, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """The report as ``<testsuites>``.

    Errors fail, warnings and notes pass with their text, and known findings are skipped. A report without findings has
    one passed test case, so that no run looks empty.
    """
    known = report.known if isinstance(report, GateReport) else ()
    root = ElementTree.Element("testsuites", name="datacheck", time=f"{report.seconds:.3f}")
    _add_counts(root, report.findings, known)
    # Jenkins allows this attribute only on suites.
    del root.attrib["skipped"]
    by_file: dict[str, tuple[list[Finding], list[Finding]]] = {}
    for kind, findings in enumerate((report.findings, known)):
        for finding in findings:
            by_file.setdefault(finding.uri, ([], []))[kind].append(finding)
    for uri, (new_here, known_here) in by_file.items():
        suite = ElementTree.SubElement(root, "testsuite", name=_text(uri))
        _add_counts(suite, new_here, known_here)
        for finding in new_here:
            _add_case(suite, finding)
        for finding in known_here:
            ElementTree.SubElement(_case(suite, finding), "skipped", message="known, in the baseline")
    if not by_file:
        suite = ElementTree.SubElement(root, "testsuite", name="datacheck")
        _add_counts(suite, (), ())
        ElementTree.SubElement(suite, "testcase", classname="datacheck", name=quantity(report.num_files, "file"))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _add_counts(element: ElementTree.Element, findings: Sequence[Finding], known: Sequence[Finding]) -> None:
    element.set("tests", str(max(1, len(findings) + len(known))))
    element.set("failures", str(sum(finding.is_error for finding in findings)))
    element.set("errors", "0")
    element.set("skipped", str(len(known)))


def _add_case(suite: ElementTree.Element, finding: Finding) -> None:
    case = _case(suite, finding)
    if finding.is_error:
        failure = ElementTree.SubElement(case, "failure", type=finding.code, message=_text(finding.message))
        failure.text = _text(finding.message)
    else:
        ElementTree.SubElement(case, "system-out").text = _text(finding.message)


def _case(suite: ElementTree.Element, finding: Finding) -> ElementTree.Element:
    name = " ".join(filter(None, (finding.code, finding.name, finding.field, finding.rule)))
    return ElementTree.SubElement(suite, "testcase", classname=_text(finding.uri), name=_text(name))


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", plain(text, 2000))
