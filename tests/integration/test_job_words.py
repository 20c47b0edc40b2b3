"""Text that stands for numbers: in CSV files, which have no dtypes, and in fields that the schema converts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from job_files import kept_table, quarantine_of, write_pipeline, write_table

import datacheck
from datacheck.errors import CleaningError
from datacheck.profile.infer.infer import infer_with_notes
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


def test_words_among_numbers_are_errors_and_the_numbers_are_checked(folder: Path) -> None:
    report = datacheck.scan(folder / "a.csv")
    assert not report.ok
    assert found(report) == {
        "DC007": (2, 9, [1, 6]),
        "DC101": (1, 7, [2]),
        "DC102": (1, 7, [7]),
        "DC104": (1, 10, [3]),
    }
    finding = next(finding for finding in report.findings if finding.code == "DC007")
    assert [(example.row, example.value, example.line) for example in finding.examples] == [(1, "oops", 3), (6, "-", 8)]
    assert finding.message.startswith("2 of 9 values in 'x' are not numeric, such as 'oops', '-' (")
    assert finding.message.endswith("a.csv, rows 1, 6, lines 3, 8)")


def test_a_text_column_with_a_word_that_pandas_reads_as_nan_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,word\n1,nan\n2,a\n3,b\n")
    (finding,) = datacheck.scan(tmp_path / "a.csv").findings
    assert (finding.code, finding.severity, finding.field) == ("DC106", "info", "word")
    assert [(example.row, example.value, example.line) for example in finding.examples] == [(0, "nan", 2)]
    schema = Schema(fields={"id": {}, "word": {"dtype": "string"}})
    assert not datacheck.scan(tmp_path / "a.csv", schema).findings


def test_constraints_on_text_make_a_column_of_mostly_numbers_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("chromosome,y\n1,1\n2,2\n3,3\nX,4\n")
    assert [finding.code for finding in datacheck.scan(tmp_path / "a.csv").findings] == ["DC007"]
    for constraint in ({"dtype": "string"}, {"isin": ["1", "2", "3", "X"]}, {"str_matches": "[0-9XY]+"}):
        assert not datacheck.scan(tmp_path / "a.csv", Schema(fields={"chromosome": constraint, "y": {}})).findings


@pytest.mark.parametrize(
    ("cells", "advice"),
    [
        (["1,5", "2,75", "3"], "decimal comma: set csv_decimal: ','"),
        (["1,234", "2,345,678", "12"], "separated thousands: set csv_thousands: ','"),
        (["1.234,5", "12"], "separated thousands: set csv_thousands: '.' and csv_decimal: ','"),
        (["'1'", "'2.5'"], "numbers in quotes: set csv_quote"),
        (["12%", "5 %"], "percentages"),
        (["$12", "$1,500.00"], "amounts of money"),
    ],
)
def test_numbers_in_another_notation_are_named(tmp_path: Path, cells: list[str], advice: str) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\n" + "".join(f"{cell}\t1\n" for cell in cells))
    (finding,) = datacheck.scan(tmp_path / "a.tsv").findings
    assert finding.code == "DC007"
    assert advice in finding.message


def test_a_schema_is_inferred_numeric_and_says_which_words(folder: Path) -> None:
    text = infer_with_notes(folder / "a.csv").to_yaml()
    assert "2 not numeric ('oops', '-') of 10" in text
    assert "1 null" in text
    assert "dtype: float64" in text


def test_a_comparison_reads_text_with_the_dtypes_of_the_schema(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("code,y\n" + "".join(f"{row:03},{row % 7}\n" for row in range(100)))
    (tmp_path / "test.csv").write_text("code,y\n" + "".join(f"{row},{row % 7}\n" for row in range(100)))
    keyed = {"key": "code", "drift": False}
    assert datacheck.compare(tmp_path / "train.csv", tmp_path / "test.csv", **keyed).findings
    schema = Schema(fields={"code": {"dtype": "string"}, "y": {}})
    found = datacheck.compare(tmp_path / "train.csv", tmp_path / "test.csv", schema=schema, **keyed).findings
    assert not [finding for finding in found if finding.code == "DC310"]


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


def test_a_run_publishes_numbers_and_sets_words_aside(folder: Path) -> None:
    others = [{"action": "report", "codes": code} for code in ("DC101", "DC102", "DC104")]
    output = {"path": "out", "format": "parquet"}
    datacheck.run(write_pipeline(folder, {"train": "a.csv"}, others, output=output))
    assert kept_table(folder / "out")["x"].type == pa.float64()
    aside = quarantine_of(folder / "out")
    assert aside is not None
    assert [(row["row"], row["x"], row["codes"]) for row in aside.to_pylist()] == [
        (1, "oops", ["DC007"]),
        (6, "-", ["DC007"]),
    ]


def test_a_word_among_numbers_cannot_stay_and_a_schema_can_make_it_text(folder: Path) -> None:
    report = [{"action": "report"}]
    with pytest.raises(CleaningError, match=r"2 values of 'x' are not numbers"):
        datacheck.run(write_pipeline(folder, {"train": "a.csv"}, report))
    schema = {"fields": {"x": {"dtype": "string", "nullable": True}}}
    output = {"path": "out", "format": "parquet"}
    datacheck.run(write_pipeline(folder, {"train": "a.csv"}, report, schema=schema, output=output))
    assert kept_table(folder / "out")["x"].type == pa.string()


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
