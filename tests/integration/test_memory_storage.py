"""Files in a storage without local paths and memory maps give what the same files give on a local disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import write_pipeline
from memory_storage import ROOT, MemoryStorage
from source_files import CLEANED, Format, make_table, parameters, shrink_units

import datacheck
from datacheck.errors import UsageError
from datacheck.sources import expand_inputs

every_format = pytest.mark.parametrize("form", parameters())
FOLDER = f"{ROOT}data"


def findings(report: Any, folder: str) -> list[Any]:
    """All findings, with names of files as seen from a folder."""
    return [replace(finding, uri=finding.uri.removeprefix(f"{folder}/")) for finding in report.findings]


@pytest.mark.parametrize("form", parameters(CLEANED))
@pytest.mark.parametrize("is_split", [False, True])
def test_a_scan_finds_the_same(
    form: Format, is_split: bool, tmp_path: Path, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    form.write(tmp_path / f"a{form.suffix}", make_table(2000))
    form.write(tmp_path / f"b{form.suffix}", make_table(50))
    memory.upload(tmp_path, FOLDER)
    if is_split:
        shrink_units(monkeypatch)
    local, remote = datacheck.scan(tmp_path), datacheck.scan(FOLDER)
    assert findings(local, str(tmp_path)) == findings(remote, FOLDER) != []
    assert (local.num_files, local.num_rows, local.num_bytes) == (remote.num_files, remote.num_rows, remote.num_bytes)


@every_format
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"x" * 600])
def test_a_damaged_file_is_the_same_finding(form: Format, damage: Any, tmp_path: Path, memory: MemoryStorage) -> None:
    path = tmp_path / f"a{form.suffix}"
    form.write(path, make_table())
    path.write_bytes(damage(path.read_bytes()))
    memory.upload(tmp_path, FOLDER)
    codes = [
        [(one.code, one.uri.rpartition("/")[2]) for one in datacheck.scan(str(at)).findings]
        for at in (tmp_path, FOLDER)
    ]
    assert codes[0] == codes[1] != []


def test_nameless_arrays_are_scanned(tmp_path: Path, memory: MemoryStorage) -> None:
    np.save(tmp_path / "c.npy", np.array([[1.0, np.nan], [np.inf, 2.0]]))
    np.save(tmp_path / "f.npy", np.asfortranarray(np.full((300, 7), np.nan)))
    memory.upload(tmp_path, FOLDER)
    assert findings(datacheck.scan(tmp_path), str(tmp_path)) == findings(datacheck.scan(FOLDER), FOLDER) != []


def test_folders_globs_and_partitions_are_expanded(memory: MemoryStorage, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    for name in ("day=1/x.parquet", "day=2/x.parquet", "day=2/_hidden.parquet", "note.txt", "other/y.parquet"):
        memory.files[f"{FOLDER}/{name}"] = content

    def names(path: str) -> list[str]:
        return [file.uri.removeprefix(f"{FOLDER}/") for file in expand_inputs(path)]

    assert names(FOLDER) == ["day=1/x.parquet", "day=2/x.parquet", "other/y.parquet"]
    assert names(f"{FOLDER}/**/x.parquet") == ["day=1/x.parquet", "day=2/x.parquet"]
    assert names(f"{FOLDER}/day=*") == ["day=1/x.parquet", "day=2/x.parquet"]
    assert names(f"{FOLDER}/other/y.parquet") == ["other/y.parquet"]
    assert expand_inputs(f"{FOLDER}/day=2")[0].options.partitions == (("day", "2"),)
    with pytest.raises(UsageError, match=r"no such file or folder; did you mean 'other'\?"):
        expand_inputs(f"{FOLDER}/othr")


def test_a_missing_object_and_an_unknown_scheme_are_usage_errors(memory: MemoryStorage) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        datacheck.scan(f"{ROOT}gone.npy")
    with pytest.raises(UsageError, match="unknown scheme"):
        datacheck.scan("else://gone.npy")


def test_infer_and_compare_read_it(memory: MemoryStorage, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    for name in ("a", "b"):
        pq.write_table(pa.table({"x": np.arange(100.0), "k": np.arange(100)}), tmp_path / f"{name}.parquet")
    memory.upload(tmp_path, FOLDER)
    assert datacheck.infer(FOLDER) == datacheck.infer(tmp_path)
    report = datacheck.compare(f"{FOLDER}/a.parquet", f"{FOLDER}/b.parquet")
    assert {finding.code for finding in report.findings} == {
        finding.code for finding in datacheck.compare(tmp_path / "a.parquet", tmp_path / "b.parquet").findings
    }


def test_the_gate_remembers_verdicts_by_content(
    memory: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.ones(10))
    memory.upload(tmp_path, FOLDER)
    monkeypatch.chdir(tmp_path)
    assert [datacheck.check(FOLDER).num_unchanged for _ in range(2)] == [0, 1]
    np.save(tmp_path / "a.npy", np.full(10, np.nan))
    memory.upload(tmp_path, FOLDER)
    report = datacheck.check(FOLDER)
    assert (report.ok, report.num_unchanged) == (False, 0)


RULES = [
    {"action": "impute", "strategy": "median", "fields": "double"},
    {"action": "drop_row", "codes": ["DC101", "DC102"]},
]


@pytest.mark.slow
@pytest.mark.parametrize("form", parameters(CLEANED))
@pytest.mark.parametrize("is_split", [False, True])
def test_a_run_writes_the_same(
    form: Format, is_split: bool, tmp_path: Path, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    form.write(tmp_path / "data" / f"a{form.suffix}", make_table(2000))
    form.write(tmp_path / "data" / f"b{form.suffix}", make_table(50))
    memory.upload(tmp_path / "data", FOLDER)
    if is_split:
        shrink_units(monkeypatch)
    local = write_pipeline(tmp_path, {"train": "data"}, RULES)
    report = datacheck.run(local)
    (tmp_path / "elsewhere").mkdir()
    remote = write_pipeline(tmp_path / "elsewhere", {"train": FOLDER}, RULES, output={"path": f"{ROOT}out"})
    other = datacheck.run(remote, executor="threads")
    assert report.totals() == other.totals()
    out = tmp_path / "out"
    written = rows_of({str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert rows_of({name.removeprefix(f"{ROOT}out/"): content for name, content in memory.files.items()}) == written
    assert written


def rows_of(files: dict[str, bytes]) -> list[bytes]:
    """The files of rows, in order of content: their names hold a hash of the input's path."""
    return sorted(content for name, content in files.items() if name.startswith("train/"))


def test_a_run_is_resumed_and_not_repeated(memory: MemoryStorage, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1.0, np.nan]))
    memory.upload(tmp_path, FOLDER)
    pipeline = write_pipeline(tmp_path, {"train": FOLDER}, [RULES[1]], output={"path": f"{ROOT}out"})
    first = datacheck.run(pipeline)
    before = dict(memory.files)
    assert datacheck.run(pipeline).totals() == first.totals()
    assert memory.files == before
    np.save(tmp_path / "a.npy", np.array([1.0, 2.0]))
    memory.upload(tmp_path, FOLDER)
    with pytest.raises(datacheck.DatacheckError, match="overwrite"):
        datacheck.run(pipeline)
    assert datacheck.run(pipeline, overwrite=True).totals()["num_kept"] == 2
