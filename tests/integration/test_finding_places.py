"""What a finding says of the values: which, how many in how many rows, and where in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.findings import Example, Finding
from datacheck.schema.model import Schema


def messages(data: Any, schema: Schema | None = None) -> list[str]:
    return [finding.message for finding in datacheck.scan(data, schema).findings]


def test_values_and_rows_are_counted_apart(tmp_path: Path) -> None:
    array = np.zeros((1000, 288), np.float32)
    array[700] = np.nan
    array[[3, 5], 7] = np.inf
    np.save(tmp_path / "x.npy", array)
    assert messages(tmp_path / "x.npy") == [
        f"288 of 288,000 values are NaN in the array, in 1 row ({tmp_path}/x.npy, row 700, index [0], …)",
        f"2 of 288,000 values are +inf in the array ({tmp_path}/x.npy, rows 3, 5)",
    ]


@pytest.mark.parametrize("row_group_size", [2, 100])
def test_the_rows_of_lists_are_counted_over_row_groups(tmp_path: Path, row_group_size: int) -> None:
    rows = [[np.nan, np.nan], [1.0], None, [np.nan, 2.0, np.nan], [[], [np.nan]][1]]
    pq.write_table(pa.table({"x": rows}), tmp_path / "x.parquet", row_group_size=row_group_size)
    finding = next(finding for finding in datacheck.scan(tmp_path / "x.parquet").findings if finding.code == "DC101")
    assert (finding.num_violations, finding.num_rows) == (5, 3)
    assert ", in 3 rows (" in finding.message
    assert Finding.from_dict(finding.to_dict()) == finding


def test_a_row_that_several_blocks_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacheck.checks.rules.BLOCK", 64)
    array = np.full((3, 1000), 9, np.uint8)
    (finding,) = datacheck.scan(array, Schema(fields={None: {"isin": [1]}})).findings
    assert (finding.num_violations, finding.num_rows) == (3000, 3)


def test_the_violating_values_are_shown(tmp_path: Path) -> None:
    assert messages(np.array([0, 255, 1, 255, 254], np.uint8), Schema(fields={None: {"lt": 3}})) == [
        "3 of 5 values in the array are not < 3: found 255, 254 (<memory>, rows 1, 3, 4)"
    ]
    table = pa.table({"w": ["calm", "x", "dead", "a", "b"], "n": [1.5, -2.0, 3.0, 4.0, 5.0]})
    schema = Schema(fields={"w": {"isin": ["x"]}, "n": {"checks": {"ge": 0}}}, checks=["n < 5"])
    text, row, number = messages(table, schema)
    assert text.endswith("are not one of 'x': found 'calm', 'dead', 'a', … (<memory>, rows 0, 2, 3, 4)")
    assert number.endswith(": found -2.0 (<memory>, row 1)")
    assert row.endswith(": found n=5.0 (<memory>, row 4)")


def test_the_line_of_a_text_file_is_named(tmp_path: Path) -> None:
    schema = Schema(fields={"n": {"le": 5}})
    (tmp_path / "a.csv").write_text("n,w\n1,a\n7,b\n2,c\n9,d\n")
    (message,) = messages(tmp_path / "a.csv", schema)
    assert message.endswith("found 7, 9 (" + f"{tmp_path}/a.csv, rows 1, 3, lines 3, 5)")
    (tmp_path / "b.csv").write_text('n,w\n1,"a\na"\n7,b\n')
    (message,) = messages(tmp_path / "b.csv", schema)
    assert message.endswith(f"{tmp_path}/b.csv, row 1, line 4)")


def test_a_report_says_what_rows_are_counted_from() -> None:
    assert "; rows are counted from 0" in str(datacheck.scan(np.array([np.nan])))
    assert "counted from" not in str(datacheck.scan(np.array([1.0])))


def test_the_line_of_the_readme() -> None:
    examples = tuple(Example(row, 2, (0,), "nan") for row in (17, 90, 91))
    finding = Finding("DC101", "train.parquet", "embedding", 3, 4096, examples, num_rows=3)
    assert finding.message == "3 of 4,096 values are NaN in 'embedding' (train.parquet, row group 2, rows 17, 90, 91)"


def test_a_report_of_an_earlier_version_reads_back() -> None:
    record = Finding("DC101", "x.npy", None, 2, 4, (Example(1),)).to_dict()
    del record["num_rows"]
    assert Finding.from_dict(record).num_rows is None
