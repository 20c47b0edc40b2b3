"""A run publishes the same files to any storage, and resumes there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from job_files import contents, write_pipeline, write_table
from memory_storage import MemoryStorage

import datacheck
from datacheck.errors import OutputError
from datacheck.publishing.publisher import Publisher

OUTPUT = "memory://bucket/out"
IMPUTE = {"action": "impute", "strategy": "median", "fields": "x", "codes": "DC101"}
RULES = [IMPUTE, {"action": "quarantine", "codes": "DC102"}]
FORMATS = ("arrow", "csv", "npz", "parquet", "safetensors")


class Killed(BaseException):
    pass


@pytest.fixture
def job(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).standard_normal(200)
    values[::9], values[5] = np.nan, np.inf
    for number in range(3):
        write_table(tmp_path / "in" / f"{number}.parquet", {"x": values + number, "y": np.arange(200)})
    return tmp_path


def published(memory: MemoryStorage) -> dict[str, bytes]:
    return {name.removeprefix(f"{OUTPUT}/"): content for name, content in memory.files.items()}


def kept_rows(files: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [(name, content) for name, content in files.items() if name.startswith("data/")]


def pipeline(job: Path, output: str, **options: str) -> Path:
    return write_pipeline(job, "in", RULES, output={"path": output, **options})


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_run_publishes_the_same_bytes_to_any_storage(fmt: str, job: Path, memory: MemoryStorage) -> None:
    datacheck.run(pipeline(job, "out", format=fmt))
    report = datacheck.run(pipeline(job, OUTPUT, format=fmt))
    assert report.output == OUTPUT
    assert published(memory) == contents(job / "out")


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_run_reads_and_writes_any_storage(fmt: str, job: Path, memory: MemoryStorage) -> None:
    datacheck.run(write_pipeline(job, "in", output={"path": "tables", "format": fmt}))
    memory.upload(job / "tables" / "data", "memory://bucket/in")
    local = datacheck.run(write_pipeline(job, "tables/data", RULES))
    remote = datacheck.run(write_pipeline(job, "memory://bucket/in", RULES, output={"path": OUTPUT}))
    assert remote.totals() == local.totals()
    rows = {name.rpartition("/")[2].split("-")[0]: content for name, content in kept_rows(contents(job / "out"))}
    assert {name.rpartition("/")[2].split("-")[0]: content for name, content in kept_rows(published(memory))} == rows


def test_arrays_are_published_to_any_storage(tmp_path: Path, memory: MemoryStorage) -> None:
    np.save(tmp_path / "x.npy", np.array([1.0, np.nan, 3.0]))
    for output in ("out", OUTPUT):
        datacheck.run(write_pipeline(tmp_path, "x.npy", [IMPUTE | {"fields": None}], output={"path": output}))
    assert published(memory) == contents(tmp_path / "out")


def test_a_finished_run_is_not_repeated_and_a_damaged_one_is_reported(job: Path, memory: MemoryStorage) -> None:
    assert datacheck.run(pipeline(job, OUTPUT)).is_new
    assert not datacheck.run(pipeline(job, OUTPUT)).is_new
    del memory.files[next(name for name in memory.files if name.endswith(".parquet"))]
    with pytest.raises(OutputError, match="No such file"):
        datacheck.run(pipeline(job, OUTPUT))


def test_a_killed_run_is_resumed(job: Path, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    record, recorded = Publisher.record, list[str]()

    def die_at_the_third(self: Publisher, name: str, unit: dict[str, object]) -> None:
        if len(recorded) == 2:
            raise Killed
        recorded.append(name)
        record(self, name, unit)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "record", die_at_the_third)
        with pytest.raises(Killed):
            datacheck.run(pipeline(job, OUTPUT), workers=1)
    assert not any(name.endswith("manifest.json") for name in memory.files)
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "record", lambda self, name, unit: recorded.append(name) or record(self, name, unit))
        datacheck.run(pipeline(job, OUTPUT), workers=1)
    assert len(recorded) == len(set(recorded)) == 3
    datacheck.run(pipeline(job, "out"))
    assert published(memory) == contents(job / "out")


def test_another_run_replaces_the_output_only_if_told_to(job: Path, memory: MemoryStorage) -> None:
    datacheck.run(pipeline(job, OUTPUT, format="csv"))
    with pytest.raises(OutputError, match="holds the output of another run"):
        datacheck.run(pipeline(job, OUTPUT))
    datacheck.run(pipeline(job, OUTPUT), overwrite=True)
    datacheck.run(pipeline(job, "out"))
    assert published(memory) == contents(job / "out")


def test_files_of_unknown_origin_are_left_alone(job: Path, memory: MemoryStorage) -> None:
    memory.files[f"{OUTPUT}/data/mine.csv"] = b"mine"
    with pytest.raises(OutputError, match=r"mine\.csv: was not written by datacheck"):
        datacheck.run(pipeline(job, OUTPUT))
    assert published(memory) == {"data/mine.csv": b"mine"}
