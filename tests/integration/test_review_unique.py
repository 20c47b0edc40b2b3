"""Unique keys: nameless arrays, fields inside structs, and keys that a repair would change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import kept_table, quarantine_of, write_pipeline, write_table

import datacheck
from datacheck import Schema
from datacheck.errors import PipelineError

NAN = float("nan")
STRUCTS = pa.array([{"a": 1, "in": {"b": 5}}, {"a": 1, "in": {"b": 5}}, None, {"a": 2, "in": None}, None])


def duplicates(report: Any) -> list[tuple[str | None, int, list[int]]]:
    found = [finding for finding in report.findings if finding.code == "DC301"]
    return [(one.field, one.num_violations, [example.row for example in one.examples]) for one in found]


@pytest.mark.parametrize("name", [None, "x"])
@pytest.mark.parametrize(
    ("array", "repeated"),
    [(np.array([1, 2, 1, 1]), [2, 3]), (np.array([[1.0, NAN], [2, 3], [1, NAN]]), [2]), (np.arange(4), [])],
)
def test_rows_of_a_nameless_array_are_checked_for_uniqueness(
    tmp_path: Path, name: str | None, array: np.ndarray, repeated: list[int]
) -> None:
    np.save(tmp_path / "a.npy", array)
    schema = Schema(fields={name: {"unique": True, "allow_nan": True}})
    expected = [(None, len(repeated), repeated)] if repeated else []
    assert duplicates(datacheck.scan(tmp_path / "a.npy", schema)) == expected
    assert duplicates(datacheck.scan(array, schema)) == expected


def test_repeated_rows_of_an_array_are_quarantined(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([7, 8, 7]))
    schema = {"fields": {None: {"unique": True}}}
    report = datacheck.run(write_pipeline(tmp_path, {"train": "a.npy"}, schema=schema), workers=1)
    assert (report.totals()["num_kept"], report.totals()["num_quarantined"]) == (2, 1)
    assert np.load(tmp_path / "out" / "train" / "a.npy").tolist() == [7, 8]


@pytest.mark.parametrize(("path", "repeated"), [("s.a", [1, 4]), ("s.in.b", [1, 3, 4])])
def test_a_field_inside_a_struct_is_checked_for_uniqueness(tmp_path: Path, path: str, repeated: list[int]) -> None:
    table = pa.table({"s": STRUCTS, "s.other": [1] * 5})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    schema = Schema(fields={path: {"unique": True, "nullable": True}})
    for data in (table, tmp_path / "t.parquet"):
        assert duplicates(datacheck.scan(data, schema)) == [(path, len(repeated), repeated)]


def test_a_field_of_a_structured_array_is_checked_for_uniqueness() -> None:
    array = np.array([(1, (2, 3)), (4, (2, 5)), (6, (7, 8))], [("a", "i4"), ("in", [("b", "i4"), ("c", ">f8")])])
    schema = Schema(unique=[["in.b"], ["a"], ["in.c", "in.b"]], fields={"a": {}, "in.b": {}, "in.c": {}})
    assert duplicates(datacheck.scan({"r": array}, schema)) == []
    schema = Schema(unique=[["r.in.b"], ["r.a"]], fields={"r.a": {}, "r.in.b": {}})
    assert duplicates(datacheck.scan({"r": array}, schema)) == [("r.in.b", 1, [1])]


def test_rows_with_a_repeated_key_inside_a_struct_are_quarantined(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", {"s": STRUCTS})
    schema = {"fields": {"s.a": {"unique": True, "nullable": True}}}
    report = datacheck.run(write_pipeline(tmp_path, {"train": "t.parquet"}, schema=schema), workers=1)
    assert report.totals()["num_quarantined"] == 2


def run_with(folder: Path, clean: list[dict[str, Any]], **schema: Any) -> datacheck.RunReport:
    write_table(folder / "t.parquet", {"k": [1.0, 2.0, NAN], "x": [NAN, 1.0, 1.0]})
    return datacheck.run(write_pipeline(folder, {"train": "t.parquet"}, clean, schema=schema), workers=1)


FILL = {"action": "impute", "strategy": "constant", "value": 2}


@pytest.mark.parametrize(
    "schema", [{"fields": {"k": {"unique": True}}}, {"unique": ["k", "x"], "fields": {"k": {}, "x": {}}}]
)
def test_a_repair_of_a_key_field_is_an_error(tmp_path: Path, schema: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"clean\[0\].fields: 'k' is part of a unique key"):
        run_with(tmp_path, [{**FILL, "fields": "k"}], **schema)


def test_a_repair_of_all_fields_skips_key_fields(tmp_path: Path) -> None:
    report = run_with(tmp_path, [FILL], fields={"k": {"unique": True}})
    assert report.ok
    assert kept_table(tmp_path / "out").to_pydict() == {"k": [1.0, 2.0], "x": [2.0, 1.0]}
    aside = quarantine_of(tmp_path / "out")
    assert aside is not None
    assert aside["codes"].to_pylist() == [["DC101"]]


def test_a_key_may_be_repaired_if_its_repetition_is_only_reported(tmp_path: Path) -> None:
    report = run_with(tmp_path, [{"action": "report", "codes": "DC301"}, FILL], fields={"k": {"unique": True}})
    assert report.totals()["num_kept"] == 3
    assert kept_table(tmp_path / "out")["k"].to_pylist() == [1.0, 2.0, 2.0]
