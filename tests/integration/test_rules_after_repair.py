"""Rules are judged on what will be published: after the repairs of the values that they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from job_files import kept_table, ledger_of, write_pipeline, write_table

import datacheck

SCHEMA = {
    "fields": {"low": {}, "high": {"ge": -100}},
    "checks": [{"expr": "low <= high", "name": "order"}],
}
IMPUTE = {
    "action": "impute",
    "strategy": "constant",
    "value": 50.0,
    "fields": "high",
    "codes": ["DC101", "DC104", "DC201"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder: Path, columns: dict[str, Any], rules: list[Any], schema: Any = SCHEMA, **sections: Any) -> Any:
    write_table(folder / "in" / "a.parquet", columns)
    return datacheck.run(write_pipeline(folder, "in", rules, schema=schema, **sections))


def rule_findings(report: Any) -> list[tuple[int, int, list[int | None]]]:
    return [
        (one.num_violations, one.num_checked, [example.row for example in one.examples])
        for one in report.findings
        if one.rule is not None
    ]


@pytest.mark.parametrize("bad", [-999.0, np.nan, None])
def test_a_value_that_will_be_repaired_breaks_no_rule(bad: Any, folder: Path) -> None:
    report = run(folder, {"low": np.arange(30.0), "high": pa.array([bad] * 30, pa.float64())}, [IMPUTE])
    assert report.ok
    assert report.totals() == {"num_read": 30, "num_kept": 30, "num_dropped": 0, "num_quarantined": 0}
    assert rule_findings(report) == []
    assert kept_table(folder / "out").column("high").to_pylist() == [50.0] * 30


def test_rows_are_decided_before_or_after_the_repair_and_each_is_counted_once(folder: Path) -> None:
    # Row 1 breaks the rule as it is; row 2 does no longer once it is repaired; row 3 does only then.
    columns = {"low": [0.0, 9.0, 20.0, 80.0, 1.0], "high": [5.0, 8.0, -999.0, -999.0, 2.0]}
    report = run(folder, columns, [IMPUTE])
    assert report.ok
    assert kept_table(folder / "out").column("low").to_pylist() == [0.0, 20.0, 1.0]
    assert [(row["row"], row["codes"]) for row in ledger_of(folder / "out")] == [(1, ["DC302"]), (3, ["DC302"])]
    assert rule_findings(report) == [(2, 5, [1, 3])]


def test_a_repair_of_another_field_does_not_put_a_rule_off(folder: Path) -> None:
    schema = {**SCHEMA, "fields": {**SCHEMA["fields"], "other": {}}}
    rules = [{"action": "impute", "strategy": "mean", "fields": "other"}]
    columns = {"low": [1.0, 9.0, 0.0], "high": [5.0, 8.0, 3.0], "other": [1.0, np.nan, 3.0]}
    report = run(folder, columns, rules, schema)
    (removed,) = ledger_of(folder / "out")
    assert (removed["row"], removed["codes"]) == (1, ["DC302"])
    assert rule_findings(report) == [(1, 3, [1])]


@pytest.mark.parametrize(("high", "is_stopped"), [([-999.0, 2.0], False), ([-999.0, 0.5], True)])
def test_a_fail_rule_stops_only_for_what_would_be_published(high: list[float], is_stopped: bool, folder: Path) -> None:
    rules = [{"action": "fail", "codes": ["DC302"]}, IMPUTE]
    report = run(folder, {"low": [1.0, 1.0], "high": high}, rules)
    assert bool(report.failed) is is_stopped
    assert report.failed.get("DC302", 1) == 1


def test_a_rule_that_is_only_reported_counts_what_is_left_in_the_output(folder: Path) -> None:
    rules = [{"action": "report", "codes": ["DC302"]}, IMPUTE]
    report = run(folder, {"low": [1.0, 9.0, 80.0, 0.0], "high": [-999.0, 8.0, -999.0, 3.0]}, rules)
    assert not report.ok
    assert report.accounts[0].left_by_code == {"DC302": 2}
    assert rule_findings(report) == [(2, 4, [1, 2])]


def test_clipping_to_bounds_that_are_not_the_schemas_comes_before_rules(folder: Path) -> None:
    rules = [{"action": "clip", "fields": "low", "ge": 0, "le": 10}]
    report = run(folder, {"low": [90.0, 5.0, 90.0], "high": [50.0, 50.0, 4.0]}, rules)
    assert kept_table(folder / "out").column("low").to_pylist() == [10.0, 5.0]
    assert rule_findings(report) == [(1, 3, [2])]


@pytest.mark.parametrize("fields", [{}, {"low": {}, "high": {"ge": 0}}])
def test_values_that_are_replaced_are_judged_afterwards_whether_or_not_they_break_their_own_rule(
    fields: dict[str, Any], folder: Path
) -> None:
    rules = [{"action": "replace", "fields": "high", "to_replace": [-999], "value": 50}]
    columns = {"low": [1.0, 9.0, 80.0], "high": [-999.0, 4.0, -999.0]}
    report = run(folder, columns, rules, {**SCHEMA, "fields": fields})
    assert kept_table(folder / "out").column("high").to_pylist() == [50.0]
    assert rule_findings(report) == [(2, 3, [1, 2])]


@pytest.mark.parametrize(("low", "findings"), [(80.0, [(2, 30, [1, 2])]), (0.0, [(1, 30, [1])])])
def test_rows_that_are_judged_only_after_the_repair_are_counted(low: float, findings: list[Any], folder: Path) -> None:
    schema = {**SCHEMA, "fields": {"low": {}, "high": {"missing": [-999]}}}
    columns = {"low": [0.0, 9.0, low, *[0.0] * 27], "high": [5.0, 1.0, *[-999.0] * 10, *[20.0] * 18]}
    report = run(folder, columns, [{**IMPUTE, "codes": "DC110"}], schema)
    assert rule_findings(report) == findings


def test_a_check_of_a_field_is_judged_on_the_repaired_value(folder: Path) -> None:
    schema = {"fields": {"high": {"ge": -100, "checks": {"in_range": {"min_value": 0, "max_value": 60}}}}}
    rules = [{**IMPUTE, "codes": ["DC201"]}]
    report = run(folder, {"high": [1.0, -999.0, 70.0]}, rules, schema)
    assert kept_table(folder / "out").column("high").to_pylist() == [1.0, 50.0]
    assert report.totals()["num_quarantined"] == 1


def test_the_dropped_field_of_a_rule_is_judged_as_it_was(folder: Path) -> None:
    rules = [{"action": "drop_field", "fields": "high"}]
    report = run(folder, {"low": [1.0, 9.0], "high": [5.0, -999.0]}, rules)
    assert report.totals()["num_quarantined"] == 1


def test_statistics_are_learned_from_the_rows_that_are_kept_so_far(folder: Path) -> None:
    rules = [{**IMPUTE, "strategy": "mean"}]
    rules[0].pop("value")
    report = run(folder, {"low": [0.0, 0.0, 9.0, 0.0], "high": [4.0, 6.0, 8.0, -999.0]}, rules)
    assert report.ok
    # Row 2 breaks the rule as it is, so nothing is learned from it.
    assert kept_table(folder / "out").column("high").to_pylist() == [4.0, 6.0, 5.0]
