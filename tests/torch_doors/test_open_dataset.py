"""Files opened as datasets: what the samples are, and the original file and row of each."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from loader_data import example
from torch.utils.data import DataLoader

import datacheck
from datacheck.batch import Batch
from datacheck.errors import SourceError, UsageError
from datacheck.torch import BadSampleWarning, SafeCollate, SafeDataset, batch_origins, open_dataset
from datacheck.torch.loader.fingerprint import fingerprint_of

__all__ = ["example"]

pytestmark = pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")


@pytest.mark.slow
def test_cleaned_windows_come_from_the_rows_that_the_ledger_left(example: Path) -> None:
    cleaned = open_dataset(example / "out" / "weather", split="train")
    raw = np.load(example / "data" / "weather" / "train" / "windows.npy")
    targets = np.load(example / "data" / "weather" / "train" / "targets.npy")
    assert len(cleaned) == 19_523
    for index in [*range(1100, 1140), *np.random.default_rng(0).integers(0, len(cleaned), 100).tolist(), -1]:
        origin, sample = cleaned.origin(index), cleaned[index]
        assert origin.row is not None
        assert origin.uri is not None
        assert origin.uri.endswith("train/windows.npy")
        known = ~np.isnan(raw[origin.row])
        assert np.array_equal(sample["windows"].numpy()[known], raw[origin.row][known])
        assert sample["targets"].item() == targets[origin.row]
        assert (sample["windows"].shape, sample["windows"].dtype) == ((24, 9), torch.float32)


def test_files_that_take_far_more_memory_than_they_have_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.base.MAX_BYTES_AT_ONCE", 16 << 20)
    for name, num_rows in (("0.parquet", 40), ("1.parquet", 40), ("large.parquet", 400)):
        words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(num_rows, "i4")), pa.array(["x" * (1 << 16)]))
        pq.write_table(pa.table({"s": words}), tmp_path / name, compression="zstd", store_schema=False)
    large = open_dataset(tmp_path / "large.parquet")
    assert len(large) == 400
    with pytest.raises(SourceError, match="take more than 4,194,304 bytes of memory, and these files have") as found:
        large[0]
    assert "open_dataset(..., options=datacheck.ReadOptions(max_expanded_bytes=...))" in found.value.remedy
    frames = [frame for frame, _ in traceback.walk_tb(found.value.__traceback__)]
    kept = [value for frame in frames[1:] for value in frame.f_locals.values() if isinstance(value, Batch | list)]
    assert not kept, "the error keeps the rows that were read alive"
    raised = open_dataset(tmp_path / "large.parquet", options=datacheck.ReadOptions(max_expanded_bytes=1 << 26))
    assert raised[399]["s"] == "x" * (1 << 16)
    together = open_dataset([tmp_path / "0.parquet", tmp_path / "1.parquet"])
    assert set(together[0]) == {"s"}
    with pytest.raises(SourceError, match="those of the files opened so far take more than 4,194,304 bytes"):
        together[40]


def test_options_say_how_files_are_read_and_the_arguments_take_precedence(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a;b\n1,5;2\n")
    options = datacheck.ReadOptions(csv_delimiter=";", csv_decimal=",", columns=("a",))
    assert open_dataset(tmp_path / "x.csv", options=options)[0] == {"a": torch.tensor(1.5, dtype=torch.float64)}
    assert set(open_dataset(tmp_path / "x.csv", columns=["b"], options=options)[0]) == {"b"}


def test_cleaned_flights_name_file_row_group_and_row_of_the_original(example: Path) -> None:
    cleaned = open_dataset(example / "out" / "flights" / "train")
    assert len(cleaned) == 244_708
    files: dict[str, Any] = {}
    for index in np.random.default_rng(1).integers(0, len(cleaned), 60).tolist():
        origin, sample = cleaned.origin(index), cleaned[index]
        assert origin.uri is not None
        assert origin.row is not None
        assert origin.index == index
        file = files.setdefault(origin.uri, pq.ParquetFile(origin.uri))
        assert origin.row_group == origin.row // 5_000
        row = file.read_row_group(origin.row_group).slice(origin.row % 5_000, 1).to_pylist()[0]
        assert sample["carrier"] == row["carrier"]
        assert sample["flight"].item() == row["flight"]
        assert sample["time_hour"] == row["time_hour"]
        assert sample["arr_delay"].item() == row["arr_delay"]


def test_a_split_a_file_and_the_whole_are_opened_alike(example: Path) -> None:
    output = example / "out" / "weather"
    whole = open_dataset(output, split="val")
    split = open_dataset(output / "val")
    file = open_dataset(output / "val" / "windows.npy")
    assert len(whole) == len(split) == len(file) == 2_140
    assert whole.origin(700) == split.origin(700) == file.origin(700)
    assert torch.equal(whole[700]["windows"], file[700]["windows"])
    assert list(file[0]) == ["windows"]
    part = next((example / "out" / "flights" / "train").glob("2013-02-*.parquet"))
    february = open_dataset(part)
    assert len(february) == 23_606
    assert str(february.origin(0).uri).endswith("train/2013-02.parquet")


def test_raw_files_are_their_own_origin(example: Path) -> None:
    flights = open_dataset(example / "data" / "flights" / "val", columns=["arr_delay", "distance"])
    assert len(flights) == 28_889
    assert list(flights[0]) == ["arr_delay", "distance"]
    origin = flights.origin(7_001)
    assert (Path(str(origin.uri)).name, origin.row_group, origin.row) == ("2013-10.parquet", 1, 7_001)
    nulls = [index for index in range(2_000) if flights[index]["arr_delay"] is None]
    table = pq.read_table(example / "data" / "flights" / "val" / "2013-10.parquet")
    assert nulls == [index for index, value in enumerate(table["arr_delay"].to_pylist()[:2_000]) if value is None]
    windows = open_dataset(
        {name: example / "data" / "weather" / "val" / f"{name}.npy" for name in ("windows", "targets")}
    )
    assert list(windows[3]) == ["windows", "targets"]
    bare = open_dataset(example / "data" / "weather" / "val" / "windows.npy")
    assert torch.equal(bare[3].nan_to_num(), windows[3]["windows"].nan_to_num())
    assert (
        len(open_dataset([example / "data" / "weather" / split / "windows.npy" for split in ("val", "test")])) == 6_396
    )


def test_it_trains_in_batches_with_origins(example: Path) -> None:
    safe = SafeDataset(open_dataset(example / "out" / "weather", split="val"))
    loader = DataLoader(
        safe, batch_size=64, shuffle=True, num_workers=1, multiprocessing_context="fork", collate_fn=SafeCollate()
    )
    raw = np.load(example / "data" / "weather" / "val" / "targets.npy")
    for batch in loader:
        origins = batch_origins((batch["windows"].clone(), batch["targets"].double()))
        assert origins is not None
        rows = [origin.row for origin in origins]
        assert np.array_equal(batch["targets"].numpy(), raw[rows])
    assert safe.report().ok


def test_every_kind_of_column_has_its_value(tmp_path: Path) -> None:
    table = pa.table(
        {
            "number": pa.array([1.5, None, 3.5], pa.float32()),
            "whole": pa.array([1, 2, 3], pa.int64()),
            "flag": pa.array([True, False, True]),
            "text": pa.array(["a", None, "c"]),
            "fixed": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2)),
            "ragged": pa.array([[1.0], None, [2.0, 3.0]], pa.list_(pa.float64())),
            "words": pa.array([["a"], [], ["b", "c"]]),
            "inner": pa.array([{"a": 1}, {"a": 2}, None]),
            "half": pa.array(np.array([1, 2, 3], np.float16)),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    first, second, third = (open_dataset(tmp_path / "x.parquet")[index] for index in range(3))
    assert (first["number"], second["number"]) == (torch.tensor(1.5), None)
    assert first["number"].dtype == torch.float32
    assert (second["whole"].item(), second["whole"].dtype) == (2, torch.int64)
    assert first["flag"].dtype == torch.bool
    assert (first["text"], second["text"]) == ("a", None)
    assert third["fixed"].tolist() == [5.0, 6.0]
    assert (first["ragged"].tolist(), second["ragged"], third["ragged"].tolist()) == ([1.0], None, [2.0, 3.0])
    assert third["words"] == ["b", "c"]
    assert (first["inner"], third["inner"]) == ({"a": 1}, None)
    assert first["half"].dtype == torch.float16


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i2", "?", "<c8", "<f2"])
def test_arrays_of_any_dtype(tmp_path: Path, dtype: str) -> None:
    array = (np.arange(24) % 2).astype(dtype).reshape(4, 2, 3)
    np.save(tmp_path / "x.npy", array)
    dataset = open_dataset(tmp_path / "x.npy")
    assert all(np.array_equal(dataset[index].numpy(), array[index]) for index in range(4))
    dataset[0].fill_(1)  # a copy: the file is not written to
    assert np.array_equal(np.load(tmp_path / "x.npy"), array)


def test_it_can_be_pickled_and_keeps_its_fingerprint(example: Path) -> None:
    dataset = open_dataset(example / "out" / "weather", split="val")
    dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[5]["windows"], dataset[5]["windows"])
    assert fingerprint_of(again) == fingerprint_of(dataset)
    assert fingerprint_of(open_dataset(example / "out" / "weather", split="test")) != fingerprint_of(dataset)
    with pytest.raises(IndexError):
        dataset[2_140]


def test_files_that_cannot_be_opened_are_named(example: Path, tmp_path: Path) -> None:
    output = example / "out" / "weather"
    with pytest.raises(UsageError, match=r"it has the splits 'train', 'val', 'test'; name one: split='train'"):
        open_dataset(output)
    with pytest.raises(UsageError, match="did you mean 'train'"):
        open_dataset(output, split="trian")
    with pytest.raises(UsageError, match="no column 'delay'"):
        open_dataset(example / "data" / "flights" / "val", columns=["delay"])[0]
    with pytest.raises(UsageError):
        open_dataset(tmp_path / "none.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(SourceError):
        open_dataset(tmp_path / "x.parquet")


@pytest.mark.parametrize("damage", ["version", "outside", "ledger", "json"])
def test_an_invalid_manifest_is_refused(tmp_path: Path, damage: str) -> None:
    pq.write_table(pa.table({"x": [1.0, float("nan"), 3.0]}), tmp_path / "raw.parquet")
    pipeline = {
        "version": 1,
        "inputs": "raw.parquet",
        "clean": [{"action": "drop_row", "codes": "DC101"}],
        "output": {"path": "out"},
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    datacheck.run(str(tmp_path / "pipeline.yaml"))
    dataset = open_dataset(tmp_path / "out")
    assert [(sample["x"].item(), dataset.origin(index).row) for index, sample in enumerate(dataset)] == [
        (1.0, 0),
        (3.0, 2),
    ]
    path = tmp_path / "out" / "manifest.json"
    record = json.loads(path.read_text())
    outputs = record["inputs"][0]["outputs"]
    if damage == "version":
        record["version"] = 9
    elif damage == "outside":
        next(part for part in outputs if part["kind"] == "rows")["path"] = "../raw.parquet"
    elif damage == "ledger":
        outputs[:] = [part for part in outputs if part["kind"] != "ledger"]
    path.write_text("{" if damage == "json" else json.dumps(record))
    with pytest.raises(UsageError, match=r"manifest|ledger"):
        open_dataset(tmp_path / "out")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_nulls_in_numbers_are_named_before_a_collate_function_fails_on_them(tmp_path: Path, suffix: str) -> None:
    frame = pa.table({"y": [1.5, None, 2.0, None], "name": ["a", None, "c", "d"]}).to_pandas()
    path = tmp_path / f"x.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
    dataset = open_dataset(path)
    with pytest.warns(BadSampleWarning, match=r"DC104 'y' is null in 2 of 4 rows .*rows 1, 3\)"):
        assert dataset[1]["y"] is None
    safe = SafeDataset(open_dataset(path), max_bad_fraction=1.0)
    assert [safe[index]["y"].item() for index in (0, 2)] == [1.5, 2.0]
    safe.check()
    assert safe.report().bad_indices == (1, 3)
    allowed = SafeDataset(open_dataset(path), schema={"fields": {"y": {"nullable": True}}})
    assert allowed.check().ok


def test_images_and_recordings_are_tensors_and_a_broken_one_is_a_bad_sample(tmp_path: Path) -> None:
    image, soundfile = pytest.importorskip("PIL.Image"), pytest.importorskip("soundfile")
    pixels = np.random.default_rng(0).integers(0, 255, (8, 6, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    image.fromarray(pixels).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    soundfile.write(tmp_path / "d.wav", np.zeros(5), 8000)
    dataset = open_dataset([tmp_path / name for name in ("a.png", "b.png", "c.png")])
    assert dataset[0]["image"].tolist() == pixels.tolist()
    assert open_dataset(tmp_path / "d.wav")[0]["audio"].shape == (5,)
    safe = SafeDataset(dataset, max_bad_fraction=1.0)
    with pytest.warns(BadSampleWarning, match=r"c\.png"):
        assert safe[2]["image"].tolist() == pixels.tolist()


def test_files_of_one_sample_that_cannot_be_read_are_bad_samples_among_others(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(SourceError, match=r"a\.png: the file is empty"):
        open_dataset(tmp_path)  # no other file can be read
    image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "c.png")
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(SourceError, match=r"d\.npy"):
        open_dataset(tmp_path)  # it would have many samples
    expected = {0: ("a.png", "DC907"), 1: ("b.png", "DC906"), 3: ("d.npy", "DC901")}
    if find_spec("nibabel") is not None:
        (tmp_path / "e.nii.gz").write_bytes(gzip.compress(bytes(400))[:-10])
        expected[4] = ("e.nii.gz", "DC901")
    dataset = pickle.loads(pickle.dumps(open_dataset(tmp_path, rows="file")))
    report = SafeDataset(dataset, max_bad_fraction=1.0).check()
    assert {one.index: (Path(one.origin.uri).name, *one.codes) for one in report.samples} == expected


def test_nested_nulls_are_named_by_their_path_and_counted_by_row(tmp_path: Path) -> None:
    scores = [[1.5], [None, None], [2.5]]
    pq.write_table(pa.table({"meta": [{"scores": one} for one in scores]}), tmp_path / "a.parquet")
    with pytest.warns(BadSampleWarning, match=r"DC104 'meta\.scores\[\]' is null in 1 of 3 rows .*row 1\)"):
        open_dataset(tmp_path / "a.parquet")[0]


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_images_in_shards_and_columns_are_tensors_and_a_broken_one_is_a_bad_sample(suffix: str, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (8, 6, 3), dtype=np.uint8)
    image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    contents = [file.getvalue(), file.getvalue()[:60], b"<html>", file.getvalue()]
    path = tmp_path / f"a.{suffix}"
    if suffix == "tar":
        with tarfile.open(path, "w") as archive:
            for number, content in enumerate(contents):
                member = tarfile.TarInfo(f"{number}.png")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        values = [{"bytes": content, "path": None} for content in contents]
        pq.write_table(pa.table({"png": values}), path, row_group_size=2)
    dataset = open_dataset(path)
    assert dataset[0]["png"].tolist() == dataset[3]["png"].tolist() == pixels.tolist()
    report = SafeDataset(dataset, max_bad_fraction=1.0).check()
    assert report.bad_indices == (1, 2)
    assert "'png' cannot be decoded" in report.samples[0].message


def test_lines_that_are_no_rows_are_named_and_shift_no_origin(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3\n4,5\n6,calm\n7,8\n,9\n")
    dataset = open_dataset(path)
    with pytest.warns(BadSampleWarning) as warned:
        samples = [dataset[index]["a"] for index in range(len(dataset))]
    assert [None if value is None else value.item() for value in samples] == [1, 4, 6, 7, None]
    assert [dataset.origin(index).row for index in range(len(dataset))] == [0, 2, 3, 4, 5]
    texts = [str(one.message) for one in warned]
    assert any("DC305 1 of 6 records are not valid" in text and "row 1, line 3" in text for text in texts)
    assert any(
        "DC007 1 of 5 values in 'b' are not numeric, such as 'calm'" in text and "line 5" in text for text in texts
    )
    assert any("DC104 'a' is null in 1 of 5 rows" in text and "row 5" in text for text in texts)


def test_shards_that_are_missing_and_files_with_other_fields_are_warnings(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        columns = {"x": np.arange(2.0), "y": np.arange(2)}
        if number == 1:
            columns = {"x": np.arange(2, dtype=np.float32)}
        pq.write_table(pa.table(columns), tmp_path / f"p-0000{number}-of-00004.parquet")
    with pytest.warns(BadSampleWarning, match=r"DC911 .*1 of 4 parts is missing: 'p-00002-of-00004.parquet'"):
        dataset = open_dataset(tmp_path)
    with pytest.warns(
        BadSampleWarning, match=r"00001-of-00004.parquet has no 'y'; 'x' as float instead of double"
    ) as warned:
        assert [len(dataset[index]) for index in range(6)] == [2, 2, 1, 1, 2, 2]
    assert len(warned) == 1


def test_a_folder_that_no_run_wrote_has_no_splits(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="is no output of 'datacheck run', so it has no split 'train'"):
        open_dataset(tmp_path, split="train")
