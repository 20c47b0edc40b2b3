"""When a run is the same as an earlier one: by the content of its inputs, and what was unreadable is tried again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import contents, manifest_of, write_pipeline, write_table

import datacheck
from datacheck.errors import OutputError
from datacheck.sources.npy import NpySource
from datacheck.storage.local import LocalStorage


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "in" / "a.parquet", {"x": [1.0, 2.0]})
    write_table(tmp_path / "in" / "b.parquet", {"x": [3.0, 4.0]})
    write_pipeline(tmp_path, "in", schema={"fields": {"x": {"le": 9}}})
    datacheck.run("pipeline.yaml")
    return tmp_path


def test_the_same_content_is_no_new_input(job: Path) -> None:
    before = contents(job / "out")
    os.utime(job / "in" / "a.parquet")
    assert not datacheck.run("pipeline.yaml").is_new
    content = (job / "in" / "b.parquet").read_bytes()
    (job / "in" / "b.parquet").unlink()
    (job / "in" / "b.parquet").write_bytes(content)
    assert not datacheck.run("pipeline.yaml").is_new
    assert contents(job / "out") == before


def test_files_that_have_not_changed_are_not_read_to_know_them(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStorage, "content_hash", lambda *_: pytest.fail("was read"))
    assert not datacheck.run("pipeline.yaml").is_new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("content", r"\(inputs: in/a\.parquet has other content \([\d,]+ bytes(, was [\d,]+)?\)\)"),
        ("new", r"\(inputs: in/c\.parquet is new\)"),
        ("gone", r"\(inputs: in/b\.parquet is gone\)"),
        ("schema", r"\(schema\.fields\.x\.le is 8, was 9\)"),
        ("rules", r"\(rules is \[.*drop_row.*\], was \[\]\)"),
        ("otherwise", r'\(otherwise is "drop_row", was "quarantine"\)'),
        ("reading", r'\(reading\.csv_delimiter is ";", was (not set|",")\)'),
        ("version", r'\(version is "99", was "[^"]+"\)'),
    ],
)
def test_what_differs_from_an_earlier_run_is_said(
    change: str, message: str, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections: dict[str, Any] = {"schema": {"fields": {"x": {"le": 9}}}}
    rules = []
    if change == "content":
        write_table(job / "in" / "a.parquet", {"x": [1.0, 2.5]})
    elif change == "new":
        write_table(job / "in" / "c.parquet", {"x": [1.0]})
    elif change == "gone":
        (job / "in" / "b.parquet").unlink()
    elif change == "schema":
        sections = {"schema": {"fields": {"x": {"le": 8}}}}
    elif change == "rules":
        rules = [{"action": "drop_row", "codes": "DC101"}]
    elif change == "otherwise":
        sections["otherwise"] = "drop_row"
    elif change == "reading":
        sections["reading"] = {"csv_delimiter": ";"}
    else:
        monkeypatch.setattr("datacheck.jobs.identify.__version__", "99")
    write_pipeline(job, "in", rules, **sections)
    with pytest.raises(OutputError, match=f"holds the output of another run {message}; overwrite it with --overwrite"):
        datacheck.run("pipeline.yaml")


@pytest.mark.parametrize("where", ["inspect", "read"])
def test_an_input_that_could_not_be_read_is_tried_again(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number in range(2):
        np.save(tmp_path / "in" / f"{number}.npy", np.arange(3.0))
    write_pipeline(tmp_path, "in")
    method = getattr(NpySource, where)

    def full(self: NpySource, given: Any, *options: Any) -> Any:
        if str(getattr(given, "uri", given)).endswith("1.npy"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return method(self, given, *options)

    with monkeypatch.context() as patch:
        patch.setattr(NpySource, where, _translated(where, full))
        report = datacheck.run("pipeline.yaml")
        assert [(finding.code, finding.uri) for finding in report.findings] == [("DC910", "in/1.npy")]
        assert "TMPDIR" in report.findings[0].detail
        assert "write the file again" not in report.findings[0].message
        assert not datacheck.run("pipeline.yaml").is_new
    report = datacheck.run("pipeline.yaml")
    assert report.is_new
    assert report.ok
    assert [account["status"] for account in manifest_of(tmp_path / "out")["inputs"]] == ["cleaned", "cleaned"]
    again = contents(tmp_path / "out")
    datacheck.run("pipeline.yaml", overwrite=True)
    assert contents(tmp_path / "out") == again


def _translated(where: str, method: Any) -> Any:
    from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors

    return translate_inspect_errors(method) if where == "inspect" else translate_read_errors(method)


def test_an_input_that_changed_and_was_put_back_is_tried_again(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = job / "in" / "b.parquet"
    content, times = path.read_bytes(), path.stat()
    from datacheck.jobs import run as jobs

    find_inputs = jobs.find_inputs

    def then_change(*arguments: Any) -> Any:
        found = find_inputs(*arguments)
        path.write_bytes(content + b"x")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "find_inputs", then_change)
        report = datacheck.run("pipeline.yaml", overwrite=True)
        assert [finding.code for finding in report.findings] == ["DC908"]
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    report = datacheck.run("pipeline.yaml", overwrite=True)
    assert report.ok
