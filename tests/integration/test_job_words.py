"""Text that stands for numbers: in CSV files, which have no dtypes, and in fields that the schema converts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from job_files import kept_table, manifest_of, quarantine_of, write_pipeline, write_table

import datacheck
from datacheck.errors import CleaningError
from datacheck.schema.model import Schema

CELLS = ["1.5", "oops", "nan", "", "4", " 5 ", "-", "inf", "7", "8"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{cell},{row}\n" for row, cell in enumerate(CELLS)))
    return tmp_path


def found(report: Any) -> dict[str, tuple[int, int, list[int | None]]]:
    return {
        finding.code: (finding.num_violations, finding.num_checked, [example.row for example in finding.examples])
        for finding in report.findings
    }


def test_few_words_among_numbers_are_a_warning_that_names_them(folder: Path) -> None:
    report = datacheck.scan(folder / "a.csv")
    assert report.ok
    (finding,) = (finding for finding in report.findings if finding.code != "DC105")
    assert (finding.code, finding.severity, finding.field) == ("DC007", "warning", "x")
    assert [(example.row, example.value) for example in finding.examples] == [(1, "oops"), (6, "-")]
    assert finding.message.startswith("2 of 9 values in 'x' are not numeric, so the column was read as text")


def test_a_dtype_makes_each_word_a_violation_and_the_others_numbers(folder: Path) -> None:
    report = datacheck.scan(folder / "a.csv", Schema(fields={"x": {"dtype": "float32", "le": 7}}))
    assert found(report) == {
        "DC003": (2, 9, [1, 6]),
        "DC101": (1, 7, [2]),
        "DC102": (1, 7, [7]),
        "DC104": (1, 10, [3]),
        "DC202": (2, 7, [7, 9]),
    }
    assert {finding.code: finding.message for finding in report.findings}["DC003"].startswith(
        "2 of 9 values in 'x' are not float32"
    )


def test_a_run_sets_aside_the_words_as_they_stand(folder: Path) -> None:
    schema = {"fields": {"x": {"dtype": "float32", "nullable": True, "allow_nan": True, "allow_inf": True}}}
    output = {"path": "out", "format": "parquet"}
    run = datacheck.run(write_pipeline(folder, {"train": "a.csv"}, schema=schema, output=output))
    assert run.ok
    aside = quarantine_of(folder / "out")
    assert aside is not None
    assert [(row["row"], row["x"], row["codes"]) for row in aside.to_pylist()] == [
        (1, "oops", ["DC003"]),
        (6, "-", ["DC003"]),
    ]
    assert aside["reason"].to_pylist() == ["DC003 in 'x': not float32"] * 2
    kept = kept_table(folder / "out")
    assert kept["x"].type == pa.float32()
    assert list(map(str, kept["x"].to_pylist())) == ["1.5", "nan", "None", "4.0", "5.0", "inf", "7.0", "8.0"]


@pytest.mark.parametrize(
    ("clean", "removed"),
    [([], []), ([{"action": "drop_row"}], []), ([{"action": "quarantine", "codes": "DC007"}], [1, 6])],
)
def test_a_warning_takes_no_row_out_unless_a_rule_names_it(folder: Path, clean: list[Any], removed: list[int]) -> None:
    run = datacheck.run(write_pipeline(folder, {"train": "a.csv"}, clean))
    assert run.ok
    (record,) = manifest_of(folder / "out")["inputs"]
    assert (record["num_read"], record["num_kept"], record["num_quarantined"]) == (10, 10 - len(removed), len(removed))
    aside = quarantine_of(folder / "out")
    assert ([] if aside is None else aside["row"].to_pylist()) == removed


def test_a_value_that_does_not_convert_cannot_stay(folder: Path) -> None:
    schema = {"fields": {"x": {"dtype": "float32", "nullable": True}}}
    pipeline = write_pipeline(folder, {"train": "a.csv"}, [{"action": "report"}], schema=schema)
    with pytest.raises(CleaningError, match=r"2 values of 'x' are not float32, and 'report' would leave them"):
        datacheck.run(pipeline)
    assert not (folder / "out" / "manifest.json").exists()


@pytest.mark.parametrize("text", ["a;b\n1;nan\n", "a\tb\n1\tnan\n"])
def test_a_file_that_was_read_with_the_wrong_delimiter_is_not_passed(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    report = datacheck.scan(tmp_path / "a.csv")
    assert [finding.code for finding in report.findings] == ["DC901"]
    assert "set csv_delimiter" in report.findings[0].message
    pipeline = write_pipeline(tmp_path, {"train": "a.csv"}, reading={"csv_delimiter": text[1]})
    assert [finding.code for finding in datacheck.run(pipeline).findings] == ["DC101"]


def test_values_that_did_not_convert_repeat_no_key(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {"id": ["1", "2", "x", "y", "2.0"]})
    write_table(tmp_path / "b.parquet", {"id": [1, 5, 6]})
    schema = Schema(fields={"id": {"dtype": "int64", "coerce": True, "unique": True}})
    report = datacheck.scan([tmp_path / "a.parquet", tmp_path / "b.parquet"], schema)
    assert [(finding.code, [example.row for example in finding.examples]) for finding in report.findings] == [
        ("DC003", [2, 3]),
        ("DC301", [4]),
        ("DC301", [0]),
    ]


def test_a_null_in_a_converted_field_is_a_null_and_an_unconvertible_value_is_not() -> None:
    table = pa.table({"x": ["1", None, "x", "3"]})
    report = datacheck.scan(table, Schema(fields={"x": {"dtype": "int8", "coerce": True}}))
    assert found(report) == {"DC003": (1, 3, [2]), "DC104": (1, 4, [1])}


def test_a_refused_value_of_an_array_hides_none_beside_it() -> None:
    array = np.array([[1e300, np.nan], [1.0, -5.0]])
    report = datacheck.scan({"x": array}, Schema(fields={"x": {"dtype": "float32", "coerce": True, "ge": 0}}))
    assert {finding.code: [example.index for example in finding.examples] for finding in report.findings} == {
        "DC003": [(0,)],
        "DC101": [(1,)],
        "DC201": [(1,)],
    }


@pytest.mark.parametrize("clean", [{"action": "fail", "codes": "DC003"}, {"action": "drop_field", "fields": "x"}])
def test_other_rules_than_report_do_what_they_say_about_a_word(folder: Path, clean: dict[str, Any]) -> None:
    schema = {"fields": {"x": {"dtype": "float32", "nullable": True, "allow_nan": True, "allow_inf": True}}}
    output = {"path": "out", "format": "parquet"}
    run = datacheck.run(write_pipeline(folder, {"train": "a.csv"}, [clean], schema=schema, output=output))
    if clean["action"] == "fail":
        assert run.failed == {"DC003": 2}
        return
    assert run.ok
    assert kept_table(folder / "out").column_names == ["y"]
    assert run.totals() == {"num_read": 10, "num_kept": 10, "num_dropped": 0, "num_quarantined": 0}


def test_duplicates_are_counted_alike_in_a_scan_and_a_run(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,y\n1,1\nx,2\ny,3\n1,4\n")
    schema = {"fields": {"id": {"dtype": "int64", "unique": True}}}
    scanned = found(datacheck.scan(tmp_path / "a.csv", Schema.model_validate(schema)))
    assert scanned["DC301"] == (1, 4, [3])
    assert found(datacheck.run(write_pipeline(tmp_path, {"train": "a.csv"}, schema=schema))) == scanned
