"""Damaged files of datacheck's own: an error that names the file, or work that is done again; never a traceback."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import contents, write_pipeline, write_table

import datacheck
from datacheck.errors import DatacheckError, OutputError
from datacheck.publishing.publisher import Publisher

IMPUTE = [{"action": "impute", "strategy": "mean"}]


class Killed(BaseException):
    pass


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_table(tmp_path / "in" / f"{number}.parquet", {"x": np.array([1.0, np.nan, number]), "y": np.arange(3)})
    write_pipeline(tmp_path, "in", IMPUTE, schema={"fields": {"x": {"le": 1.5}, "y": {}}})
    return tmp_path


def kill(monkeypatch: pytest.MonkeyPatch, units: int) -> None:
    """A run that ends after so many units."""
    record, done = Publisher.record, list[str]()

    def dies(self: Publisher, name: str, unit: Any) -> None:
        if len(done) == units:
            raise Killed
        done.append(name)
        record(self, name, unit)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "record", dies)
        with pytest.raises(Killed):
            datacheck.run("pipeline.yaml", workers=1)


DAMAGES = [
    b"",
    b"[" * 100_000,
    b"{}",
    b"null",
    b'{"fingerprint":"x","moves":5,"replaces":[]}',
    b"\xff\xfe",
    b'{"a": 1e999}',
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_of_a_killed_run_is_named(damage: bytes, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(monkeypatch, 2)
    (job / "out" / ".datacheck" / "run.json").write_bytes(damage)
    with pytest.raises(OutputError, match=r"out/\.datacheck/run\.json: .* is damaged .*; remove the folder"):
        datacheck.run("pipeline.yaml")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_named(damage: bytes, job: Path) -> None:
    datacheck.run("pipeline.yaml")
    (job / "out" / "manifest.json").write_bytes(damage)
    with pytest.raises(OutputError, match=r"out/manifest\.json: not a datacheck manifest"):
        datacheck.run("pipeline.yaml")


@pytest.mark.parametrize("name", ["num_read", "num_kept", "num_dropped", "num_quarantined"])
@pytest.mark.parametrize("value", [9999, -1, True, 1.5, "3", None, [], {}])
def test_counts_of_a_manifest_that_do_not_add_up_are_not_believed(name: str, value: Any, job: Path) -> None:
    datacheck.run("pipeline.yaml")
    path = job / "out" / "manifest.json"
    record = json.loads(path.read_text())
    record["inputs"][0][name] = value
    path.write_text(json.dumps(record))
    with pytest.raises(
        OutputError, match=r"out/manifest\.json: is damaged .*; rewrite the whole output with --overwrite"
    ):
        datacheck.run("pipeline.yaml")


@pytest.mark.slow
def test_a_damaged_manifest_is_never_a_traceback(job: Path) -> None:
    """Any value of the manifest replaced by any other: an error of ours, or the report as it was."""
    datacheck.run("pipeline.yaml")
    path = job / "out" / "manifest.json"
    text = path.read_text()
    places = list(_places(json.loads(text)))
    choose = random.Random(5)
    for _ in range(200):
        record = json.loads(text)
        *steps, last = choose.choice(places)
        inner = record
        for step in steps:
            inner = inner[step]
        inner[last] = choose.choice([None, 5, -1, "x", [], {}, [[]], 10**400, True, "a\0b", "../.."])
        path.write_text(json.dumps(record))
        try:
            str(datacheck.run("pipeline.yaml"))
        except DatacheckError as error:
            assert "out" in str(error)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))


def test_a_damaged_unit_record_is_not_believed(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datacheck.run("pipeline.yaml")
    expected = contents(job / "out")
    datacheck.run(write_pipeline(job, "in"), overwrite=True)
    write_pipeline(job, "in", IMPUTE, schema={"fields": {"x": {"le": 1.5}, "y": {}}})
    (job / "out" / "manifest.json").unlink()
    for path in sorted((job / "out").rglob("*.*")):
        path.unlink()
    kill(monkeypatch, 2)
    first, second = sorted((job / "out" / ".datacheck" / "units").glob("*.json"))
    record = json.loads(first.read_text())
    record["units"][0]["result"] = json.loads(second.read_text())["units"][0]["result"]
    first.write_text(json.dumps(record))
    second.write_bytes(b"[" * 100_000)
    datacheck.run("pipeline.yaml")
    assert contents(job / "out") == expected


def test_parts_that_were_changed_are_written_again(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datacheck.run("pipeline.yaml")
    expected = contents(job / "out")
    for path in sorted((job / "out").rglob("*.*")):
        path.unlink()
    kill(monkeypatch, 2)
    parts = sorted((job / "out" / ".datacheck" / "parts").iterdir())
    assert len(parts) >= 2
    for path in parts:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    datacheck.run("pipeline.yaml")
    assert contents(job / "out") == expected


def test_statistics_of_a_killed_run_that_were_changed_are_learned_again(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datacheck.run("pipeline.yaml")
    expected = contents(job / "out")
    for path in sorted((job / "out").rglob("*.*")):
        path.unlink()
    kill(monkeypatch, 0)
    path = job / "out" / ".datacheck" / "statistics.json"
    text = path.read_text()
    assert "[[0.8]]" in text
    path.write_text(text.replace("[[0.8]]", "[[7.8]]"))
    datacheck.run("pipeline.yaml")
    assert contents(job / "out") == expected


@pytest.mark.parametrize("values", [[[10**400]], [[2**64]], [["x"]], [[True]], [[1.0], [2.0]], [[[]]], []])
def test_statistics_that_cannot_be_are_refused(values: Any, job: Path) -> None:
    record = json.loads(datacheck.fit("pipeline.yaml").to_json())
    record["fields"][0]["values"] = values
    (job / "st.json").write_text(json.dumps(record))
    with pytest.raises(DatacheckError, match=r"st\.json"):
        datacheck.clean("pipeline.yaml", "st.json", output="other")
