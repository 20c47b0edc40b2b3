"""What a schema names without listing it, and what a run adds to its output or drops from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import write_pipeline, write_table

import datacheck
from datacheck.errors import PipelineError
from datacheck.reports.formats import FORMATS, render
from datacheck.reports.report import Report
from datacheck.schema.model import Schema


def found(report: Any) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.field) for finding in report.findings]


@pytest.mark.parametrize("strict", [False, True])
def test_fields_of_keys_and_expressions_need_not_be_listed(strict: bool) -> None:
    schema = Schema(unique=[["a", "s.k"]], checks=["b < c"], fields={"x": {}}, strict=strict)
    table = {"a": [1, 1], "s": [{"k": 1}, {"k": 2}], "b": [0, 5], "c": [1, 1], "x": [1.0, 2.0]}
    assert found(datacheck.scan(_frame(table), schema)) == [("DC302", None)]
    assert found(datacheck.scan(_frame({**table, "more": [1, 2]}), schema))[:1] == (
        [("DC002", "more")] if strict else [("DC302", None)]
    )


def _frame(columns: dict[str, Any]) -> Any:
    import pyarrow as pa

    return pa.table(columns)


def test_a_key_without_its_field_is_not_passed() -> None:
    (finding,) = datacheck.scan(_frame({"alpha": [1, 2]}), Schema(unique=["alhpa"])).findings
    assert (finding.code, finding.field) == ("DC001", "alhpa")
    assert "did you mean 'alpha'?" in finding.message


IMPUTE = {"action": "impute", "strategy": "median", "fields": "x", "indicator": True}


@pytest.mark.parametrize("listed", [{}, {"x_missing": {"dtype": "bool"}}, {"x_missing": {"required": False}}])
def test_an_indicator_and_a_strict_schema_do_not_contradict_each_other(tmp_path: Path, listed: Any) -> None:
    write_table(tmp_path / "t.parquet", {"x": [1.0, np.nan, 3.0]})
    schema = {"strict": True, "fields": {"x": {"dtype": "float64"}, **listed}}
    report = datacheck.run(write_pipeline(tmp_path, {"train": "t.parquet"}, [IMPUTE], schema=schema))
    assert report.ok
    assert report.totals()["num_kept"] == 3
    assert found(report) == [("DC101", "x")]
    assert found(datacheck.scan(tmp_path / "out" / "train", Schema(**schema))) == []


def test_an_indicator_that_the_schema_lists_with_another_dtype_is_an_error(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", {"x": [1.0, np.nan, 3.0]})
    schema = {"fields": {"x": {}, "x_missing": {"dtype": "float32", "required": False}}}
    with pytest.raises(PipelineError, match="lists 'x_missing' as float32, and an indicator is bool"):
        datacheck.run(write_pipeline(tmp_path, {"train": "t.parquet"}, [IMPUTE], schema=schema))


def test_other_columns_are_still_extra() -> None:
    table = _frame({"x": [1.0], "x_missing": [0.5], "y_missing": [True]})
    assert found(datacheck.scan(table, Schema(strict=True, fields={"x": {}}))) == [
        ("DC002", "x_missing"),
        ("DC002", "y_missing"),
    ]


def test_what_a_report_rule_leaves_in_one_field_is_not_laid_to_another(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", {"a": [1.0, np.nan, 3.0], "b": [np.nan, 2.0, 3.0]})
    rules = [{"action": "report", "fields": "a", "codes": "DC101"}, {"action": "drop_row", "fields": "b"}]
    report = datacheck.run(write_pipeline(tmp_path, {"train": "t.parquet"}, rules))
    assert not report.ok
    severities = {finding["check_name"]: finding["severity"] for finding in json.loads(render(report, "gitlab"))}
    assert len(severities) == 1
    by_field = {finding.field: finding.severity for finding in report.for_ci().findings}
    assert by_field == {"a": "error", "b": "info"}


@pytest.mark.parametrize("rule", ["report", "drop_row"])
def test_a_code_that_is_reported_in_a_dropped_field_fails_nothing(tmp_path: Path, rule: str) -> None:
    write_table(tmp_path / "t.parquet", {"a": [1.0, 2.0, 3.0], "b": [np.nan, 2.0, 3.0]})
    rules = [{"action": rule, "fields": "b", "codes": "DC101"}, {"action": "drop_field", "fields": "b"}]
    pipeline = write_pipeline(tmp_path, {"train": "t.parquet"}, rules)
    for report in (datacheck.run(pipeline), datacheck.run(pipeline)):  # the second reads the manifest
        assert report.ok
        assert not any(finding.is_error for finding in report.for_ci().findings)
        for name in FORMATS:
            assert render(report, name)
        assert "::error" not in render(report, "github")


@pytest.mark.parametrize("report", [Report(), datacheck.scan(np.array([np.nan]))], ids=["clean", "bad"])
def test_a_report_is_neither_true_nor_false(report: Report) -> None:
    with pytest.raises(TypeError, match=r"use report\.ok"):
        bool(report)


@pytest.mark.parametrize("action", ["drop_row", "quarantine"])
@pytest.mark.parametrize("pattern", ["", "/**/*", "/*"])
def test_the_whole_output_of_a_run_can_be_scanned(action: str, pattern: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1.0, np.nan, 2.0, 3.0]))
    datacheck.run(write_pipeline(tmp_path, str(tmp_path / "x.npy"), [{"action": action, "codes": "DC101"}]))
    report = datacheck.scan(f"{tmp_path / 'out'}{pattern}")
    assert report.ok
    assert report.num_rows == 3
    noted = [finding.detail for finding in report.findings if finding.code == "DC913"]
    is_noted = action == "quarantine" and not pattern
    assert noted == (["1 folder was not checked: 1 quarantine folder"] if is_noted else [])
    if action == "quarantine":
        assert not datacheck.scan(tmp_path / "out" / "quarantine").ok


def test_a_folder_of_that_name_without_a_manifest_of_a_run_is_data(tmp_path: Path) -> None:
    write_table(tmp_path / "ledger" / "a.parquet", {"x": [1.0]})
    (tmp_path / "manifest.json").write_text('{"version": 1, "files": []}')
    assert datacheck.scan(tmp_path).num_rows == 1
