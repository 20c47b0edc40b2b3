"""Quarantined rows that somebody fixed: taken back by the rules of the run, accounted for, and all at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import contents, kept_table, quarantine_of, write_pipeline, write_table

import datacheck
from datacheck import FindingsError
from datacheck.cli.app import main
from datacheck.errors import OutputError, UsageError
from datacheck.storage.local import LocalStorage

SCHEMA = {"unique": [["k"]], "fields": {"k": {}, "x": {"ge": 0}, "s": {"dtype": "string", "nullable": True}}}


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline that was run: two inputs, in the quarantine rows 1, 4 and 7 of the first and row 0 of the second."""
    monkeypatch.chdir(tmp_path)
    x = [1.0, -5, 3, 4, -7, 6, 7, -9, 9, np.nan]
    write_table(tmp_path / "a.parquet", {"k": list(range(10)), "x": x, "s": [*"abcdefghi", None]}, row_group_size=4)
    write_table(tmp_path / "b.parquet", {"k": [20, 21], "x": [-1.0, 2.0], "s": ["y", "z"]})
    rules = [{"action": "impute", "strategy": "constant", "value": 0, "fields": "x", "indicator": True}]
    path = write_pipeline(tmp_path, {"train": ["a.parquet", "b.parquet"]}, rules, schema=SCHEMA)
    datacheck.run(path)
    return path


def output_of(pipeline: Path) -> Path:
    (manifest,) = pipeline.parent.glob("*/manifest.json")
    return manifest.parent


def bad_rows(pipeline: Path) -> pd.DataFrame:
    table = quarantine_of(output_of(pipeline))
    assert table is not None
    return table.to_pandas().sort_values(["file", "row"], ignore_index=True)


def fix(pipeline: Path, change: Callable[[pd.DataFrame], None]) -> str:
    rows = bad_rows(pipeline)
    change(rows)
    rows.to_parquet(pipeline.parent / "fixed.parquet")
    return "fixed.parquet"


def set_x(*values: float) -> Callable[[pd.DataFrame], None]:
    def change(rows: pd.DataFrame) -> None:
        rows["x"] = values

    return change


def test_fixed_rows_are_kept_as_if_the_inputs_had_been_fixed(pipeline: Path, tmp_path: Path) -> None:
    report = datacheck.requeue(pipeline, fix(pipeline, set_x(5.0, np.nan, -3.0, 8.0)))
    assert (report.num_given, report.num_kept, report.num_dropped, report.num_quarantined) == (4, 3, 0, 1)
    assert report.run.totals() == {"num_read": 12, "num_kept": 11, "num_dropped": 0, "num_quarantined": 1}
    assert [(one.code, one.field) for one in report.findings if one.is_error] == [("DC201", "x"), ("DC104", "x")]
    assert not report.ok
    taken = kept_table(output_of(pipeline)).to_pandas().sort_values("k", ignore_index=True)

    fixed = pq.read_table("a.parquet").to_pandas()
    fixed.loc[[1, 4, 7], "x"] = [5.0, np.nan, -3.0]
    other = pq.read_table("b.parquet").to_pandas()
    other.loc[0, "x"] = 8.0
    fixed.to_parquet("a2.parquet")
    other.to_parquet("b2.parquet")
    (tmp_path / "again").mkdir()
    rules = [{"action": "impute", "strategy": "constant", "value": 0, "fields": "x", "indicator": True}]
    inputs = {"train": [str(tmp_path / "a2.parquet"), str(tmp_path / "b2.parquet")]}
    again = write_pipeline(tmp_path / "again", inputs, rules, schema=SCHEMA)
    datacheck.run(again)
    expected = kept_table(output_of(again)).to_pandas().sort_values("k", ignore_index=True)
    pd.testing.assert_frame_equal(taken, expected)


def test_what_is_still_bad_stays_as_it_was(pipeline: Path) -> None:
    before = bad_rows(pipeline)
    datacheck.requeue(pipeline, fix(pipeline, set_x(5.0, 6.0, -3.0, 8.0)))
    pd.testing.assert_frame_equal(bad_rows(pipeline), before.iloc[[2]].reset_index(drop=True))
    report = datacheck.requeue(pipeline, fix(pipeline, set_x(1.0)))
    assert report.ok
    assert report.run.totals()["num_quarantined"] == 0
    output = output_of(pipeline)
    assert quarantine_of(output) is None
    listed = {part["path"] for account in manifest(output)["inputs"] for part in account["outputs"]}
    files = {path.relative_to(output).as_posix() for path in output.rglob("*.parquet")}
    assert files == listed


