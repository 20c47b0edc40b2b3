"""Delta and Iceberg tables: the rows of one version, and a finding wherever the log does not say which they are."""

from __future__ import annotations

import io
import json
import struct
import uuid
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datacheck
from datacheck import ReadOptions
from datacheck.sources.deleted_rows import read_bitmap
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
    # The file with the deletion vector that it had before.
    removed = [None, {"path": "day=2/b.parquet"}]
    checkpoint = pa.table({"add": pa.array(rows, added), "remove": removed, "protocol": protocol})
    pq.write_table(checkpoint, delta / "_delta_log" / f"{1:020}.checkpoint.parquet")
    for version in (0, 1):
        (delta / "_delta_log" / f"{version:020}.json").unlink()
    assert scan(delta) == (2, [])
    (finding,) = datacheck.scan(delta, options=ReadOptions(max_members=1)).findings
    assert (finding.code, finding.detail.partition(";")[0]) == ("DC904", "it has more than 1 actions")
    ((_, (found,)),) = [scan(delta, 0)]
    assert found[:2] == ("DC914", "events")


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (add("../secret.parquet"), "outside its folder"),
        (add("/etc/passwd"), "outside its folder"),
        (add("s3://other/x.parquet"), "outside its folder"),
        (add("day=2/b.parquet", deletionVector={"storageType": "u"}), "cannot be read"),
        (
            add(
                "day=2/b.parquet",
                deletionVector={"storageType": "p", "pathOrInlineDv": "/x", "sizeInBytes": 1, "cardinality": 1},
            ),
            "lies outside the table",
        ),
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
    (finding,) = [one for one in datacheck.scan(delta).findings if one.uri.endswith("b.parquet")]
    assert (finding.code, finding.num_violations) == ("DC911", 1)
    assert "no such file, and the log or index of its dataset names it; fetch or restore it" in finding.detail
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
        ([(1, 0, f"{LOCATION}/../../x.parquet")], "outside its folder"),
        ([(1, 2, f"{LOCATION}/data/deletes.parquet")], "log cannot be read"),
        ([(1, 1, f"{LOCATION}/data/gone.parquet")], "log cannot be read"),
        ([], "has no files"),
    ],
)
def test_what_a_snapshot_names_and_is_not_followed_is_refused(iceberg: Path, files: Any, problem: str) -> None:
    write_snapshot(iceberg, 3, files)
    (finding,) = datacheck.scan(iceberg).findings
    assert (finding.code, Path(finding.uri).name) == ("DC914", "t")
    assert problem in finding.detail


def test_rows_that_an_iceberg_table_deletes_by_position_are_not_read(iceberg: Path) -> None:
    write_rows(iceberg / "data" / "a.parquet", np.nan, 1.0, np.nan, 2.0, np.inf)
    paths = [f"{LOCATION}/data/{name}.parquet" for name in "aab"]
    pq.write_table(pa.table({"file_path": paths, "pos": [0, 4, 0]}), iceberg / "data" / "p.parquet")
    files = [(1, 0, f"{LOCATION}/data/{name}.parquet") for name in "ab"]
    write_snapshot(iceberg, 3, [*files, (1, 1, f"{LOCATION}/data/p.parquet")])
    report = datacheck.scan(iceberg)
    found = [(one.code, Path(one.uri).name, [example.row for example in one.examples]) for one in report.findings]
    assert found == [("DC101", "a.parquet", [2]), ("DC306", "b.parquet", [])]
    assert report.num_rows == 3


def test_metadata_of_a_later_version_are_refused(iceberg: Path) -> None:
    write_snapshot(iceberg, 3, [(1, 0, f"{LOCATION}/data/b.parquet")], **{"format-version": 4})
    (finding,) = datacheck.scan(iceberg).findings
    assert "version 4 of the Iceberg format" in finding.detail


# Rows that are deleted without writing files again


def roaring(rows: list[int], kind: str) -> bytes:
    """A 64-bit Roaring bitmap with its magic number, with containers of one kind, as Delta has it."""
    by_high: dict[int, list[int]] = {}
    for row in sorted(set(rows)):
        by_high.setdefault(row >> 32, []).append(row & 0xFFFF_FFFF)
    out = struct.pack("<Iq", 1681511377, len(by_high))
    for high, low in by_high.items():
        by_key: dict[int, list[int]] = {}
        for row in low:
            by_key.setdefault(row >> 16, []).append(row & 0xFFFF)
        count = len(by_key)
        heads = b"".join(struct.pack("<HH", key, len(values) - 1) for key, values in by_key.items())
        bodies = []
        for values in by_key.values():
            if kind == "runs":
                runs = [(value, 0) for value in values]
                bodies.append(struct.pack("<H", len(runs)) + b"".join(struct.pack("<HH", *run) for run in runs))
            elif len(values) > 4096:
                bits = np.zeros(1 << 16, np.uint8)
                bits[values] = 1
                bodies.append(np.packbits(bits, bitorder="little").tobytes())
            else:
                bodies.append(np.array(values, "<u2").tobytes())
        if kind == "runs":
            flags = np.packbits(np.ones(count, np.uint8), bitorder="little").tobytes()
            out += struct.pack("<I", high) + struct.pack("<I", 12347 | (count - 1) << 16) + flags + heads
            out += bytes(4 * count) if count >= 4 else b""
        else:
            out += struct.pack("<I", high) + struct.pack("<II", 12346, count) + heads + bytes(4 * count)
        out += b"".join(bodies)
    return out


