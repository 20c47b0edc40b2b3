"""Pandera checks that need all rows of a file: one verdict, however the file is split into batches and units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from job_files import kept_table, quarantine_of, write_pipeline, write_table

import datacheck
from datacheck.jobs.units.scan import scan_whole_file
from datacheck.schema import Schema
from datacheck.sources.base import ReadOptions

CHECK = pandera.Check
GAP = [*range(60), *range(62, 122)]
COLUMNS: Mapping[str, Any] = {"s": ["a"] * 120, "t": GAP}


def of_frame(*checks: Any, **columns: Any) -> Any:
    return pandera.DataFrameSchema(columns, list(checks))


STEP = CHECK(lambda frame: frame.groupby("s")["t"].diff().fillna(1) == 1, name="step")
IS_MONOTONIC = CHECK(lambda values: values.is_monotonic_increasing, name="is_monotonic")
IS_LONG = CHECK(lambda frame: len(frame) >= 100, name="is_long")


@pytest.fixture(params=[False, True], ids=["one unit", "a unit per row group"])
def unit_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr("datacheck.sources.parquet.TARGET_UNIT_BYTES", 1)


@pytest.mark.usefixtures("unit_bytes")
@pytest.mark.parametrize(
    ("schema", "values", "rows"),
    [
        (of_frame(STEP), GAP, [60]),
        (of_frame(STEP), list(range(120)), None),
        (of_frame(IS_LONG), GAP, None),
        (of_frame(t=pandera.Column(checks=IS_MONOTONIC)), GAP[60:] + GAP[:60], []),
        (of_frame(t=pandera.Column(checks=IS_MONOTONIC)), GAP, None),
        (of_frame(CHECK(lambda row: row["t"] != 62, element_wise=True, name="one")), GAP, [60]),
        (of_frame(t=pandera.Column(checks=CHECK(lambda t: t - t.mean() < 59.5, name="mean"))), list(range(120)), [119]),
    ],
)
def test_a_file_has_the_verdict_of_its_data_in_memory(
    tmp_path: Path, schema: Any, values: list[int], rows: list[int] | None
) -> None:
    columns = {**COLUMNS, "t": values}
    file = write_table(tmp_path / "file.parquet", columns, row_group_size=30)
    for data in (pd.DataFrame(columns), file):
        report = datacheck.scan(data, schema)
        assert report.ok == (rows is None), report
        for finding in report.findings:
            assert finding.num_checked == 120
            assert [example.row for example in finding.examples] == rows
            groups = [None if data is not file else row // 30 for row in rows or ()]
            assert [example.row_group for example in finding.examples] == groups


def test_processes_judge_whole_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("long.py").write_text(
        "import pandera.pandas as pa\n"
        "schema = pa.DataFrameSchema(checks=pa.Check(lambda frame: len(frame) > 120, name='is_long'))\n"
    )
    file = write_table(tmp_path / "file.parquet", COLUMNS, row_group_size=30)
    report = datacheck.scan([file, file], "long:schema", executor="processes", workers=2)
    assert [finding.code for finding in report.findings] == ["DC303"]


@pytest.mark.usefixtures("unit_bytes")
def test_beyond_the_bound_the_check_is_reported_as_not_run(tmp_path: Path) -> None:
    file = write_table(tmp_path / "file.parquet", COLUMNS, row_group_size=30)
    options = ReadOptions(max_whole_file_bytes=1000)
    (finding,) = datacheck.scan(file, of_frame(STEP), options=options).findings
    assert finding.code == "DC005"
    assert finding.message.startswith(
        "the data could not be checked: step needs the whole file, whose decoded columns take more than 1,000 bytes;"
        " raise max_whole_file_bytes"
    )
    # Only the columns that the check needs count.
    only_t = of_frame(t=pandera.Column(checks=IS_MONOTONIC))
    assert datacheck.scan(file, only_t, options=options).ok


def test_a_file_that_changed_since_its_units_were_read_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.parquet.TARGET_UNIT_BYTES", 1)
    file = write_table(tmp_path / "file.parquet", {"t": list(range(120))}, row_group_size=30)

    def change_and_scan(units: Any, rules: Any) -> Any:
        write_table(file, {"t": GAP[60:] + GAP[:60]}, row_group_size=30)
        return scan_whole_file(units, rules)

    monkeypatch.setattr("datacheck.jobs.scan.scan_whole_file", change_and_scan)
    report = datacheck.scan(file, of_frame(t=pandera.Column(checks=IS_MONOTONIC)))
    assert [finding.code for finding in report.findings] == ["DC908"]


def test_an_archive_of_arrays_and_dictionaries_are_concatenated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.parquet.TARGET_UNIT_BYTES", 1)
    words = pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "b"]).dictionary_encode()])
    file = write_table(tmp_path / "words.parquet", {"w": words}, row_group_size=2)
    fields: dict[str | None, Any] = {"w": {"checks": {"unique_values_eq": ["a", "b", "c"]}}}
    assert datacheck.scan(file, Schema(fields=fields)).ok
    np.savez(tmp_path / "arrays.npz", a=np.arange(5), b=np.arange(7))
    schema = Schema(fields={name: {"checks": {"unique_values_eq": list(range(5))}} for name in "ab"})
    (finding,) = datacheck.scan(tmp_path / "arrays.npz", schema).findings
    assert (finding.code, finding.field, finding.num_violations) == ("DC324", "b", 2)


def test_a_run_judges_the_rows_that_it_keeps_after_their_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.parquet.TARGET_UNIT_BYTES", 1)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "steps.py").write_text(
        "import pandera.pandas as pa\n"
        "step = pa.DataFrameSchema({'t': pa.Column(float, nullable=True)}, checks=["
        "pa.Check(lambda frame: frame['t'].diff().fillna(1) == 1, name='step')])\n"
    )
    values = np.arange(120.0)
    values[30] = np.nan  # repaired to 30
    values[90:] += 1  # a gap where a row group begins
    write_table(tmp_path / "file.parquet", {"t": values}, row_group_size=30)
    rules = [{"action": "nan_to_num", "fields": "t", "codes": "DC101", "nan": 30.0}]
    rules.append({"action": "quarantine", "codes": "DC303"})
    report = datacheck.run(write_pipeline(tmp_path, "file.parquet", rules, schema="steps:step"))
    (finding,) = [finding for finding in report.findings if finding.code == "DC303"]
    assert [(example.row, example.row_group) for example in finding.examples] == [(90, 3)]
    assert (finding.num_violations, finding.num_checked) == (1, 120)
    assert quarantine_of(tmp_path / "out").num_rows == 1
    assert kept_table(tmp_path / "out")["t"].to_pylist() == [*range(90), *range(92, 121)]
