"""Rules about a dataset, where people meet them: files of several row groups, workers, the cache, data in memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import datacheck
from datacheck.errors import SchemaError
from datacheck.findings import Finding
from datacheck.gate.checking import check
from datacheck.storage import change_detection


def panel() -> pd.DataFrame:
    """Four hourly series, of which 'c' lacks five hours and 'b' has one twice."""
    parts = []
    for name in "abcd":
        hours = [hour for hour in range(60) if not (name == "c" and 20 <= hour < 25)]
        hours = [*hours[:30], 29, *hours[30:]] if name == "b" else hours
        time = pd.Timestamp("2024-01-01") + pd.to_timedelta(hours, unit="h")
        parts.append(pd.DataFrame({"series": name, "time": time, "y": np.arange(len(hours), dtype=float)}))
    return pd.concat(parts, ignore_index=True)


STEPS = {"sequence": {"by": "series", "on": "time", "step": "1h"}}


def save(folder: Path, frame: pd.DataFrame, rows_per_file: int, rows_per_group: int) -> None:
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, len(frame), rows_per_file)):
        part = pa.Table.from_pandas(frame.iloc[start : start + rows_per_file], preserve_index=False)
        pq.write_table(part, folder / f"part-{number:03d}.parquet", row_group_size=rows_per_group)


def test_gaps_inside_a_series_are_named_with_the_series(tmp_path: Path) -> None:
    save(tmp_path / "data", panel(), 1000, 50)
    (found,) = datacheck.scan(tmp_path / "data", STEPS).findings
    assert found.message.replace(str(tmp_path), "") == (
        "2 of 232 steps of 'time' are wrong: expected 1h, found 0s from 2024-01-02 05:00:00 to 2024-01-02 05:00:00 in"
        " series 'b'; found 6h from 2024-01-01 19:00:00 to 2024-01-02 01:00:00 in series 'c'"
        " (/data/part-000.parquet, row group 1, row 90; row group 2, row 141)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize(("rows_per_file", "rows_per_group"), [(1000, 1000), (1000, 7), (31, 10)])
def test_any_files_row_groups_and_workers_give_the_same_verdict(
    tmp_path: Path, executor: Any, rows_per_file: int, rows_per_group: int
) -> None:
    save(tmp_path / "data", panel(), rows_per_file, rows_per_group)
    report = datacheck.scan(tmp_path / "data", STEPS, workers=3, executor=executor)
    found = [
        int(Path(one.uri).stem[-3:]) * rows_per_file + (example.row or 0)
        for one in report.findings
        for example in one.examples
    ]
    assert sorted(found) == [90, 141]
    assert sum(one.num_violations for one in report.findings) == 2


def test_data_in_memory_has_the_same_verdict() -> None:
    (found,) = datacheck.scan(panel(), STEPS).findings
    assert (found.code, [example.row for example in found.examples]) == ("DC320", [90, 141])


def test_a_constant_field_is_found_over_all_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"temp": 20.0, "load": np.arange(500.0)})
    save(tmp_path / "data", frame, 100, 50)
    schema = {"fields": {"temp": {"min_distinct": 2}, "load": {"min_distinct": 2}}}
    (found,) = datacheck.scan(tmp_path / "data", schema).findings
    assert found.message.startswith("'temp' is constant: all 500 values are 20.0; expected at least 2 (")


def test_unchanged_files_count_in_the_dataset_although_they_are_not_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(change_detection, "_FINE_TICK", 12_000_000)
    Path("s.yaml").write_text("num_rows: {ge: 240}\nfields: {y: {mean: {le: 20}}}\nsequence: {by: series, on: y}\n")
    save(tmp_path / "data", panel(), 100, 50)

    def look() -> tuple[list[Finding], int]:
        time.sleep(0.03)  # until the files have settled
        report = check(["data"], schema="s.yaml", cache_dir="cache")
        return [finding for finding in report.findings if finding.code != "DC316"], report.num_unchanged

    first, _ = look()
    assert [finding.code for finding in first] == ["DC325", "DC323"]
    assert look() == (first, 3)
    save(tmp_path / "more", panel().iloc[:10], 100, 50)
    Path("more/part-000.parquet").rename("data/part-003.parquet")
    second, num_unchanged = look()
    assert num_unchanged == 3
    assert [finding.code for finding in second] == ["DC319", "DC323"]


def test_the_only_field_of_an_array_file_has_statistics_too(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((10, 4), np.float32))
    (found,) = datacheck.scan(tmp_path / "x.npy", {"fields": {None: {"std": {"gt": 0}}}}).findings
    assert found.message.startswith("the std of the array of 40 values is 0, expected > 0")


def test_one_text_with_two_labels_is_named_with_both(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b", "a"], "label": ["pos", "neg", "neg"]}).to_parquet(tmp_path / "x.parquet")
    (found,) = datacheck.scan(tmp_path / "x.parquet", {"determines": {"text": "label"}}).findings
    assert found.message.replace(str(tmp_path), "") == (
        "1 of 3 rows have another 'label' than an earlier row: text 'a' has 'neg', and 'pos' in row 0 of /x.parquet"
        " (/x.parquet, row group 0, row 2)"
    )


def test_an_index_is_held_against_the_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    (tmp_path / "images" / "cat" / "1.png").touch()
    (tmp_path / "index.csv").write_text("image,label\ncat/1.png,0\ncat/2.png,1\n,1\n")
    schema = tmp_path / "s.yaml"
    schema.write_text("references: {fields: image, folder: images}\nfields: {image: {nullable: true}}\n")
    (found,) = datacheck.scan(tmp_path / "index.csv", schema).findings
    assert found.message.replace(str(tmp_path), "") == (
        "1 of 3 rows refer to a 'image' that does not exist: image 'cat/2.png' is not in images (/index.csv, row 1, line 3)"
    )


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ({"file": "absent.parquet"}, "absent.parquet: no such file or folder"),
        ({"file": "x.parquet", "keys": "idd"}, "has no field 'idd'"),
        ({"folder": "absent"}, "/absent: no such folder; relative paths start from the folder of the schema"),
        ({"folder": "x.parquet"}, "/x.parquet: no such folder"),
    ],
)
def test_a_reference_that_cannot_be_read_is_a_finding(tmp_path: Path, reference: dict[str, Any], problem: str) -> None:
    pd.DataFrame({"id": [1]}).to_parquet(tmp_path / "x.parquet")
    (tmp_path / "s.yaml").write_text(f"references: {{fields: id, {str(reference)[1:-1]}}}\n")
    (found,) = datacheck.scan(tmp_path / "x.parquet", tmp_path / "s.yaml").findings
    assert found.code == "DC005"
    assert problem in found.detail


def test_splits_are_told_by_the_names_of_files_and_folders(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=4)
    for name, rows in (("data/train/part-0.parquet", slice(0, 3)), ("data/test-0.parquet", slice(2, 4))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"day": days, "patient": [1, 2, 3, 4], "city": ["a", "a", "b", "c"]})[rows].to_parquet(
            tmp_path / name
        )
    rules = {"splits": {"apart": "patient", "within": "city", "time": {"on": "day"}}}
    found = datacheck.scan(tmp_path / "data", rules).findings
    assert sorted((one.code, Path(one.uri).name, one.num_violations) for one in found) == [
        ("DC314", "test-0.parquet", 1),
        ("DC329", "test-0.parquet", 1),
        ("DC330", "test-0.parquet", 1),
    ]
    alone = datacheck.scan(tmp_path / "data" / "train", rules)
    assert alone.ok
    assert {one.code for one in alone.findings} == {"DC315"}


def test_tolerances_of_the_schema_make_notes_of_findings_within_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([*np.ones(198), np.nan, np.inf]))
    table = {"tolerances": {None: {"DC101": "1%"}}}
    data = np.load("x.npy")
    for report in (datacheck.scan("x.npy", table), datacheck.scan(data, table)):
        assert [(one.code, one.severity) for one in report.findings] == [("DC101", "info"), ("DC102", "error")]
    Path("s.yaml").write_text("tolerances: {'': {DC10: 1}, other: 3}\n")
    assert check(["x.npy"], schema="s.yaml").ok
    assert (
        datacheck.load_schema("s.yaml").tolerances
        == datacheck.load_schema({"tolerances": {"": {"DC10": 1}, "other": 3}}).tolerances
    )


def test_a_schema_with_tolerances_is_written_and_read_again() -> None:
    schema = datacheck.load_schema({"tolerances": {"x": {"DC101": "0.5%"}, "*": 2}})
    assert datacheck.load_schema(yaml.safe_load(schema.to_yaml())) == schema
    with pytest.raises(SchemaError, match=r"tolerances.x.DC001: DC001 does not count values"):
        datacheck.load_schema({"tolerances": {"x": {"DC001": 1}}})


@pytest.mark.parametrize("rule", [STEPS, {"determines": {"series": "time"}}])
def test_arrays_without_common_rows_are_said_to_be_unchecked(tmp_path: Path, rule: dict[str, Any]) -> None:
    np.savez(tmp_path / "x.npz", series=np.zeros(4, np.int64), time=np.arange(3))
    found = [one for one in datacheck.scan(tmp_path / "x.npz", rule).findings if one.code == "DC005"]
    assert len(found) == 1
    assert "its fields never occur in the same rows" in found[0].detail
