"""Unchanged files are not read, and the report equals that of a full scan."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_files import command, run_command

import datacheck
from datacheck.gate import contents, scanning
from datacheck.gate.cache import STORE_NAME
from datacheck.reports.gate_report import GateReport
from datacheck.storage import Fingerprint, change_detection, storage_of
from datacheck.storage.local import LocalStorage

Save = Callable[..., Path]
Write = Callable[[str, str], Path]

pytestmark = pytest.mark.usefixtures("settled")

NAN = float("nan")
OWN = """
import pandera.pandas as pa
class M(pa.DataFrameModel):
    x: float
    @pa.check("x")
    def small(cls, x): return x < 10
"""
UNIQUE = "fields:\n  id: {unique: true}\n"


def check(*paths: str, **given: Any) -> GateReport:
    # Let files settle.
    time.sleep(0.015)
    return datacheck.check(list(paths) or ".", **given)


def same_as_a_scan(report: GateReport, schema: Any = None, path: str = ".") -> bool:
    """Whether a report equals that of an uncached scan."""
    whole = datacheck.scan(path, schema)
    return (report.findings, report.num_files, report.num_rows, report.num_bytes) == (
        whole.findings,
        whole.num_files,
        whole.num_rows,
        whole.num_bytes,
    )


def save_table(folder: Path, name: str, **columns: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


# Files that are read

PROGRAM = """
import json, os, sys
root = os.path.realpath(sys.argv[1])
opened = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith(root) and path.endswith((".npy", ".csv", ".parquet")):
            opened.append(os.path.basename(path))
