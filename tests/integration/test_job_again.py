"""Repeated, changed and resumed runs, and files that are never overwritten."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import contents, kept_table, manifest_of, write_pipeline, write_table
from source_files import shrink_units

import datacheck
from datacheck.errors import OutputError
from datacheck.publishing.publisher import Publisher
from datacheck.publishing.staging import StagingArea
from datacheck.storage.local import LocalStorage

DROP = [{"action": "drop_row"}]
IMPUTE = [{"action": "impute", "strategy": "mean"}]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with two inputs and their cleaned output."""
    for split in ("train", "val"):
        write_table(tmp_path / "in" / split / "t.parquet", {"x": [1.0, np.nan, 2.0, np.inf]}, row_group_size=2)
    datacheck.run(pipeline(tmp_path))
    return tmp_path


def pipeline(folder: Path, rules: Any = IMPUTE, **sections: Any) -> Path:
    return write_pipeline(folder, {"train": "in/train", "val": "in/val"}, rules, **sections)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_repeated_run_changes_nothing_and_returns_the_same_report(job: Path) -> None:
    before = stamps(job / "out")
    first = datacheck.run(pipeline(job), overwrite=True)
    before = stamps(job / "out")
    second = datacheck.run(pipeline(job))
    assert stamps(job / "out") == before
    assert (first.is_new, second.is_new) == (True, False)
    assert (second.ok, second.findings, second.accounts) == (first.ok, first.findings, first.accounts)
    assert (second.num_files, second.num_rows, second.num_bytes) == (first.num_files, first.num_rows, first.num_bytes)
    assert "nothing to do" in str(second)


