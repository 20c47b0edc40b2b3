"""A column whose name is also the path of a nested field: their findings would be ambiguous."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import manifest_of, write_pipeline

import datacheck

TABLES: dict[str, Any] = {
    "a struct": (pa.table({"a": [{"b": 1.0}], "a.b": [2.0]}), "a.b"),
    "a list": (pa.table({"a[]": [1.0], "a": [[1.0]]}), "a[]"),
    "two structs": (pa.table({"a": [{"b.c": 1.0}], "a.b": [{"c": 1.0}]}), "a.b.c"),
    "fields of one name": (pa.table({"s": pa.StructArray.from_arrays([pa.array([1.0])] * 2, names=["b", "b"])}), "s.b"),
    "arrays": ({"x": np.zeros(3, [("y", "f4")]), "x.y": np.zeros(3)}, "x.y"),
}


@pytest.mark.parametrize(("data", "path"), TABLES.values(), ids=TABLES)
def test_two_fields_with_one_path_are_a_finding(data: Any, path: str) -> None:
    (finding,) = datacheck.scan(data).findings
    assert (finding.code, finding.field) == ("DC006", path)
    assert "two fields of the file have this path" in finding.message


@pytest.mark.parametrize(
    "columns", [{"a.b": [1.0], "a.c": [2.0]}, {"a": [{"c": 1.0}], "a.b": [1.0]}, {"a.b": [{"c": 1.0}]}]
)
def test_names_may_contain_dots(columns: dict[str, Any]) -> None:
    assert not datacheck.scan(pa.table(columns)).findings


def test_columns_read_in_separate_batches_are_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a row group is read a few columns at a time, the two are never in one batch."""
    monkeypatch.setattr("datacheck.sources.parquet.TARGET_BATCH_BYTES", 1)
    rows = 1000
    table = pa.table({"a": [{"b": 1.0}] * rows, "other": [1.0] * rows, "a.b": [2.0] * rows})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    (finding,) = datacheck.scan(tmp_path / "a.parquet").findings
    assert (finding.code, finding.field) == ("DC006", "a.b")


def test_a_run_quarantines_their_rows_and_reports_them_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [{"b": 1.0}] * 3, "a.b": [2.0] * 3}), tmp_path / "a.parquet", row_group_size=1)
    run = datacheck.run(write_pipeline(tmp_path, {"train": "a.parquet"}))
    assert [finding.code for finding in run.findings] == ["DC006"]
    (record,) = manifest_of(tmp_path / "out")["inputs"]
    assert (record["num_read"], record["num_kept"], record["num_quarantined"]) == (3, 0, 3)
