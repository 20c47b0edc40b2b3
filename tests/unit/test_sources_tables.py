"""Delta and Iceberg tables: the rows of one version, and a finding wherever the log does not say which they are."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck import ReadOptions
from datacheck.sources.discover import discover

PROTOCOL = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
FIELDS = [{"name": name, "type": kind} for name, kind in (("x", "double"), ("day", "integer"))]


def write_rows(path: Path, *values: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": pa.array(values, pa.float64())}), path)


def metadata(**configuration: str) -> dict[str, Any]:
    schema = json.dumps({"type": "struct", "fields": FIELDS})
    return {"metaData": {"schemaString": schema, "partitionColumns": ["day"], "configuration": configuration}}


def add(path: str, day: str | None = "1", **more: Any) -> dict[str, Any]:
    return {"add": {"path": quote(path), "partitionValues": {"day": day}, **more}}


def remove(path: str) -> dict[str, Any]:
    return {"remove": {"path": quote(path)}}


def commit(table: Path, version: int, *actions: dict[str, Any]) -> None:
    log = table / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    (log / f"{version:020}.json").write_text("".join(json.dumps(action) + "\n" for action in actions))


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """Three versions: two files, then one more, then the first replaced."""
    table = tmp_path / "events"
    write_rows(table / "day=1" / "a b.parquet", 1.0, np.nan)
    write_rows(table / "day=2" / "b.parquet", 2.0)
    write_rows(table / "day=2" / "c.parquet", np.inf)
    write_rows(table / "day=1" / "d.parquet", 5.0)
    commit(table, 0, PROTOCOL, metadata(), add("day=1/a b.parquet"), add("day=2/b.parquet", "2"))
    commit(table, 1, add("day=2/c.parquet", "2"))
    commit(table, 2, add("day=1/d.parquet"), remove("day=1/a b.parquet"))
    return table


def scan(path: Path, version: int | None = None, schema: Any = None) -> tuple[int, list[tuple[str, str, int]]]:
    report = datacheck.scan(path, schema, options=ReadOptions(table_version=version))
    return report.num_rows, [(one.code, Path(one.uri).name, one.num_violations) for one in report.findings]


@pytest.mark.parametrize(
    ("version", "num_rows", "found"),
    [
        (0, 3, [("DC101", "a b.parquet", 1)]),
        (1, 4, [("DC101", "a b.parquet", 1), ("DC102", "c.parquet", 1)]),
        (2, 3, [("DC102", "c.parquet", 1)]),
        (None, 3, [("DC102", "c.parquet", 1)]),
    ],
)
def test_a_delta_table_has_the_files_of_its_version(
    delta: Path, version: int | None, num_rows: int, found: Any
) -> None:
    assert scan(delta, version) == (num_rows, found)


def test_partition_values_come_from_the_log_in_the_dtype_of_the_table(delta: Path) -> None:
    commit(delta, 3, add("day=2/b.parquet", None))
    schema = {
        "version": 1,
        "fields": {"day": {"dtype": "int32", "ge": 2}, "x": {"dtype": "float64", "allow_inf": True}},
    }
    assert scan(delta, schema=schema) == (3, [("DC201", "d.parquet", 1), ("DC104", "b.parquet", 1)])


def test_a_table_in_a_folder_and_a_glob_are_read_by_their_log(delta: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "plain.parquet", 1.0)
    for paths in (tmp_path, f"{tmp_path}/**/*.parquet"):
        names = [Path(file.uri).name for file in discover(paths).files]
        assert names == ["d.parquet", "b.parquet", "c.parquet", "plain.parquet"]


def test_a_checkpoint_stands_for_the_commits_before_it(delta: Path) -> None:
    pairs = pa.map_(pa.string(), pa.string())
    added = pa.struct([("path", pa.string()), ("partitionValues", pairs)])
    rows = [{"path": "day=2/b.parquet", "partitionValues": [("day", "2")]}, None]
    protocol = [None, {"minReaderVersion": 1}]
    checkpoint = pa.table({"add": pa.array(rows, added), "protocol": protocol})
    pq.write_table(checkpoint, delta / "_delta_log" / f"{1:020}.checkpoint.parquet")
    for version in (0, 1):
        (delta / "_delta_log" / f"{version:020}.json").unlink()
    assert scan(delta) == (2, [])
    ((_, (found,)),) = [scan(delta, 0)]
    assert found[:2] == ("DC914", "events")


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (add("../secret.parquet"), "leads out of its folder"),
        (add("/etc/passwd"), "leads out of its folder"),
        (add("s3://other/x.parquet"), "leads out of its folder"),
        (add("day=2/b.parquet", deletionVector={"storageType": "u"}), "deletion vectors"),
        (metadata(**{"delta.columnMapping.mode": "name"}), "maps the names of its columns"),
        ({"protocol": {"minReaderVersion": 3, "readerFeatures": ["timeTravel\n"]}}, "timeTravel"),
        ({"protocol": {"minReaderVersion": 4}}, "version 4 of the protocol"),
        ({"add": {"path": 7}}, "cannot be read"),
    ],
)
def test_what_a_log_asks_for_and_is_not_known_is_refused(delta: Path, action: Any, problem: str) -> None:
    commit(delta, 3, action)
    (finding,) = datacheck.scan(delta).findings
    assert finding.code == "DC914"
    assert problem in finding.detail
    assert "\n" not in finding.message


def test_a_missing_commit_or_file_is_a_finding(delta: Path) -> None:
    (delta / "day=2" / "b.parquet").unlink()
    assert ("DC902", "b.parquet", 1) in scan(delta)[1]
    (delta / "_delta_log" / f"{1:020}.json").unlink()
    (finding,) = datacheck.scan(delta).findings
    assert "commit 1 of the log is missing" in finding.detail


def test_a_run_cleans_the_rows_of_a_delta_table(delta: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "version: 1\ninputs: {train: events}\nclean: [{codes: DC102, action: drop_row}]\noutput: {path: out}\n"
    )
    assert datacheck.run(tmp_path / "p.yaml").ok
    written = pq.read_table(tmp_path / "out" / "train")
    assert sorted(written["x"].to_pylist()) == [2.0, 5.0]


# Iceberg


def write_avro(path: Path, schema: Any, records: list[Any]) -> None:
    fastavro = pytest.importorskip("fastavro")
    content = io.BytesIO()
    fastavro.writer(content, fastavro.parse_schema(schema), records)
    path.write_bytes(content.getvalue())


DATA_FILE = {
    "type": "record",
    "name": "data_file",
    "fields": [
        {"name": "content", "type": "int"},
        {"name": "file_path", "type": "string"},
        {"name": "file_format", "type": "string"},
    ],
}
ENTRY = {
    "type": "record",
    "name": "entry",
    "fields": [{"name": "status", "type": "int"}, {"name": "data_file", "type": DATA_FILE}],
}
MANIFEST = {"type": "record", "name": "manifest", "fields": [{"name": "manifest_path", "type": "string"}]}
LOCATION = "s3://bucket/warehouse/t"


def write_snapshot(table: Path, snapshot: int, files: list[tuple[int, int, str]], **more: Any) -> None:
    """A snapshot whose one manifest has these files: status, content, path below the table."""
    folder = table / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {"status": status, "data_file": {"content": content, "file_path": path, "file_format": "PARQUET"}}
        for status, content, path in files
    ]
    write_avro(folder / f"m{snapshot}.avro", ENTRY, entries)
    write_avro(folder / f"s{snapshot}.avro", MANIFEST, [{"manifest_path": f"{LOCATION}/metadata/m{snapshot}.avro"}])
    known = [
        {"snapshot-id": number, "manifest-list": f"{LOCATION}/metadata/s{number}.avro"}
        for number in range(1, snapshot + 1)
    ]
    record = {"format-version": 2, "location": LOCATION, "snapshots": known, "current-snapshot-id": snapshot, **more}
    (folder / f"{snapshot:05}-aa.metadata.json").write_text(json.dumps(record))


@pytest.fixture
def iceberg(tmp_path: Path) -> Path:
    table = tmp_path / "t"
    for name, value in (("a", np.nan), ("b", 1.0), ("c", np.inf)):
        write_rows(table / "data" / f"{name}.parquet", value)
    paths = {name: f"{LOCATION}/data/{name}.parquet" for name in "abc"}
    write_snapshot(table, 1, [(1, 0, paths["a"]), (1, 0, paths["b"])])
    write_snapshot(table, 2, [(2, 0, paths["a"]), (0, 0, paths["b"]), (1, 0, paths["c"])])
    return table


def test_an_iceberg_table_has_the_files_of_its_snapshot_wherever_it_lies_now(iceberg: Path) -> None:
    assert scan(iceberg) == (2, [("DC102", "c.parquet", 1)])
    assert scan(iceberg, 1) == (2, [("DC101", "a.parquet", 1)])
    (finding,) = datacheck.scan(iceberg, options=ReadOptions(table_version=9)).findings
    assert "no snapshot 9" in finding.detail


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([(1, 0, "s3://elsewhere/x.parquet")], "not below its location"),
        ([(1, 0, f"{LOCATION}/../../x.parquet")], "leads out of its folder"),
        ([(1, 1, f"{LOCATION}/data/deletes.parquet")], "deleted by 1 delete file"),
        ([], "has no files"),
    ],
)
def test_what_a_snapshot_names_and_is_not_followed_is_refused(iceberg: Path, files: Any, problem: str) -> None:
    write_snapshot(iceberg, 3, files)
    (finding,) = datacheck.scan(iceberg).findings
    assert (finding.code, Path(finding.uri).name) == ("DC914", "t")
    assert problem in finding.detail


def test_metadata_of_a_later_version_are_refused(iceberg: Path) -> None:
    write_snapshot(iceberg, 3, [(1, 0, f"{LOCATION}/data/b.parquet")], **{"format-version": 4})
    (finding,) = datacheck.scan(iceberg).findings
    assert "version 4 of the Iceberg format" in finding.detail