def test_the_current_folder_changes_neither_the_job_nor_its_names(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = contents(job / "out").keys()
    monkeypatch.chdir(job / "in")
    assert not datacheck.run(Path("../pipeline.yaml")).is_new
    datacheck.run(Path("../pipeline.yaml"), overwrite=True)
    assert contents(job / "out").keys() == names


def test_a_repeated_run_needs_no_write_permission(job: Path) -> None:
    before = stamps(job / "out")
    for folder in [job / "out", *(path for path in (job / "out").rglob("*") if path.is_dir())]:
        folder.chmod(0o555)
    report = datacheck.run(pipeline(job))
    for folder in [job / "out", *(path for path in (job / "out").rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    assert not report.is_new
    assert stamps(job / "out") == before


@pytest.mark.parametrize("change", ["rule", "schema", "input", "new input", "format", "otherwise"])
def test_a_changed_job_needs_overwrite_and_leaves_no_stale_file(change: str, job: Path) -> None:
    before = contents(job / "out")
    rules, sections = IMPUTE, {}
    if change == "rule":
        rules = DROP
    elif change == "schema":
        sections = {"schema": {"fields": {"x": {"le": 1.5}}}}
    elif change == "input":
        write_table(job / "in" / "val" / "t.parquet", {"x": [5.0, 6.0]})
    elif change == "new input":
        write_table(job / "in" / "val" / "u.parquet", {"x": [5.0, 6.0]})
    elif change == "format":
        sections = {"output": {"path": "out", "format": "csv"}}
    else:
        sections = {"otherwise": "drop_row"}
    with pytest.raises(OutputError, match=r"holds the output of another run .* --overwrite"):
        datacheck.run(pipeline(job, rules, **sections))
    assert contents(job / "out") == before
    report = datacheck.run(pipeline(job, rules, **sections), overwrite=True)
    assert report.is_new
    shutil.copytree(job / "in", job / "fresh" / "in", copy_function=shutil.copy2)
    datacheck.run(pipeline(job / "fresh", rules, **sections))
    assert contents(job / "out").keys() == contents(job / "fresh" / "out").keys()
    assert {path for path in (job / "out").rglob("*") if path.is_dir()} == {
        job / "out" / path.relative_to(job / "fresh" / "out")
        for path in (job / "fresh" / "out").rglob("*")
        if path.is_dir()
    }


def test_statistics_of_the_previous_run_are_removed(job: Path) -> None:
    assert (job / "out" / "statistics.json").exists()
    datacheck.run(pipeline(job, DROP), overwrite=True)
    assert not (job / "out" / "statistics.json").exists()
    assert manifest_of(job / "out")["statistics"] is None


def test_a_damaged_output_is_reported_and_can_be_rewritten(job: Path) -> None:
    whole = contents(job / "out")
    victim = next((job / "out" / "train").iterdir())
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(OutputError, match=r"expected .* bytes, got .* --overwrite"):
        datacheck.run(pipeline(job))
    victim.unlink()
    with pytest.raises(OutputError, match=r"No such file .* --overwrite"):
        datacheck.run(pipeline(job))
    datacheck.run(pipeline(job), overwrite=True)
    assert contents(job / "out") == whole


def test_files_of_unknown_origin_are_never_overwritten_or_mixed_in(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    mine = tmp_path / "out" / "data" / "x.npy"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"x\.npy: was not written by datacheck"):
            datacheck.run(write_pipeline(tmp_path, "x.npy"), overwrite=overwrite)
    assert contents(tmp_path / "out") == {"data/x.npy": b"mine"}
    mine.rename(tmp_path / "out" / "notes.txt")
    assert datacheck.run(write_pipeline(tmp_path, "x.npy")).ok
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "no json", '{"version": 1}', '{"version": 2}', '{"version": 1, "inputs": [], "fingerprint": 3}'],
)
def test_an_unknown_manifest_is_left_alone(text: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(text)
    with pytest.raises(OutputError, match=r"manifest\.json: (not a datacheck manifest|manifest version 2)"):
        datacheck.run(write_pipeline(tmp_path, "x.npy"), overwrite=True)
    assert contents(tmp_path / "out") == {"manifest.json": text.encode()}


def test_files_outside_the_output_are_never_removed(job: Path) -> None:
    record = manifest_of(job / "out")
    (job / "precious").write_text("precious")
    (job / "out" / "link").symlink_to(job)
    for account, path in zip(record["inputs"], ("../precious", "link/precious"), strict=True):
        account["outputs"][0]["path"] = path
    (job / "out" / "manifest.json").write_text(json.dumps(record))
    shutil.rmtree(job / "out" / "train")
    shutil.rmtree(job / "out" / "val")
    datacheck.run(pipeline(job, DROP), overwrite=True)
    assert (job / "precious").read_text() == "precious"


@pytest.mark.parametrize("output", ["in", "in/train", "in/train/deeper", ".", "in/train/t.parquet"])
def test_an_output_inside_the_inputs_is_refused(output: str, tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "train" / "t.parquet", {"x": [1.0, np.nan]})
    before = contents(tmp_path / "in")
    with pytest.raises(OutputError, match=r"input|already exists"):
        datacheck.run(write_pipeline(tmp_path, "in/train", output={"path": output}))
    assert contents(tmp_path / "in") == before


def test_an_output_that_is_a_file_is_reported_by_the_run(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"out.* cannot be written: .*choose another output"):
        datacheck.run(write_pipeline(tmp_path, "x.npy"))
    assert (tmp_path / "out").read_text() == "mine"


def test_two_runs_cannot_share_an_output(job: Path) -> None:
    with StagingArea(str(job / "out")):
        with pytest.raises(OutputError, match=r"another run \(process \d+\) is writing there; wait for it to finish"):
            datacheck.run(pipeline(job, DROP), overwrite=True)
        assert not datacheck.run(pipeline(job)).is_new


def test_an_output_that_another_run_just_published_is_reused(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other run finishes between the check of the output and the lock."""
    shutil.move(job / "out", job / "done")
    acquire = StagingArea.__init__

    def late(self: StagingArea, output: Path, *, shared: bool) -> None:
        shutil.move(job / "done", job / "out")
        acquire(self, output, shared=shared)

    before = stamps(job / "done")
    monkeypatch.setattr(StagingArea, "__init__", late)
    assert not datacheck.run(pipeline(job)).is_new
    assert stamps(job / "out") == before


def test_leftovers_of_a_run_killed_after_publishing_are_removed(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(job / "out")
    with monkeypatch.context() as patch:
        patch.setattr(StagingArea, "clear", StagingArea.close)
        datacheck.run(pipeline(job), overwrite=True)
    assert (job / "out" / ".datacheck").exists()
    assert not datacheck.run(pipeline(job)).is_new
    assert contents(job / "out") == whole
    assert not (job / "out" / ".datacheck").exists()


class Killed(BaseException):
    """Simulates SIGKILL at a given line."""


def test_files_of_a_run_killed_during_publishing_are_removed_by_the_next_job(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(job / "out")

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", _dies_at_manifest(die))
        with pytest.raises(Killed):
            datacheck.run(pipeline(job))
    assert list((job / "out" / "train").iterdir())
    assert not (job / "out" / "manifest.json").exists()
    (job / "in" / "val" / "t.parquet").rename(job / "in" / "val" / "u.parquet")
    datacheck.run(pipeline(job, DROP))
    named = {part["path"] for account in manifest_of(job / "out")["inputs"] for part in account["outputs"]}
    assert contents(job / "out").keys() == named | {"manifest.json"}


def _dies_at_manifest(die: Any) -> Any:
    put = LocalStorage.put

    def put_or_die(self: LocalStorage, uri: str, content: bytes, **options: Any) -> None:
        if uri.endswith("/manifest.json"):
            die()
        put(self, uri, content, **options)

    return put_or_die


def test_a_resumed_run_processes_only_the_remaining_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        write_table(tmp_path / "in" / f"{number}.parquet", {"x": [float(number), np.nan]})
    path = write_pipeline(tmp_path, "in", IMPUTE)
    record = Publisher.record
    done: list[str] = []

    def dies_at_the_fourth(self: Publisher, name: str, unit: Any) -> Any:
        if len(done) == 3:
            raise Killed
        done.append(name)
        return record(self, name, unit)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "record", dies_at_the_fourth)
        with pytest.raises(Killed):
            datacheck.run(path, workers=1)
    parts = stamps(tmp_path / "out" / ".datacheck" / "parts")
    records = stamps(tmp_path / "out" / ".datacheck" / "units")
    assert len(records) == 3
    again: list[str] = []

    def note(self: Publisher, name: str, unit: Any) -> Any:
        again.append(name)
        return record(self, name, unit)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "record", note)
        datacheck.run(path, workers=1)
    assert len(again) == 3
    assert set(again).isdisjoint(done)
    inodes = set(stamps(tmp_path / "out").values())
    assert {parts[f"{name}.parquet"] for name in done} <= inodes
    resumed = contents(tmp_path / "out")
    datacheck.run(path, overwrite=True)
    assert contents(tmp_path / "out") == resumed


def test_a_resumed_run_knows_of_units_that_were_merged_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch, 32, 32)
    monkeypatch.setattr("datacheck.jobs.units.groups.MAX_GROUPS", 4)
    for number in range(2):
        table = pa.table({"x": [1.0, np.nan, 3.0, np.nan] * 8})
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "in" / f"{number}.parquet", row_group_size=4)
    path = write_pipeline(tmp_path, "in", IMPUTE)
    expected = datacheck.run(path)
    published = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    record = Publisher.record

    def dies_after_the_first(self: Publisher, name: str, unit: Any) -> None:
        record(self, name, unit)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "record", dies_after_the_first)
        with pytest.raises(Killed):
            datacheck.run(path, workers=1)
    assert len(stamps(tmp_path / "out/.datacheck/units")) == 1
    # One of the parts of the units that were merged is gone: all of them are done again.
    sorted((tmp_path / "out/.datacheck/parts").iterdir())[1].unlink()
    report = datacheck.run(path)
    assert replace(report, seconds=0) == replace(expected, seconds=0)
    assert contents(tmp_path / "out") == published


def test_a_run_resumed_from_another_folder_names_its_inputs_consistently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write_table(tmp_path / "in" / f"{number}.parquet", {"x": [float(number), np.nan]})
    path = write_pipeline(tmp_path, "in")
    record = Publisher.record
    done: list[str] = []

    def dies_at_the_third(self: Publisher, name: str, unit: Any) -> Any:
        if len(done) == 2:
            raise Killed
        done.append(name)
        return record(self, name, unit)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "record", dies_at_the_third)
        with pytest.raises(Killed):
            datacheck.run(path, workers=1)
    monkeypatch.chdir(tmp_path)
    datacheck.run("pipeline.yaml")
    resumed = contents(tmp_path / "out")
    datacheck.run("pipeline.yaml", overwrite=True)
    assert contents(tmp_path / "out") == resumed


def test_clean_refuses_the_output_folder_of_another_run(job: Path) -> None:
    statistics = datacheck.fit(pipeline(job))
    with pytest.raises(OutputError, match="holds the output of another run"):
        datacheck.clean(pipeline(job), statistics, job / "in" / "val")
    report = datacheck.clean(pipeline(job), statistics, [os.fspath(job / "in" / "val")], job / "elsewhere", split="new")
    assert report.ok
    assert kept_table(job / "elsewhere", "new")["x"].to_pylist() == [1.0, 1.5, 2.0]