def manifest(output: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((output / "manifest.json").read_text())
    return record


@pytest.mark.torch
def test_rows_that_were_taken_back_know_their_origin(pipeline: Path) -> None:
    from datacheck.torch import open_dataset

    datacheck.requeue(pipeline, fix(pipeline, set_x(5.0, 6.0, -3.0, 8.0)))
    dataset = open_dataset(str(output_of(pipeline)))
    origins = {(dataset.origin(index).uri, dataset.origin(index).row) for index in range(len(dataset))}
    assert origins == {("a.parquet", row) for row in range(10) if row != 7} | {("b.parquet", 0), ("b.parquet", 1)}
    by_row = {dataset.origin(index).row: dataset[index] for index in range(9)}
    assert float(by_row[4]["x"]) == 6.0


def test_the_run_that_wrote_the_output_finds_it_done(pipeline: Path) -> None:
    datacheck.requeue(pipeline, fix(pipeline, set_x(5.0, 6.0, -3.0, 8.0)))
    before = contents(output_of(pipeline))
    assert datacheck.run(pipeline).totals()["num_kept"] == 11
    assert contents(output_of(pipeline)) == before
    datacheck.run(pipeline, overwrite=True)
    assert datacheck.run(pipeline).totals()["num_kept"] == 8
    assert not list(output_of(pipeline).rglob("*.requeued-*"))


@pytest.mark.parametrize("row", range(4))
def test_a_fixed_row_must_not_repeat_a_published_key(row: int, pipeline: Path) -> None:
    def change(rows: pd.DataFrame) -> None:
        rows["x"] = 1.0
        rows.loc[row, "k"] = 21

    report = datacheck.requeue(pipeline, fix(pipeline, change))
    assert (report.num_kept, report.num_quarantined) == (3, 1)
    assert [one.code for one in report.findings] == ["DC301"]


def test_rows_that_a_rule_drops_leave_the_quarantine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "a.parquet", {"x": [1.0, -1.0, -2.0]})
    rules = [{"action": "drop_row", "codes": "DC1"}]
    pipeline = write_pipeline(tmp_path, "a.parquet", rules, schema={"fields": {"x": {"ge": 0}}})
    datacheck.run(pipeline)
    report = datacheck.requeue(pipeline, fix(pipeline, set_x(np.nan, 3.0)))
    assert report.run.totals() == {"num_read": 3, "num_kept": 2, "num_dropped": 1, "num_quarantined": 0}
    (ledger,) = output_of(pipeline).rglob("ledger/**/*.parquet")
    assert pq.read_table(ledger)["verdict"].to_pylist() == ["dropped", "requeued"]
    assert manifest(output_of(pipeline))["inputs"][0]["removed_by_code"] == {"DC104": 1}


def test_cells_that_did_not_convert_are_read_as_numbers_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("k,x\n1,1.5\n2,abc\n3,2\n")
    pipeline = write_pipeline(tmp_path, "a.csv", [], schema={"fields": {"x": {"dtype": "float64", "ge": 0}}})
    datacheck.run(pipeline)
    rows = bad_rows(pipeline)
    rows["x"] = " 7 "
    rows.to_csv("fixed.csv", index=False)
    assert datacheck.requeue(pipeline, "fixed.csv").ok
    (taken,) = output_of(pipeline).rglob("*.requeued-1.csv")
    assert pd.read_csv(taken)["x"].tolist() == [7.0]


