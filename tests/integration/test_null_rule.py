"""The rule without a schema for nulls: one set of data has one verdict, in memory and in every format it is written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import write_pipeline

import datacheck
from datacheck.schema.model import Schema

WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "parquet": lambda frame, path: frame.to_parquet(path),
    "feather": lambda frame, path: frame.to_feather(path),
    "csv": lambda frame, path: frame.to_csv(path, index=False),
}


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": ["a", None, "c", "d"],
            "y": [1.5, np.nan, 2.0, 3.0],
            "flag": [True, None, False, True],
            "count": pd.array([1, 2, None, 4], "Int64"),
            "gone": [np.nan] * 4,
            "good": [1, 2, 3, 4],
        }
    )


def errors(report: Any) -> dict[str, tuple[int, int, list[int | None]]]:
    return {
        finding.field: (finding.num_violations, finding.num_checked, [example.row for example in finding.examples])
        for finding in report.findings
        if finding.is_error
    }


BAD = {"y": (1, 4, [1]), "flag": (1, 4, [1]), "count": (1, 4, [2]), "gone": (4, 4, [0, 1, 2, 3])}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_frame_has_the_same_verdict_in_memory_and_on_disk(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    WRITERS[kind](frame(), path)
    in_memory, on_disk = datacheck.scan(frame()), datacheck.scan(path)
    assert errors(in_memory) == errors(on_disk) == BAD
    assert {finding.code for finding in in_memory.findings if finding.is_error} == {"DC101", "DC104"}
    assert {finding.code for finding in on_disk.findings if finding.is_error} == {"DC104"}
    for report in (in_memory, on_disk):
        assert not report.ok
        (note,) = (finding for finding in report.findings if not finding.is_error)
        assert (note.code, note.severity, note.field, note.num_violations) == ("DC105", "info", "name", 1)


def test_a_null_alone_in_its_line_is_one(tmp_path: Path) -> None:
    pd.DataFrame({"y": [1.0, np.nan, 3.0]}).to_csv(tmp_path / "x.csv", index=False)
    assert errors(datacheck.scan(tmp_path / "x.csv")) == {"y": (1, 3, [1])}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (pa.float16(), "DC104"),
        (pa.int8(), "DC104"),
        (pa.bool_(), "DC104"),
        (pa.decimal128(5, 2), "DC104"),
        (pa.null(), "DC104"),
        (pa.dictionary(pa.int8(), pa.int32()), "DC104"),
        (pa.string(), "DC105"),
        (pa.binary(), "DC105"),
        (pa.timestamp("us"), "DC105"),
        (pa.duration("s"), "DC105"),
        (pa.list_(pa.int8()), "DC105"),
        (pa.struct({"a": pa.int8()}), "DC105"),
    ],
    ids=str,
)
def test_a_null_is_an_error_in_numbers_and_a_note_elsewhere(kind: pa.DataType, code: str) -> None:
    report = datacheck.scan(pa.table({"x": pa.array([None, None], kind)}))
    assert [(finding.code, finding.num_violations) for finding in report.findings] == [(code, 2)]
    assert report.ok is (code == "DC105")


def test_a_null_inside_a_list_of_numbers_is_an_error() -> None:
    report = datacheck.scan(pa.table({"x": pa.array([[1, None], [], [2]], pa.list_(pa.int32()))}))
    assert [(finding.code, finding.field) for finding in report.findings] == [("DC104", "x[]")]


def test_fields_that_a_schema_does_not_name_are_held_to_the_same_rule() -> None:
    table = pa.table({"a": [1.0, None], "b": [None, 2.0], "c": ["x", None], "d": [None, "x"]})
    fields = {"a": {"nullable": True}, "c": {"nullable": True}}
    report = datacheck.scan(table, Schema(fields=fields))
    assert [(finding.code, finding.field) for finding in report.findings] == [("DC104", "b"), ("DC105", "d")]


def test_a_run_quarantines_rows_with_nulls_in_numbers_that_the_schema_does_not_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, None, 3.0], "name": [None, "b", "c"]}), tmp_path / "x.parquet")
    report = datacheck.run(write_pipeline(tmp_path, {"train": "x.parquet"}))
    assert report.totals() == {"num_read": 3, "num_kept": 2, "num_dropped": 0, "num_quarantined": 1}
    assert report.ok
