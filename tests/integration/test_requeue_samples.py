"""Quarantined files that are one sample each, and samples of shards, that somebody fixed: taken back, and accounted for."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import contents, manifest_of, quarantine_of, write_pipeline
from memory_storage import MemoryStorage

import datacheck
from datacheck.errors import OutputError, UsageError

Image = pytest.importorskip("PIL.Image")


def picture(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline that was run over two folders of images with labels; ``cat/1.png`` is cut off."""
    monkeypatch.chdir(tmp_path)
    for folder in ("cat", "dog"):
        Path(f"images/{folder}").mkdir(parents=True)
        for number in range(3):
            Path(f"images/{folder}/{number}.png").write_bytes(picture(number))
            Path(f"images/{folder}/{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    Path("images/cat/1.png").write_bytes(picture(1)[:150])
    pipeline = write_pipeline(tmp_path, {"train": "images"})
    datacheck.run(pipeline)
    return pipeline


def fixed_copy(name: str = "fixed/cat/1.png", content: bytes | None = None) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(picture(7) if content is None else content)
    return name


def check_taken_back(pipeline: Path, report: datacheck.RequeueReport, name: str = "cat/1.png") -> None:
    output = pipeline.parent / "out"
    assert report.ok
    assert report.run.totals() == {"num_read": 6, "num_kept": 6, "num_dropped": 0, "num_quarantined": 0}
    assert (output / "train" / name).read_bytes() == picture(7)
    assert not (output / "quarantine").exists()
    listed = {part["path"] for account in manifest_of(output)["inputs"] for part in account["outputs"]}
    assert set(contents(output)) - {"manifest.json"} == listed
    before = contents(output)
    assert datacheck.run(pipeline).totals()["num_kept"] == 6
    assert contents(output) == before


@pytest.mark.parametrize("given", ["fixed/cat/1.png", "fixed", "out/train/cat/1.png", "images/cat/1.png", "images"])
def test_a_fixed_image_is_taken_back_under_its_name(given: str, images: Path) -> None:
    fixed_copy({"fixed": "fixed/cat/1.png", "images": "images/cat/1.png"}.get(given, given))
    report = datacheck.requeue(images, given)
    assert str(report).startswith("1 fixed file: 1 taken back")
    check_taken_back(images, report)
    (ledger,) = Path("out/ledger").rglob("*.parquet")
    assert pq.read_table(ledger).select(["verdict", "file"]).to_pylist() == [
        {"verdict": "requeued", "file": "images/cat/1.png"}
    ]


def test_an_image_may_be_fixed_in_the_quarantine(images: Path) -> None:
    fixed_copy("out/quarantine/train/cat/1.png")
    check_taken_back(images, datacheck.requeue(images, "out/quarantine"))


def test_a_run_over_inputs_that_were_fixed_in_their_place_names_the_command(images: Path) -> None:
    fixed_copy("images/cat/1.png")
    with pytest.raises(OutputError, match="fixed in their place: 'datacheck requeue'"):
        datacheck.run(images)


@pytest.mark.parametrize("given", ["fixed/cat/1.png", "out/quarantine/train/cat/1.png", "images/cat/1.png"])
def test_an_image_that_is_still_bad_stays_in_quarantine(given: str, images: Path) -> None:
    fixed_copy(given, picture(7)[:120])
    report = datacheck.requeue(images, given)
    assert (report.num_given, report.num_quarantined) == (1, 1)
    assert [one.uri for one in report.findings] == [given]
    again = datacheck.requeue(images, fixed_copy())
    assert (again.num_kept, again.run.totals()["num_kept"]) == (1, 6)


def test_labels_go_with_the_image_from_beside_it_or_from_the_quarantine(images: Path) -> None:
    first = contents(images.parent / "out")
    datacheck.requeue(images, fixed_copy())
    assert Path("out/train/cat/1.txt").read_text() == "0 0.5 0.5 0.2 0.2\n"
    datacheck.run(images, overwrite=True)
    assert contents(images.parent / "out") == first
    Path("fixed/cat/1.txt").write_text("0 0.1 0.1 0.1 0.1\n")
    datacheck.requeue(images, "fixed")
    assert Path("out/train/cat/1.txt").read_text() == "0 0.1 0.1 0.1 0.1\n"


def test_a_run_notices_that_a_label_has_changed(images: Path) -> None:
    Path("images/dog/1.txt").write_text("0 0.25 0.5 0.2 0.2\n")
    with pytest.raises(OutputError, match=r"images/dog/1\.txt has other content"):
        datacheck.run(images)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("fixed/1.png", "could be 'images/cat/1.png', 'images/dog/1.png'"),
        (
            "fixed/cat/1.jpg",
            "no sample of this output has this name; a fixed file keeps its name; did you mean '1.png'",
        ),
        ("fixed/dog/1.png", "images/dog/1.png is not in quarantine"),
        ("images/dog/1.png", "images/dog/1.png is not in quarantine"),
    ],
)
def test_a_file_that_is_no_sample_in_quarantine_is_refused(name: str, problem: str, images: Path) -> None:
    before = contents(images.parent / "out")
    with pytest.raises(UsageError) as raised:
        datacheck.requeue(images, fixed_copy(name))
    assert problem in str(raised.value)
    assert contents(images.parent / "out") == before