def test_records_of_json_lines_are_parsed_again_and_kept_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ['{"x": 1.5}', '{"x": -3, "m": {"a": [1]}}', "no json", '{"x": null}', '{"x": -1}', '{"x": 2}']
    Path("a.jsonl").write_text("\n".join(lines))
    rules = [{"action": "impute", "strategy": "mean", "fields": "x", "codes": "DC104"}]
    schema = {"fields": {"x": {"ge": 0, "dtype": "float64"}, "m": {"required": False}}}
    pipeline = write_pipeline(tmp_path, "a.jsonl", rules, schema=schema)
    datacheck.run(pipeline)

    def change(rows: pd.DataFrame) -> None:
        assert rows["row"].tolist() == [1, 2, 4]
        rows["record"] = ['{"x":  3,\n"m": {"a": ["\u00e4"]}}', '{"x": null}', '{"x": ']

    report = datacheck.requeue(pipeline, fix(pipeline, change))
    assert (report.num_given, report.num_kept, report.num_quarantined) == (3, 2, 1)
    assert report.run.totals() == {"num_read": 6, "num_kept": 5, "num_dropped": 0, "num_quarantined": 1}
    assert "DC305" in [one.code for one in report.findings]
    (taken,) = output_of(pipeline).rglob("*.requeued-1.jsonl")
    copied, repaired = taken.read_text("utf-8").splitlines()
    assert copied == '{"x":  3, "m": {"a": ["\u00e4"]}}'
    assert json.loads(repaired)["x"] == 1.75  # the mean of the run, which out-of-bounds values are no part of
    assert bad_rows(pipeline)["record"].tolist() == [b'{"x": -1}\n']
    Path("fixed.csv").write_text("file,row,record\na.jsonl,4,\n")
    assert "row 4 of a.jsonl has no 'record'" in refused(pipeline, "fixed.csv")
    Path("fixed.csv").write_text('file,row,record\na.jsonl,4,"{""x"": 4}"\n')
    assert datacheck.requeue(pipeline, "fixed.csv").ok


@pytest.mark.parametrize("name", ["fixed.parquet", "fixed.csv", ""])
def test_pandas_may_write_nan_as_null_and_null_as_nan(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"x": [1.0, -1.0, -2.0, -3.0], "y": [1.0, np.nan, None, 5.0], "h": np.array([np.nan] * 4, np.float16)}
    write_table(tmp_path / "a.parquet", table)
    rules = [{"action": "impute", "strategy": "mean", "fields": "y", "codes": "DC101"}]
    schema = {"fields": {"x": {"ge": 0}, "y": {}, "h": {"allow_nan": True}}}
    pipeline = write_pipeline(tmp_path, "a.parquet", rules, schema=schema)
    datacheck.run(pipeline)
    rows = bad_rows(pipeline).assign(x=1.0)
    if name:
        rows.to_csv(name, index=False) if name.endswith("csv") else rows.to_parquet(name)
    report = datacheck.requeue(pipeline, name or rows)
    assert (report.num_kept, report.num_quarantined) == (2, 1)
    assert bad_rows(pipeline)["row"].tolist() == [2]
    assert np.isnan(kept_table(output_of(pipeline))["h"].to_numpy()).all()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("method", ["put", "move_all", "delete", "delete_folder"])
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_killed_command_has_done_nothing_or_is_finished_by_the_next(
    method: str, at: int, is_before: bool, pipeline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fixed = fix(pipeline, set_x(5.0, 6.0, -3.0, 8.0))
    original, calls = getattr(LocalStorage, method), 0

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if is_before and calls > at:
            raise Killed
        result = original(self, *args, **kwargs)
        if calls > at:
            raise Killed
        return result

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, method, dying)
        with suppress(Killed):
            datacheck.requeue(pipeline, fixed)
    # Whoever writes there next finishes what was begun.
    totals = datacheck.run(pipeline).totals()
    assert totals["num_kept"] in (8, 11)
    if totals["num_kept"] == 8:
        datacheck.requeue(pipeline, fixed)
    output = output_of(pipeline)
    assert sorted(kept_table(output)["k"].to_pylist()) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 20, 21]
    assert bad_rows(pipeline)["row"].tolist() == [7]
    listed = {part["path"] for account in manifest(output)["inputs"] for part in account["outputs"]}
    assert {path.relative_to(output).as_posix() for path in output.rglob("*.parquet")} == listed
    assert not (output / ".datacheck").exists()


def refused(pipeline: Path, fixed: str) -> str:
    before = contents(output_of(pipeline))
    with pytest.raises((UsageError, OutputError)) as raised:
        datacheck.requeue(pipeline, fixed)
    assert contents(output_of(pipeline)) == before
    return str(raised.value)


def test_wrong_tables_are_refused_and_nothing_is_changed(pipeline: Path) -> None:
    rows = bad_rows(pipeline)

    def table(name: str, changed: pd.DataFrame) -> str:
        changed.to_parquet(name)
        return name

    assert "no columns 'file' and 'row'" in refused(pipeline, table("1.parquet", rows.drop(columns="file")))
    assert "have no column 'x'" in refused(pipeline, table("2.parquet", rows.drop(columns="x")))
    assert "row 3 of a.parquet is not in quarantine" in refused(pipeline, table("3.parquet", rows.assign(row=3)))
    assert "did you mean 'a.parquet'" in refused(pipeline, table("4.parquet", rows.assign(file="aa.parquet")))
    assert "row 1 of a.parquet is given twice" in refused(pipeline, table("5.parquet", pd.concat([rows, rows])))
    assert "hold no rows" in refused(pipeline, table("6.parquet", rows.iloc[:0]))
    assert "column 'x' of the fixed rows is" in refused(pipeline, table("7.parquet", rows.assign(x="seven")))
    assert "no such file" in refused(pipeline, "nowhere.parquet")
    Path("text.txt").write_text("hello")
    assert "text.txt" in refused(pipeline, "text.txt")


