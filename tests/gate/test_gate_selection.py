"""Select and ignore, severities and tolerances."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacheck import Finding, Severity
from datacheck.gate.selection import select
from datacheck.gate.settings import Settings
from datacheck.schema.tolerances import Limit


def finding(code: str = "DC101", field: str | None = "x", violations: int = 3, checked: int = 100) -> Finding:
    return Finding(code, "a.npy", field, violations, checked)


def severity_of(written: dict[str, Any], **about: Any) -> Severity | None:
    (found,) = select([finding(**about)], Settings.model_validate(written)).findings
    return found.severity


@pytest.mark.parametrize(
    ("selected", "ignored", "counts"),
    [
        (["DC"], [], True),
        (["DC1"], [], True),
        (["DC2"], [], False),
        (["DC1"], ["DC101"], False),
        (["DC101"], ["DC1"], True),
        (["DC101"], ["DC101"], False),
        (["DC2", "DC101"], ["DC10"], True),
    ],
)
def test_the_longer_prefix_of_select_and_ignore_wins(selected: list[str], ignored: list[str], counts: bool) -> None:
    result = select([finding()], Settings.model_validate({"select": selected, "ignore": ignored}))
    assert (len(result.findings), result.num_ignored) == ((1, 0) if counts else (0, 1))


@pytest.mark.parametrize(
    ("severities", "expected"),
    [
        ({}, Severity.ERROR),
        ({"DC": "warning"}, Severity.WARNING),
        ({"DC": "warning", "DC101": "info", "DC10": "error"}, Severity.INFO),
        ({"DC104": "info"}, Severity.ERROR),
    ],
)
def test_the_longest_prefix_decides_the_severity(severities: dict[str, str], expected: Severity) -> None:
    assert severity_of({"severity": severities}) is expected


@pytest.mark.parametrize(
    ("limits", "tolerated"),
    [
        ({"x": 3}, True),
        ({"x": 2}, False),
        ({"x": "3%"}, True),
        ({"x": "2.99%"}, False),
        ({"x": {"DC101": 3}}, True),
        ({"x": {"DC102": 3}}, False),
        ({"x": {"DC1": 3, "DC101": 0}}, False),
        ({"y": 3}, False),
        ({"*": 3}, True),
        ({"*": 0, "x": 3}, True),
        ({"?": 0, "*": 3}, False),
    ],
)
def test_a_finding_within_its_tolerance_is_a_note(limits: dict[str, Any], tolerated: bool) -> None:
    assert severity_of({"tolerances": limits}) is (Severity.INFO if tolerated else Severity.ERROR)


@pytest.mark.parametrize(("name", "tolerated"), [("", True), (None, True), ("*", True), ("x", False)])
def test_the_unnamed_array_has_tolerances_too(name: str | None, tolerated: bool) -> None:
    severity = severity_of({"tolerances": {name: 3}}, field=None)
    assert severity is (Severity.INFO if tolerated else Severity.ERROR)


@pytest.mark.parametrize("code", ["DC001", "DC003", "DC901", "DC304"])
def test_findings_on_whole_files_are_never_tolerated(code: str) -> None:
    settings = {"tolerances": {"*": "100%"}}
    assert severity_of(settings, code=code, violations=1, checked=1) is Severity.ERROR


def test_a_tolerated_finding_stays_in_the_report_with_its_limit() -> None:
    (found,) = select([finding()], Settings.model_validate({"tolerances": {"x": "5%"}})).findings
    assert found.message == "3 of 100 values are NaN in 'x': within the tolerance of 5 % (a.npy)"


@given(violations=st.integers(0, 10**18), checked=st.integers(1, 10**18), tenths=st.integers(0, 1000))
def test_percentages_are_exact(violations: int, checked: int, tenths: int) -> None:
    limit = Limit.parse(f"{tenths / 10}%")
    assert limit.admits(finding(violations=violations, checked=checked)) is (violations * 1000 <= tenths * checked)


@pytest.mark.parametrize("written", [-1, 0.5, True, "x", "5", "-1%", "100.1%", "1e2%", None, "5 % of them"])
def test_a_limit_is_a_number_or_a_percentage(written: Any) -> None:
    if written == "5":
        assert Limit.parse(written) == Limit(number=5)
        return
    with pytest.raises(ValueError, match="must be a number of violations such as 3, or a percentage"):
        Limit.parse(written)