def test_folders_below_the_one_that_is_given_must_be_those_of_the_sample(images: Path) -> None:
    fixed_copy("fixed/horse/1.png")
    with pytest.raises(UsageError, match="no sample of this output has this name"):
        datacheck.requeue(images, "fixed")


def test_somebody_elses_file_is_not_overwritten(images: Path) -> None:
    fixed_copy("out/train/cat/1.png", b"mine")
    with pytest.raises(OutputError, match="was not written by datacheck; move it away"):
        datacheck.requeue(images, fixed_copy())
    assert Path("out/train/cat/1.png").read_bytes() == b"mine"


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("given", "at"),
    [
        *(("fixed/cat/1.png", at) for at in range(6)),
        ("images/cat/1.png", 4),
        *(("out/quarantine/train/cat/1.png", at) for at in (1, 5)),
    ],
)
def test_a_killed_command_is_finished_or_has_changed_nothing(
    given: str, at: int, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed_copy(given)
    original, calls = os.replace, 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > at:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dying)
        with suppress(Killed):
            datacheck.requeue(images, given)
    try:
        report = datacheck.requeue(images, given)
    except UsageError as error:
        assert "taken back" in str(error) or "no such file" in str(error)
        report = None
    totals = datacheck.run(images).totals()
    assert totals == {"num_read": 6, "num_kept": 6, "num_dropped": 0, "num_quarantined": 0}
    assert report is None or report.num_kept == 1
    listed = {part["path"] for account in manifest_of(Path("out"))["inputs"] for part in account["outputs"]}
    assert set(contents(Path("out"))) - {"manifest.json"} == listed
    assert Path("out/train/cat/1.png").read_bytes() == picture(7)


@pytest.mark.parametrize("given", ["fixed/cat/1.png", "memory://b/in/cat/1.png", "memory://b/out/quarantine/train"])
def test_images_of_a_bucket_are_taken_back(given: str, images: Path, memory: MemoryStorage) -> None:
    memory.upload(Path("images"), "memory://b/in")
    pipeline = write_pipeline(images.parent, {"train": "memory://b/in"}, output={"path": "memory://b/out"})
    datacheck.run(pipeline)
    if given.startswith("memory"):
        memory.files[given if given.endswith(".png") else f"{given}/cat/1.png"] = picture(7)
    else:
        fixed_copy()
    assert datacheck.requeue(pipeline, given).run.totals()["num_kept"] == 6
    assert memory.files["memory://b/out/train/cat/1.png"] == picture(7)
    assert not [uri for uri in memory.files if "/quarantine/" in uri or "/.datacheck/" in uri]
    before = dict(memory.files)
    assert datacheck.run(pipeline).totals()["num_kept"] == 6
    assert memory.files == before


def test_arrays_of_one_sample_each_are_cleaned_as_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("samples").mkdir()
    for number in range(4):
        np.savez(f"samples/{number}.npz", x=np.array([number, np.nan if number in (1, 3) else 0]), y=np.array([9.0]))
    rules = [{"action": "clip", "fields": "x", "bounds": "schema"}]
    schema = {"fields": {"x": {"le": 5}, "y": {}}, "num_rows": {"ge": 2}}
    pipeline = write_pipeline(tmp_path, {"train": {"path": "samples", "rows": "file"}}, rules, schema=schema)
    datacheck.run(pipeline)
    Path("fixed").mkdir()
    np.savez("fixed/1.npz", x=np.array([1.0, 50]), y=np.array([9.0]))
    np.savez("fixed/3.npz", x=np.array([1.0, np.nan]), y=np.array([9.0]))
    report = datacheck.requeue(pipeline, "fixed")
    assert (report.num_kept, report.num_quarantined) == (1, 1)
    assert report.run.totals() == {"num_read": 4, "num_kept": 3, "num_dropped": 0, "num_quarantined": 1}
    assert np.load("out/train/1.npz")["x"].tolist() == [1, 5]
    assert manifest_of(tmp_path / "out")["inputs"][1]["repairs"]
    rows = pd.DataFrame({"x": [[1.0, 0.0]], "file": ["samples/3.npz"], "row": [0]})
    with pytest.raises(UsageError, match=r"3\.npz is one sample \('rows: file'\): give its fixed file"):
        datacheck.requeue(pipeline, rows)