def test_an_output_that_changed_is_refused(pipeline: Path) -> None:
    fixed = fix(pipeline, set_x(5.0, 6.0, -3.0, 8.0))
    (quarantine,) = output_of(pipeline).rglob("quarantine/**/a-*.parquet")
    saved = quarantine.read_bytes()
    pd.read_parquet(quarantine).assign(x=1.0).to_parquet(quarantine)
    assert "save fixed rows to a separate file" in refused(pipeline, fixed)
    quarantine.write_bytes(saved)
    pipeline.write_text(pipeline.read_text().replace("ge: 0", "ge: -100").replace('"ge": 0', '"ge": -100'))
    assert "was written with other settings (schema)" in refused(pipeline, fixed)


def test_a_frame_in_memory_is_taken_as_it_is(pipeline: Path) -> None:
    assert datacheck.requeue(pipeline, bad_rows(pipeline).assign(x=3.0)).num_kept == 4
    with pytest.raises(UsageError, match="'file' and 'row'"):
        datacheck.requeue(pipeline, pd.DataFrame({"x": [1.0]}))


def test_rows_of_a_format_that_has_no_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "a.parquet", {"x": [1.0, -1.0]})
    pipeline = write_pipeline(tmp_path, "a.parquet", [], schema={"fields": {"x": {"ge": 0}}}, output={"path": "out"})
    datacheck.run(pipeline)
    Image.new("L", (2, 2)).save("i.png")
    assert "expected a table of fixed rows" in refused(pipeline, "i.png")


def test_a_fail_rule_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "a.parquet", {"x": [1.0, -1.0]})
    rules = [{"action": "fail", "codes": "DC104"}]
    pipeline = write_pipeline(tmp_path, "a.parquet", rules, schema={"fields": {"x": {"ge": 0}}})
    datacheck.run(pipeline)
    before = contents(output_of(pipeline))
    fixed = fix(pipeline, set_x(np.nan))
    with pytest.raises(FindingsError, match="nothing was changed\nDC104"):
        datacheck.requeue(pipeline, fixed)
    assert contents(output_of(pipeline)) == before


def test_the_command_says_what_became_of_the_rows(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = fix(pipeline, set_x(5.0, 6.0, -3.0, 8.0))
    capsys.readouterr()
    assert main(["requeue", str(pipeline), fixed]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("DC201 1 of 3 values in 'x' are not >= 0: found -3.0 (a.parquet")
    assert lines[-2].startswith("4 fixed rows: 3 taken back, 1 still in quarantine")
    assert lines[-1].endswith("12 read = 11 kept + 0 dropped + 1 quarantined")
    fixed = fix(pipeline, set_x(3.0))
    assert main(["requeue", str(pipeline), fixed, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_kept"] == 1
    assert main(["requeue", str(pipeline), fixed]) == 2
    assert "is not in quarantine" in capsys.readouterr().err


def test_many_rows_of_many_types_come_back_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pa.table(
        {
            "bad": [None if row % 3 else 1.0 for row in range(60)],
            "day": pa.array(range(60), pa.date32()),
            "list": [[row, row + 1] for row in range(60)],
            "half": pa.array(np.arange(60, dtype=np.float16)),
            "group": pa.array([f"g{row % 3}" for row in range(60)]).dictionary_encode(),
        }
    )
    pq.write_table(table, "a.parquet", row_group_size=16)
    pipeline = write_pipeline(tmp_path, "a.parquet", [])
    datacheck.run(pipeline)
    rows = quarantine_of(output_of(pipeline))
    assert rows is not None
    fixed = rows.set_column(0, "bad", pa.array([2.0] * rows.num_rows))
    pq.write_table(fixed.take(list(range(rows.num_rows))[::-1]), "fixed.parquet")
    assert datacheck.requeue(pipeline, "fixed.parquet").ok
    kept = kept_table(output_of(pipeline)).sort_by("day")
    for name in ("day", "list", "half", "group"):
        assert kept[name].to_pylist() == table[name].to_pylist()