sys.addaudithook(watch)
from datacheck.cli.app import main
code = main(["scan", root, *sys.argv[2:]])
print(json.dumps({"code": code, "opened": sorted(set(opened)), "arrow": "pyarrow" in sys.modules}))
"""


def watched(folder: Path, *arguments: str) -> dict[str, Any]:
    """Scans in a subprocess, and returns the data files that Python opened, and whether Arrow was loaded."""
    command = [sys.executable, "-c", PROGRAM, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


@pytest.mark.slow
def test_a_second_scan_of_unchanged_files_opens_no_file(folder: Path, save: Save, write: Write) -> None:
    save("data/a.npy")
    save("data/b.npy", [1, NAN])
    write("data/c.csv", "x,y\n1,2\n")
    save_table(folder, "data/d.parquet", x=[1.0, 2.0])
    first = watched(folder / "data")
    assert (first["code"], first["opened"]) == (1, ["a.npy", "b.npy", "c.csv", "d.parquet"])
    assert watched(folder / "data") == {"code": 1, "opened": [], "arrow": False}
    save("data/a.npy", [3, 4, 5])
    assert watched(folder / "data")["opened"] == ["a.npy"]
    assert watched(folder / "data", "--no-cache")["opened"] == ["a.npy", "b.npy", "c.csv", "d.parquet"]


def test_a_fresh_copy_is_hashed_but_not_scanned(folder: Path, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.npy", "b.npy"):
        save(f"tree/{name}", [1, NAN])
    first = check("tree")
    # Like a fresh checkout: other inodes, times and paths.
    shutil.copytree("tree", "copy")
    monkeypatch.setattr("datacheck.jobs.scan.scan_each", _never)
    again = check("copy")
    assert again.num_unchanged == 2
    assert [finding.uri for finding in again.findings] == ["copy/a.npy", "copy/b.npy"]
    assert [finding.num_violations for finding in again.findings] == [f.num_violations for f in first.findings]


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a file was read again")


# Reports


def test_a_cached_report_equals_the_first_one(save: Save, write: Write) -> None:
    save("a.npy", [[1, NAN], [np.inf, -np.inf]])
    write("b.csv", "x\n1\nfoo,bar\n")
    save("sub/empty.npy", np.empty((0, 3)))
    first, second = check(), check()
    assert (first.num_unchanged, second.num_unchanged) == (0, 3)
    assert same_as_a_scan(first)
    assert same_as_a_scan(second)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: np.save(path, np.array([NAN, 2.0], np.float32)),
        lambda path: _other(path).replace(path),
        lambda path: _write_in_place(path),
        lambda path: _write_mapped(path),
    ],
    ids=["written", "replaced", "in place, times put back", "memory-mapped"],
)
def test_a_changed_file_is_scanned_again(save: Save, change: Callable[[Path], None]) -> None:
    path = save("a.npy")
    assert check().ok
    assert check().num_unchanged == 1
    change(path)
    report = check()
    assert (report.ok, report.num_unchanged) == (False, 0)


def _other(path: Path) -> Path:
    other = path.with_name("other.npy")
    np.save(other, np.array([NAN, 2.0], np.float32))
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    return other


def _write_in_place(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(NAN).tobytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _write_mapped(path: Path) -> None:
    array = np.load(path, mmap_mode="r+")
    array[0] = NAN
    array.flush()


def test_a_verdict_depends_on_the_schema(save: Save, write: Write) -> None:
    save("a.npy", [5.0])
    low, high = write("low.yaml", "fields: {x: {le: 1}}\n"), write("high.yaml", "fields: {x: {le: 9}}\n")
    for _ in range(2):
        assert not check(schema=str(low)).ok
        assert check(schema=str(high)).ok
    high.write_text("fields: {x: {le: 2}}\n")
    report = check(schema=str(high))
    assert (report.ok, report.num_unchanged) == (False, 0)


def test_a_verdict_depends_on_the_versions(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    save("a.npy")
    check()
    monkeypatch.setattr("datacheck.gate.verdicts._versions", lambda: (("datacheck", "999"),))
    assert check().num_unchanged == 0
    assert check().num_unchanged == 1


def test_a_verdict_depends_on_the_suffix(write: Write) -> None:
    text = "x,y\tz\n1,2\t3\n"
    write("a.csv", text)
    write("a.tsv", text)
    first, second = check(), check()
    assert second.num_unchanged == 2
    assert second.findings == first.findings


def test_a_verdict_on_tokens_depends_on_the_index_beside_them(folder: Path) -> None:
    ids = np.arange(6, dtype=np.uint16)
    ids.tofile("a.bin")
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 2, 3)
    for places, expected in (([0, 6], []), ([0, 4], ["DC901"])):
        parts = np.array([3, 3], "<i4"), np.array(places, "<i8"), np.arange(3, dtype="<i8")
        (folder / "a.idx").write_bytes(head + b"".join(part.tobytes() for part in parts))
        for _ in range(2):
            assert [one.code for one in check("a.bin").findings] == expected


def test_a_verdict_depends_on_hive_folders(folder: Path, write: Write) -> None:
    schema = str(write("s.yaml", "strict: true\nfields: {x: {}, year: {}}\n"))
    save_table(folder, "year=2024/a.parquet", x=[1.0])
    assert check("year=2024", schema=schema).ok
    shutil.copytree("year=2024", "plain")
    report = check("plain", schema=schema)
    assert [(finding.code, finding.field) for finding in report.findings] == [("DC001", "year")]


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing", b"version https://git-lfs.github.com/spec/v1\noid x\n"])
def test_an_unreadable_file_is_scanned_every_time(folder: Path, content: bytes) -> None:
    (folder / "a.parquet").write_bytes(content)
    for _ in range(2):
        report = check("a.parquet")
        assert (report.num_unchanged, [finding.code[:3] for finding in report.findings]) == (0, ["DC9"])


def test_user_code_runs_every_time(folder: Path, write: Write, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    write("own_model.py", OWN)
    monkeypatch.syspath_prepend(str(folder))
    save_table(folder, "a.parquet", x=[1.0])
    for _ in range(2):
        assert check("a.parquet", schema="own_model:M").num_unchanged == 0


# File times


def test_a_file_that_just_changed_is_not_cached(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_detection, "_FINE_TICK", 10**12)
    save("a.npy")
    assert check().ok
    assert check().num_unchanged == 0
    monkeypatch.setattr(change_detection, "_FINE_TICK", 12_000_000)
    assert check().num_unchanged == 0
    assert check().num_unchanged == 1


@pytest.mark.parametrize(
    ("ctime", "later", "expected"),
    [
        (5_000_000_001, 50_000_000, False),
        (5_000_000_001, 200_000_000, True),
        (5_000_000_001, -(10**9), False),
        (5_000_000_000, 200_000_000, False),
        (5_000_000_000, 3 * 10**9, True),
    ],
)
def test_a_file_is_settled_after_one_tick_of_its_file_system(
    monkeypatch: pytest.MonkeyPatch, ctime: int, later: int, expected: bool
) -> None:
    monkeypatch.setattr(change_detection, "_FINE_TICK", 100_000_000)
    assert change_detection.ticked_since(Fingerprint(1, ctime_ns=ctime), ctime + later) is expected


def test_a_file_that_changes_during_the_scan_is_not_cached(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save("a.npy")
    store = scanning._store

    def change_then_store(*arguments: Any) -> None:
        np.save(path, np.array([NAN], np.float32))
        store(*arguments)

    monkeypatch.setattr(scanning, "_store", change_then_store)
    assert check().ok
    monkeypatch.setattr(scanning, "_store", store)
    assert not check().ok


def test_a_large_file_is_never_hashed(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_SMALL_BYTES", 100)
    monkeypatch.setattr(LocalStorage, "content_hash", _never)
    path = save("a.npy", np.arange(100))
    check()
    assert check().num_unchanged == 1
    np.save(path, np.full(100, NAN, np.float32))
    assert not check().ok


# A broken cache


def test_a_corrupt_cache_does_not_change_the_report(folder: Path, save: Save, tmp_path: Path) -> None:
    save("a.npy", [1, NAN])
    check()
    store = tmp_path / "cache" / "datacheck" / STORE_NAME
    assert store.stat().st_size > 0
    store.write_bytes(b"garbage")
    assert same_as_a_scan(check())
    assert check().num_unchanged == 1


@pytest.mark.parametrize(
    "forged",
    [
        {},
        [],
        None,
        {"num_rows": 1, "num_bytes": 1, "findings": [{}]},
        {"num_rows": 1, "num_bytes": 1, "findings": [{"code": "DC101"}]},
        {"num_rows": "x", "num_bytes": 1, "findings": []},
    ],
)
def test_an_invalid_cached_verdict_is_ignored(save: Save, monkeypatch: pytest.MonkeyPatch, forged: Any) -> None:
    save("a.npy", [1, NAN])
    monkeypatch.setattr(scanning, "verdict_to_json", lambda verdict: forged)
    check()
    assert same_as_a_scan(check())


@pytest.mark.slow
def test_concurrent_scans_agree(folder: Path, save: Save) -> None:
    for number in range(30):
        save(f"data/{number}.npy", [number, NAN])
    scan = command("scan", "data", "--format", "jsonl")
    runs = [subprocess.Popen(scan, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = {tuple(run.communicate()[0].splitlines()[:-1]) for run in runs}
    assert len(found) == 1
    last = run_command("scan", "data", "--format", "jsonl").stdout.splitlines()
    assert {tuple(last[:-1])} == found
    assert json.loads(last[-1])["gate"] == {"num_unchanged": 30}


# Keys of the whole dataset


def test_keys_are_unique_across_cached_files_too(folder: Path, write: Write) -> None:
    schema = str(write("schema.yaml", UNIQUE))
    save_table(folder, "data/a.parquet", id=[1, 2], x=[1.0, 2.0])
    save_table(folder, "data/b.parquet", id=[3, 4], x=[1.0, 2.0])
    assert check("data", schema=schema).ok
    save_table(folder, "data/b.parquet", id=[3, 1], x=[1.0, 2.0])
    report = check("data", schema=schema)
    assert report.num_unchanged == 1
    assert [(f.code, f.uri, f.num_violations) for f in report.findings] == [("DC301", "data/b.parquet", 1)]
    again = check("data", schema=schema)
    assert (again.findings, again.num_unchanged) == (report.findings, 2)
    assert check("data/a.parquet", schema=schema).ok
    assert check("data/b.parquet", schema=schema).ok


def test_the_order_of_files_decides_which_row_is_the_duplicate(folder: Path, write: Write) -> None:
    schema = str(write("schema.yaml", UNIQUE))
    for name in "ab":
        save_table(folder, f"{name}.parquet", id=[1], x=[1.0])
    for paths in (["a.parquet", "b.parquet"], ["b.parquet", "a.parquet"]) * 2:
        (found,) = check(*paths, schema=schema).findings
        assert found.uri == paths[1]


def test_only_the_key_columns_of_a_cached_file_are_read_again(
    folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = str(write("schema.yaml", UNIQUE))
    for name in "ab":
        save_table(folder, f"{name}.parquet", id=[ord(name)], x=[1.0])
    check(schema=schema)
    save_table(folder, "b.parquet", id=[7], x=[2.0])
    read: list[tuple[str, tuple[str, ...] | None]] = []
    from datacheck.sources.parquet import ParquetSource

    original = ParquetSource.read

    def watch(self: Any, unit: Any) -> Any:
        read.append((unit.uri, unit.options.columns))
        return original(self, unit)

    monkeypatch.setattr(ParquetSource, "read", watch)
    assert check(schema=schema).ok
    assert sorted(read) == [("./a.parquet", ("id",)), ("./b.parquet", None)]


def test_a_cached_file_whose_key_cannot_be_read_is_reported(
    folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = str(write("schema.yaml", UNIQUE))
    for name in "ab":
        save_table(folder, f"{name}.parquet", id=[ord(name)], x=[1.0])
    check(schema=schema)
    save_table(folder, "b.parquet", id=[7], x=[2.0])
    from datacheck.errors import SourceError
    from datacheck.jobs.units import groups

    def fail(unit: Any, rules: Any, **_: Any) -> Any:
        from datacheck.jobs.units.scan import UnitScan

        return UnitScan(error=SourceError("DC902", unit.uri, "Input/output error"))

    monkeypatch.setattr(groups, "read_keys", fail)
    report = check(schema=schema)
    assert [(finding.code, finding.uri) for finding in report.findings] == [("DC902", "./a.parquet")]
    assert report.num_unchanged == 0


operations = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["write", "remove", "touch", "swap"]),
        st.lists(st.sampled_from([0.0, 1.0, 2.0, NAN]), max_size=4),
    ),
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=operations, with_key=st.booleans())
def test_after_any_changes_the_report_equals_that_of_a_full_scan(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, steps: Any, with_key: bool
) -> None:
    work = tmp_path_factory.mktemp("tree")
    monkeypatch.chdir(work)
    (work / "schema.yaml").write_text(UNIQUE if with_key else "fields: {id: {le: 1}}\n")
    save_table(work, "data/z.parquet", id=[9.0])
    for name, what, values in steps:
        path = work / "data" / f"{name}.parquet"
        if what == "write":
            save_table(work, f"data/{name}.parquet", id=pa.array(values, pa.float64()))
        elif what == "remove":
            path.unlink(missing_ok=True)
        elif what == "touch" and path.exists():
            os.utime(path)
        elif path.exists():
            other = path.with_name("z.parquet")
            spare = path.with_name("spare")
            path.rename(spare)
            other.rename(path)
            spare.rename(other)
        report = check("data", schema="schema.yaml", cache_dir=str(work / "cache"))
        assert same_as_a_scan(report, "schema.yaml", "data")


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="the system does not tell who writes to a file")
@pytest.mark.parametrize("size", [1_000, 5_000_000], ids=["hashed", "known by its state"])
def test_a_file_written_through_a_memory_map_is_not_cached(save: Save, size: int) -> None:
    path = save("a.npy", np.ones(size))
    written = np.lib.format.open_memmap(path, mode="r+")
    written[5] = 2
    assert check().ok
    # The page is already dirty: the file system does not record this write.
    written[5] = NAN
    report = check()
    assert (report.ok, report.num_unchanged) == (False, 0)
    written[5] = 3
    del written
    assert [check().num_unchanged, check().num_unchanged] == [0, 1]


def test_looking_for_writers_neither_blocks_nor_kills_them(save: Save) -> None:
    path = save("a.npy")
    fingerprint = storage_of(str(path)).stat(str(path)).fingerprint
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            with path.open("r+b"):
                pass

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            change_detection.is_settled(str(path), fingerprint)
    finally:
        done.set()
        writer.join()