def z85(data: bytes) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    data += bytes(-len(data) % 4)
    text = ""
    for start in range(0, len(data), 4):
        number = int.from_bytes(data[start : start + 4], "big")
        text += "".join(digits[number // 85**power % 85] for power in range(4, -1, -1))
    return text


def vector(table: Path, rows: list[int], where: str, kind: str = "arrays") -> dict[str, Any]:
    """The record of a deletion vector, which is written to a file where it is not in the log."""
    data = roaring(rows, kind)
    record = {"sizeInBytes": len(data), "cardinality": len(set(rows))}
    if where == "log":
        return {"storageType": "i", "pathOrInlineDv": z85(data), **record}
    name = uuid.UUID(int=1234)
    (table / "ab").mkdir(exist_ok=True)
    path = table / "ab" / f"deletion_vector_{name}.bin"
    before = path.read_bytes() if path.exists() else b"\1"
    path.write_bytes(before + struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data)))
    return {"storageType": "u", "pathOrInlineDv": f"ab{z85(name.bytes)}", "offset": len(before), **record}


@pytest.mark.parametrize("where", ["log", "file"])
@pytest.mark.parametrize("kind", ["arrays", "runs"])
@pytest.mark.parametrize("workers", [1, 3])
def test_rows_that_a_deletion_vector_deletes_are_not_read(kind: str, where: str, workers: int, tmp_path: Path) -> None:
    values = np.where(np.arange(9000) % 3 == 0, np.nan, 1.0)
    pq.write_table(pa.table({"x": values}), tmp_path / "a.parquet", row_group_size=1000)
    deleted = [row for row in range(9000) if row % 3 == 0 and row not in (300, 6003)] + [1, 8999]
    commit(tmp_path, 0, metadata(), add("a.parquet", "1"), {"protocol": {"minReaderVersion": 3}})
    commit(
        tmp_path, 1, remove("a.parquet"), add("a.parquet", "1", deletionVector=vector(tmp_path, deleted, where, kind))
    )
    report = datacheck.scan(tmp_path, workers=workers)
    (finding,) = report.findings
    assert (finding.code, finding.num_violations, [one.row for one in finding.examples]) == ("DC101", 2, [300, 6003])
    assert report.num_rows == finding.num_checked == 9000 - len(deleted)
    whole = datacheck.scan(tmp_path, options=ReadOptions(table_version=0))
    assert (whole.findings[0].num_violations, whole.num_rows) == (3000, 9000)


def test_the_vectors_of_several_files_share_a_file(tmp_path: Path) -> None:
    commit(tmp_path, 0, metadata(), {"protocol": {"minReaderVersion": 3}})
    expected = []
    for number, where in enumerate(("file", "log", "file", "", "file"), 1):
        name, num_rows = f"{number}.parquet", 7 * number
        pq.write_table(pa.table({"x": [np.nan] * num_rows}), tmp_path / name)
        deleted = list(range(0, num_rows, number + 1)) if where else []
        kinds = {"deletionVector": vector(tmp_path, deleted, where, ["arrays", "runs"][number % 2])} if where else {}
        commit(tmp_path, number, add(name, "1", **kinds))
        expected.append((name, num_rows - len(deleted)))
    found = [
        (Path(one.uri).name, one.num_violations) for one in datacheck.scan(tmp_path).findings if one.code == "DC101"
    ]
    assert sorted(found) == expected


@given(
    st.sets(st.integers(0, 1 << 18) | st.integers(1 << 32, (1 << 32) + 99), max_size=300),
    st.sampled_from(["arrays", "runs"]),
)
def test_bitmaps_of_deleted_rows(rows: set[int], kind: str) -> None:
    assert read_bitmap(roaring(list(rows), kind)).tolist() == sorted(rows)


def test_a_dense_bitmap() -> None:
    assert read_bitmap(roaring(list(range(0, 200_000, 3)), "arrays")).tolist() == list(range(0, 200_000, 3))


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "another number"])
def test_a_deletion_vector_that_cannot_be_read_is_a_finding(damage: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 2.0, np.nan]}), tmp_path / "a.parquet")
    record = vector(tmp_path, [0, 2], "file")
    (path,) = (tmp_path / "ab").iterdir()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "changed":
        path.write_bytes(path.read_bytes()[:30] + b"x" + path.read_bytes()[31:])
    else:
        record["cardinality"] = 7
    commit(tmp_path, 0, metadata(), add("a.parquet", "1", deletionVector=record))
    report = datacheck.scan(tmp_path)
    assert [finding.code for finding in report.findings] == ["DC914"]
    assert "deletion vector" in report.findings[0].message


def test_random_bytes_are_no_bitmap() -> None:
    random = np.random.default_rng(0)
    for size in range(0, 200, 3):
        data = roaring(list(range(0, 400, 7)), "runs")
        spot = int(random.integers(0, len(data)))
        for damaged in (random.bytes(size), data[:size], data[:spot] + random.bytes(4) + data[spot + 4 :]):
            with suppress(ValueError, struct.error, IndexError):
                read_bitmap(damaged)