@pytest.mark.torch
def test_samples_that_were_taken_back_know_their_origin(images: Path) -> None:
    from datacheck.torch import open_dataset

    datacheck.requeue(images, fixed_copy())
    dataset = open_dataset("out")
    names = [f"images/{folder}/{number}.png" for folder in ("cat", "dog") for number in range(3)]
    assert [dataset.origin(index).uri for index in range(len(dataset))] == names
    assert dataset.origin(1).row == 0


def shard(path: str, numbers: Sequence[int], bad: Sequence[int] = ()) -> str:
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            value = float("nan") if number in bad else number + 0.5
            for suffix, data in (("cls", str(number)), ("json", json.dumps({"w": value}))):
                member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data.encode()))
    return path


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline that was run over two shards; of each the second and the third sample are in quarantine."""
    monkeypatch.chdir(tmp_path)
    shard("a.tar", [0, 1, 2, 3], [1, 2])
    shard("b.tar", [10, 1, 12, 13], [1, 12])
    pipeline = write_pipeline(tmp_path, {"train": ["a.tar", "b.tar"]})
    datacheck.run(pipeline)
    return pipeline


def test_samples_of_tar_shards_are_given_in_a_shard(shards: Path) -> None:
    report = datacheck.requeue(shards, shard("fixed.tar", [2, 12], [12]))
    assert (report.num_kept, report.num_quarantined) == (1, 1)
    with pytest.raises(UsageError, match="sample '001' is in quarantine from several shards"):
        datacheck.requeue(shards, shard("fixed.tar", [1]))
    Path("fixed").mkdir()
    report = datacheck.requeue(shards, [shard("fixed/a.tar", [1]), shard("fixed/b.tar", [12, 1])])
    assert report.run.totals() == {"num_read": 8, "num_kept": 8, "num_dropped": 0, "num_quarantined": 0}
    kept = datacheck.scan("out/train")
    assert (kept.ok, kept.num_rows) == (True, 8)
    with pytest.raises(UsageError, match=r"sample '003' is not in quarantine"):
        datacheck.requeue(shards, shard("fixed.tar", [3]))


def test_records_of_shards_are_given_in_a_table_of_their_quarantine(shards: Path) -> None:
    table = quarantine_of(shards.parent / "out")
    assert table is not None
    records = [record.replace(b'{"w": NaN}', b'{"w": 7.0}') for record in table["record"].to_pylist()]
    fixed = table.set_column(0, "record", pa.array(records, pa.large_binary()))
    cut = fixed.set_column(0, "record", pa.array([record[:700] for record in records], pa.large_binary()))
    with pytest.raises(UsageError, match="a fixed record cannot be read"):
        datacheck.requeue(shards, cut)
    assert datacheck.requeue(shards, fixed).run.totals()["num_kept"] == 8


def test_examples_of_tfrecord_are_given_as_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google_crc32c")
    pytest.importorskip("google.protobuf")
    from datacheck.batch import Batch, Column
    from datacheck.sinks.tfrecord import TfrecordSink

    monkeypatch.chdir(tmp_path)

    def write(path: str, values: Sequence[float]) -> None:
        batch = Batch((Column("x", pa.array(values, pa.float32())),), len(values))
        writer = TfrecordSink().open(path, batch)
        writer.write(batch)
        writer.close()

    write("a.tfrecord", [1, float("nan"), 3])
    write("b.tfrecord", [1, 2, 3])
    pipeline = write_pipeline(tmp_path, "a.tfrecord")
    datacheck.run(pipeline)
    table = quarantine_of(tmp_path / "out")
    assert table is not None
    size = Path("b.tfrecord").stat().st_size // 3
    fixed = table.set_column(
        0, "record", pa.array([Path("b.tfrecord").read_bytes()[size : 2 * size]], pa.large_binary())
    )
    assert datacheck.requeue(pipeline, fixed).ok
    assert datacheck.scan("out/data").num_rows == 3


def test_records_that_are_published_as_a_table_become_rows_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"x": 1.5, "s": "t"}\n{"x": null, "s": "t"}\n{"x": 2.5, "s": "t"}\n')
    shard("b.tar", [0, 1, 2], [1])
    for inputs, old, new, value in (("a.jsonl", b"null", b"7", 7), ("b.tar", b'{"w": NaN}', b'{"w": 7.0}', 7)):
        output = {"path": f"out-{inputs}", "format": "parquet"}
        pipeline = write_pipeline(tmp_path, inputs, output=output)
        datacheck.run(pipeline)
        table = quarantine_of(tmp_path / output["path"])
        assert table is not None
        records = pa.array([record.replace(old, new) for record in table["record"].to_pylist()], pa.large_binary())
        assert datacheck.requeue(pipeline, table.set_column(0, "record", records)).ok
        first, taken = (pq.read_table(path) for path in sorted(Path(output["path"], "data").rglob("*.parquet")))
        assert taken.schema.types == first.schema.types
        assert taken.column_names == first.column_names
        assert value in (taken.to_pylist()[0].get("x"), *(taken.to_pylist()[0].get("json") or {}).values())
