"""Files of one dataset, looked at together: what differs, what is missing, what nobody looked into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck import Finding, Report
from datacheck.errors import UsageError

LARGE = [169298433216610305 + 2 * number for number in range(4)]


def save_file(arrays: dict[str, Any], path: Path) -> None:
    pytest.importorskip("safetensors.numpy").save_file(arrays, path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def table(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def found(report: Report, *codes: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.code in codes]


def without_null_notes(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.code != "DC105"]


def messages(report: Report) -> list[str]:
    return [f"{finding.code} {finding.severity}: {finding.message}" for finding in without_null_notes(report)]


# Files that differ


@pytest.mark.parametrize("workers", [1, 3])
def test_the_odd_file_of_a_folder_is_named(folder: Path, workers: int) -> None:
    for number in range(10):
        columns: dict[str, Any] = {"id": LARGE, "x": [0.5] * 4, "name": ["a", "b", "c", "d"]}
        if number == 3:
            del columns["x"]
        if number == 5:
            columns["id"] = [float(value) for value in LARGE]
        if number == 7:
            columns["name"] = pa.nulls(4, pa.string())
        table(folder / f"part-{number}.parquet", **columns)
    report = datacheck.scan("data", workers=workers)
    assert messages(report) == [
        "DC316 error: 'x' is not in all 10 files: missing in 1: 'part-3.parquet' (data/part-3.parquet)",
        "DC317 error: 'id' has different dtypes in 10 files: float64 in 1: 'part-5.parquet'; int64 in 9 (data/part-5.parquet)",
        "DC318 warning: 'name' is all null in 1 of 10 files: 'part-7.parquet' (data/part-7.parquet)",
    ]


def test_cached_verdicts_are_compared_as_fresh_ones(folder: Path) -> None:
    table(folder / "a.parquet", id=LARGE, x=[1, 2, 3, 4])
    table(folder / "b.parquet", id=[float(value) for value in LARGE], x=[1, 2, 3, 4])
    reports = [datacheck.check("data", cache_dir="cache") for _ in range(2)]
    assert [finding.code for finding in reports[0].findings] == ["DC317"]
    assert reports[0].findings == reports[1].findings


def test_a_column_in_few_files_is_the_odd_one(folder: Path) -> None:
    for name in "abc":
        more = {"index": [0]} if name == "b" else {}
        table(folder / f"{name}.parquet", x=[1], y=[2], **more)
    (finding,) = datacheck.scan("data").findings
    assert (finding.code, finding.detail) == ("DC316", "only in 1: 'b.parquet'")


@pytest.mark.parametrize("num_others", [1, 3])
def test_a_column_whose_case_differs_is_named_with_the_other(num_others: int, folder: Path) -> None:
    table(folder / "a.parquet", x=[1], Age=[2])
    for number in range(num_others):
        table(folder / f"{'bcd'[number]}.parquet", x=[1], age=[2])
    details = {finding.field: finding.detail for finding in datacheck.scan("data").findings}
    odd = "only in" if num_others > 1 else "missing in"
    files = "'a.parquet'" if num_others > 1 else "'b.parquet'"
    assert details == {
        "Age": f"{odd} 1: {files}; only its case differs from 'age'",
        "age": "missing in 1: 'a.parquet'; only its case differs from 'Age'",
    }


def test_different_tables_in_one_folder_are_not_compared(folder: Path) -> None:
    table(folder / "users.parquet", id=[1], name=["a"], age=[3])
    table(folder / "orders.parquet", id=["1"], user=[1], amount=[2.5])
    table(folder / "train.parquet", a=[1], b=[2], label=[0])
    table(folder / "test.parquet", a=[1], b=[2])
    np.save(folder / "x.npy", np.zeros((3, 2), np.float32))
    np.save(folder / "y.npy", np.zeros(3, np.int64))
    save_file({"w": np.zeros(2, np.float32)}, folder / "model.safetensors")
    save_file({"w": np.zeros(2, np.float16)}, folder / "model.fp16.safetensors")
    assert datacheck.scan("data").findings == ()


def test_a_dtype_that_differs_between_folders_is_a_warning(folder: Path) -> None:
    table(folder / "old" / "p.parquet", id=LARGE)
    table(folder / "new" / "p.parquet", id=[float(value) for value in LARGE])
    (finding,) = datacheck.scan(["data/old", "data/new"]).findings
    assert (finding.code, finding.is_error, finding.field) == ("DC317", False, "id")


def test_partitions_are_one_dataset_and_their_columns_do_not_differ(folder: Path) -> None:
    for day in ("1", "__HIVE_DEFAULT_PARTITION__"):
        table(folder / f"day={day}" / "p.parquet", x=[1, 2])
    table(folder / "day=2" / "p.parquet", x=["1", "2"])
    (finding,) = without_null_notes(datacheck.scan("data"))
    assert (finding.code, finding.detail) == ("DC317", "string in 1: 'day=2/p.parquet'; int64 in 2")


def test_csv_files_differ_in_kind_not_in_the_dtype_that_was_inferred(folder: Path) -> None:
    (folder / "a.csv").write_text("x,y\n1,2\n3,4\n")
    (folder / "b.csv").write_text("x,y\n1.5,2\n2.5,3\n")
    assert datacheck.scan("data").findings == ()
    (folder / "c.csv").write_text("x,y\nred,2\nblue,3\n")
    (finding,) = datacheck.scan("data").findings
    assert (finding.code, finding.is_error) == ("DC317", False)


def test_what_a_schema_says_is_left_to_the_schema(folder: Path) -> None:
    table(folder / "a.parquet", id=[1, 2], x=[1, 2])
    table(folder / "b.parquet", id=[1.0, 2.0])
    schema = datacheck.Schema.model_validate({"fields": {"id": {"dtype": "int64"}, "x": {"required": False}}})
    assert [finding.code for finding in datacheck.scan("data", schema).findings] == ["DC003"]


def test_a_run_over_files_that_differ_is_not_ok(folder: Path) -> None:
    table(folder / "a.parquet", id=[1, 2])
    table(folder / "b.parquet", id=[1.0, 2.0])
    Path("p.yaml").write_text("inputs: data\noutput: {path: out}\n")
    report = datacheck.run("p.yaml")
    assert [finding.code for finding in report.findings] == ["DC317"]
    assert not report.ok
    assert not datacheck.run("p.yaml").ok


# Indexes


def shards(folder: Path, *numbers: int, total: int = 3) -> dict[str, str]:
    """Write shards, and return the whole map of weights."""
    names = {number: f"model-{number:05}-of-{total:05}.safetensors" for number in range(1, total + 1)}
    for number in numbers:
        save_file({f"w{number}": np.ones(2, np.float32)}, folder / names[number])
    return {f"w{number}": name for number, name in names.items()}


def write_index(folder: Path, weights: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))


def test_a_complete_sharded_model_has_no_finding(folder: Path) -> None:
    write_index(folder, shards(folder, 1, 2, 3))
    assert datacheck.scan("data").findings == ()


def test_a_shard_that_the_index_names_and_that_is_absent_is_named(folder: Path) -> None:
    write_index(folder, shards(folder, 1, 3))
    expected = "DC911 error: is not complete: 1 of 3 parts is missing: 'model-00002-of-00003.safetensors'"
    assert messages(datacheck.scan("data")) == [f"{expected} (data/model.safetensors.index.json)"]


def test_one_shard_alone_is_judged_by_its_folder(folder: Path) -> None:
    write_index(folder, shards(folder, 1, 2, 3))
    assert datacheck.check("data/model-00002-of-00003.safetensors", cache=False).findings == ()
    (folder / "model-00003-of-00003.safetensors").unlink()
    report = datacheck.check("data/model-00002-of-00003.safetensors", cache=False)
    assert [finding.code for finding in report.findings] == ["DC911"]


def test_a_tensor_that_is_not_in_its_shard_is_named(folder: Path) -> None:
    weights = shards(folder, 1, 2, 3)
    write_index(folder, {**weights, "head": weights["w1"]} | {"w3": weights["w2"]})
    report = datacheck.scan("data")
    assert [finding.code for finding in report.findings] == ["DC912", "DC911"]
    assert "tensors are missing: 'head', 'w3'" in report.findings[1].detail
    write_index(folder, {**weights, "w2": weights["w3"], "w3": weights["w2"]})
    expected = "DC911 error: is not complete: 2 of 3 tensors are in another shard than it says: 'w2', 'w3'"
    assert messages(datacheck.scan("data")) == [f"{expected} (data/model.safetensors.index.json)"]


def test_the_index_of_weights_in_bins_is_a_promise(folder: Path) -> None:
    np.save(folder / "a.npy", np.ones(2))
    index = {"weight_map": {"w1": "pytorch_model-00001-of-00002.bin", "w2": "pytorch_model-00002-of-00002.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (finding,) = datacheck.scan("data").findings
    assert (finding.code, "2 of 2 parts are missing" in finding.message) == ("DC911", True)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", "a\\x.safetensors", 7, None, ["x"]])
def test_an_index_that_leads_out_of_its_folder_is_refused(folder: Path, name: Any) -> None:
    shards(folder, 1, total=1)
    write_index(folder, {"w1": name})
    (finding,) = datacheck.scan("data").findings
    assert (finding.code, finding.uri) == ("DC901", "data/model.safetensors.index.json")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", '{"weight_map": []}', "\xff"])
def test_a_broken_index_is_a_finding(folder: Path, text: str) -> None:
    shards(folder, 1, total=1)
    (folder / "model.safetensors.index.json").write_text(text)
    assert [finding.code for finding in datacheck.scan("data").findings] == ["DC901"]


def save_to_disk(folder: Path, *numbers: int, total: int = 3) -> None:
    names = [f"data-{number:05}-of-{total:05}.arrow" for number in range(total)]
    for number in numbers:
        with pa.ipc.new_stream(folder / names[number], pa.schema({"x": pa.int64()})) as writer:
            writer.write(pa.record_batch({"x": [1, 2]}))
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def test_parts_of_a_saved_dataset_are_compared_with_its_state(folder: Path) -> None:
    save_to_disk(folder, 0, 1, 2)
    assert datacheck.scan("data").findings == ()
    (folder / "data-00001-of-00003.arrow").rename(folder / "cache-1.arrow")
    assert messages(datacheck.scan("data")) == [
        "DC911 error: is not complete: 1 of 3 parts is missing: 'data-00001-of-00003.arrow' (data/state.json)",
        "DC912 error: holds files that its index does not name: it does not name 'cache-1.arrow' (data/state.json)",
    ]


def test_a_saved_dataset_whose_rows_are_chosen_by_a_mapping_is_a_finding(folder: Path) -> None:
    save_to_disk(folder, 0, 1, 2)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "_indices_data_files": [{"filename": "indices.arrow"}]}))
    (finding,) = datacheck.scan("data").findings
    assert (finding.code, "it loads all rows" in finding.detail) == ("DC901", True)


def test_a_split_that_is_absent_is_named(folder: Path) -> None:
    (folder / "train").mkdir()
    save_to_disk(folder / "train", 0, total=1)
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    (finding,) = datacheck.scan("data").findings
    assert (finding.code, finding.detail) == ("DC911", "1 of 2 parts is missing: 'test'")


@pytest.mark.parametrize("start", [0, 1])
def test_numbered_parts_that_are_absent_are_named(folder: Path, start: int) -> None:
    for number in range(start, start + 4):
        table(folder / f"train-{number:05}-of-00004.parquet", x=[1])
    assert datacheck.scan("data").findings == ()
    (folder / "train-00002-of-00004.parquet").unlink()
    (finding,) = datacheck.scan("data").findings
    assert (finding.code, finding.detail) == ("DC911", "1 of 4 parts is missing: 'train-00002-of-00004.parquet'")


def test_a_number_of_parts_may_be_absurd(folder: Path) -> None:
    table(folder / "x-1-of-999999999999.parquet", x=[1])
    (finding,) = datacheck.scan("data").findings
    assert finding.detail.startswith("999,999,999,998 of 999,999,999,999 parts are missing: 'x-0-of-")


def test_two_versions_of_one_dataset_lie_together(folder: Path) -> None:
    for total in (1, 2):
        for number in range(total):
            table(folder / f"train-{number:05}-of-{total:05}.parquet", x=[1])
    (finding,) = datacheck.scan("data").findings
    assert (finding.code, finding.num_violations) == ("DC912", 3)


@pytest.mark.parametrize("log", ["_delta_log/00000000000000000000.json", "metadata/v1.metadata.json"])
def test_a_table_whose_log_cannot_be_read_is_a_finding_and_other_files_are_checked(folder: Path, log: str) -> None:
    table(folder / "plain.parquet", x=[1])
    table(folder / "events" / "data" / "p.parquet", x=[1.0, np.nan])
    (folder / "events" / log).parent.mkdir()
    (folder / "events" / log).write_text("[]")
    for paths in ("data", "data/**/*.parquet", ["data/events", "data/plain.parquet"]):
        (finding,) = datacheck.scan(paths).findings
        assert (finding.code, finding.uri, finding.is_error) == ("DC914", "data/events", True)
        assert "cannot be read" in finding.detail
    report = datacheck.scan("data/events/data/p.parquet")
    assert next(finding.code for finding in report.findings) == "DC101"


def test_a_file_of_a_table_that_is_named_itself_is_read_with_a_warning(folder: Path) -> None:
    table(folder / "day=1" / "p.parquet", x=[1])
    (folder / "_delta_log").mkdir()
    (finding,) = datacheck.scan("data/day=1/p.parquet").findings
    assert (finding.code, finding.uri, finding.is_error) == ("DC914", "data", False)


# What nobody looked into


def test_files_that_were_not_checked_are_counted_in_one_note(folder: Path) -> None:
    table(folder / "a.parquet", x=[1])
    for name in ("1.mat", "2.mat", "sub/3.mat", "b.pkl", ".hidden.npy", "_tmp.parquet", "notes.xlsx"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"{}" if name.endswith(".json") else b"x")
    for name in ("README.md", "LICENSE", "_SUCCESS", ".DS_Store", "._a.parquet", "a.parquet.crc", ".a.parquet.crc"):
        (folder / name).write_bytes(b"x")
    for name in ("manifest.json", "statistics.json", "x.mat.dvc", "model.safetensors.index.fp16.json.lock", "load.py"):
        (folder / name).write_bytes(b"x")
    (folder / "cube.n5" / "c").mkdir(parents=True)
    report = datacheck.scan("data")
    assert messages(report) == [
        "DC913 info: 7 files and 1 folder were not checked: 3 .mat, 2 hidden, 1 .pkl, 1 .n5 folder, 1 .xlsx (data)"
    ]
    assert report.ok
    checked = datacheck.check("data", cache=False, exclude=["*.mat", "*.pkl", "*.xlsx", "*.n5/"])
    assert [finding.detail for finding in checked.findings] == ["2 files were not checked: 2 hidden"]
    assert datacheck.scan("data/a.parquet").findings == ()


def test_all_of_a_published_output_is_checked_but_its_quarantine(folder: Path) -> None:
    table(folder / "a.parquet", x=[1.0, np.nan])
    Path("p.yaml").write_text("inputs: data\noutput: {path: out}\n")
    datacheck.run("p.yaml")
    report = datacheck.scan("out")
    assert found(report, "DC911", "DC912", "DC316", "DC317") == []
    assert [one.detail for one in report.findings if one.code == "DC913"] == [
        "1 folder was not checked: 1 quarantine folder"
    ]


def test_a_folder_without_known_files_says_what_it_has(folder: Path) -> None:
    (folder / "x.weird").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"no file of a known format \(1 file was not checked: 1 .weird\)"):
        datacheck.scan("data")


@pytest.mark.parametrize("path", ["data", "data/train.lmdb", "data/train.lmdb/data.mdb"])
def test_an_lmdb_environment_says_what_it_is_and_how_to_convert_it(path: str, folder: Path) -> None:
    (folder / "train.lmdb").mkdir()
    for name in ("data.mdb", "lock.mdb"):
        (folder / "train.lmdb" / name).write_bytes(bytes(16) + b"\xde\xc0\xef\xbe" + bytes(4000))
    (finding,) = datacheck.scan(path).findings
    assert (finding.code, "is LMDB" in finding.detail) == ("DC909", True)
    assert "save them as .npy, .npz or Parquet" in finding.detail


def test_a_matlab_file_that_is_named_says_what_it_is_and_what_to_do(folder: Path) -> None:
    (folder / "x.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(100))
    (finding,) = datacheck.scan("data/x.mat").findings
    assert finding.code == "DC909"
    assert "is MATLAB" in finding.detail
    assert "scipy.io.loadmat" in finding.detail


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([b"\x00\x01\x80" * 8] * 4, "it holds bytes"),
        ([b"\x93NUMPY\x01\0" + bytes(9)] * 4, "it holds .npy arrays as bytes"),
        (['{"a": [1, NaN]}', None, '{"b": 2}'], "it holds JSON as text"),
        (["[0.1, 0.2]", "[nan, -1e5]", ""], "it holds lists of numbers as text"),
        (["[" + "0.125, " * 300 + "1]"] * 3, "it holds lists of numbers as text"),
        (["70 80 82 72 58 58 60 63"] * 3, "it holds lists of numbers as text"),
    ],
)
def test_values_that_no_check_sees_into_are_one_note_a_field(folder: Path, values: list[Any], what: str) -> None:
    for name in "ab":
        table(folder / f"{name}.parquet", v=pa.array(values), n=list(range(len(values))))
    (finding,) = without_null_notes(datacheck.scan("data"))
    assert (finding.code, finding.field, finding.is_error) == ("DC008", "v", False)
    assert finding.detail.startswith(what)
    assert finding.detail.endswith("also in 1 other file")


@pytest.mark.parametrize(
    "values", [["red", "[1] see below", "{x}"], ["2013-01-01", "52.1, 13.4"], ["1", "2.5"], ["[1" + ",(" * 250 + "x y"]]
)
def test_plain_text_is_no_note(values: list[str]) -> None:
    assert datacheck.scan(pa.table({"v": values})).findings == ()


def test_bytes_beside_their_shape_and_dtype_are_probably_tensors() -> None:
    columns = {"z_bytes": [bytes(range(128, 136))], "z_shape": [[2]], "z_dtype": ["float32"]}
    (finding,) = datacheck.scan(pa.table(columns)).findings
    assert "with 'z_shape', 'z_dtype' are probably tensors" in finding.detail


def test_what_one_small_file_holds_is_not_said_of_its_neighbour(folder: Path) -> None:
    table(folder / "a.parquet", s=["[1, 2]"], x=[1])
    table(folder / "b.parquet", s=["plain"], x=[1])
    (finding,) = datacheck.scan("data").findings
    assert (finding.uri, finding.num_violations) == ("data/a.parquet", 1)


def test_pandas_text_of_lists_in_csv_is_a_note(folder: Path) -> None:
    pd.DataFrame({"v": [[0.1, 0.2], [0.3, 0.4]]}).to_csv(folder / "a.csv", index=False)
    assert [finding.code for finding in datacheck.scan("data").findings] == ["DC008"]
