"""The weather windows and the flights with their real gaps, and a folder of images with real damage."""

from __future__ import annotations

import importlib.util
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from loader_data import REPOSITORY, example
from torch.utils.data import DataLoader, Dataset

from datacheck.storage.documents import load_schema
from datacheck.torch import BadSampleWarning, SafeCollate, SafeDataset, batch_origins, open_dataset

__all__ = ["example"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]

image = pytest.importorskip("PIL.Image")


def windows_of(example: Path, split: str) -> Any:
    folder = example / "data" / "weather" / split
    return open_dataset({name: folder / f"{name}.npy" for name in ("windows", "targets")})


def ledger_of(example: Path, name: str, split: str) -> dict[int, list[str]]:
    (path,) = (example / "out" / name / "ledger" / split).glob("*.parquet")
    table = pq.read_table(path)
    return dict(zip(table["row"].to_pylist(), table["codes"].to_pylist(), strict=True))


@pytest.mark.slow
def test_windows_are_repaired_as_by_the_pipeline_and_the_rest_is_its_ledger(example: Path) -> None:
    safe = SafeDataset(
        windows_of(example, "val"),
        on_bad=("repair", "replace"),
        cleaning=example / "pipelines" / "weather.yaml",
        statistics=example / "out" / "weather" / "statistics.json",
    )
    report = safe.check()
    removed = ledger_of(example, "weather", "val")
    assert {
        sample.index: list(sample.codes) for sample in report.samples if sample.verdict == "bad"
    }.keys() == removed.keys()
    cleaned = open_dataset(example / "out" / "weather", split="val")
    for index in range(0, len(cleaned), 40):
        row = cleaned.origin(index).row
        assert row is not None
        sample = safe[row]
        assert torch.equal(sample["windows"], cleaned[index]["windows"])
        assert torch.equal(sample["targets"], cleaned[index]["targets"])


@pytest.mark.slow
def test_windows_without_a_pipeline_are_named_one_by_one(example: Path) -> None:
    raw = windows_of(example, "val")
    safe = SafeDataset(raw, max_bad_fraction=1.0)
    report = safe.check(num_workers=2, multiprocessing_context="fork")
    windows = np.load(example / "data" / "weather" / "val" / "windows.npy")
    targets = np.load(example / "data" / "weather" / "val" / "targets.npy")
    gaps = np.isnan(windows).any(axis=(1, 2)) | np.isnan(targets)
    assert report.bad_indices == tuple(np.flatnonzero(gaps).tolist())
    by_field = {finding.field: finding.num_violations for finding in report.findings}
    assert by_field == {"windows": np.isnan(windows).sum(), "targets": np.isnan(targets).sum()}


def test_flights_violate_their_schema_where_the_scan_finds_it(example: Path) -> None:
    columns = ["arr_delay", "dep_delay", "distance", "flight", "hour"]
    dataset = open_dataset(example / "data" / "flights" / "val", columns=columns)
    fields = load_schema(str(example / "schemas" / "flights.yaml")).fields
    schema = {"fields": {name: fields[name] for name in columns}}
    safe = SafeDataset(dataset, schema=schema, max_bad_fraction=0.05)
    loader = DataLoader(safe, batch_size=512, num_workers=2, multiprocessing_context="fork", collate_fn=SafeCollate())
    num_rows = 0
    for batch in loader:
        assert torch.isfinite(batch["arr_delay"]).all()
        assert (batch["dep_delay"] >= -60).all()
        num_rows += len(batch["flight"])
    assert num_rows == 28_889
    table = pq.read_table(example / "data" / "flights" / "val" / "2013-10.parquet", columns=["arr_delay", "dep_delay"])
    nulls = [index for index, row in enumerate(table.to_pylist()) if None in row.values()]
    report = safe.report()
    assert report.bad_indices == tuple(nulls)
    assert {code for sample in report.samples for code in sample.codes} == {"DC104"}
    assert report.samples[0].origin is not None
    assert report.samples[0].origin.row == nulls[0]


def test_the_example_ends_with_finite_weights_and_an_exact_report(
    example: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("train_weather", REPOSITORY / "pipelines" / "train_weather.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    arguments = ["--pipeline", str(example / "pipelines" / "weather.yaml"), "--epochs", "1", "--workers", "2"]
    assert module.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "40 samples were damaged, and the report has exactly these; all weights are finite" in printed
    assert "40 bad (40 replaced)" in printed


class Pictures(Dataset[Any]):
    """A folder of JPEGs, as torchvision's ``ImageFolder`` keeps and loads them."""

    def __init__(self, folder: Path) -> None:
        self.samples = [(str(path), index % 3) for index, path in enumerate(sorted(folder.glob("*.jpg")))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        path, label = self.samples[index]
        with Path(path).open("rb") as file:
            picture = image.open(file).convert("RGB")
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255, label


class LazyPictures(Pictures):
    """Opened and not decoded: the damage shows only when somebody looks."""

    def __getitem__(self, index: int) -> Any:
        path, label = self.samples[index]
        return {"image": image.open(io.BytesIO(Path(path).read_bytes())), "label": label}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 JPEGs: 3 is cut short, 7 is empty, 11 is text, 19 is a Git LFS pointer, 23 is gone, 31 has another size."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(40):
        size = (20, 32, 3) if index == 31 else (32, 32, 3)
        stream = io.BytesIO()
        image.fromarray(rng.integers(0, 255, size, np.uint8)).save(stream, "JPEG")
        data = stream.getvalue()
        damaged = {
            3: data[: len(data) // 2],
            7: b"",
            11: b"<html>404 Not Found</html>",
            19: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
        }
        (folder / f"{index:03d}.jpg").write_bytes(damaged.get(index, data))
    return folder


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_pictures_are_replaced_and_named_with_their_files(pictures: Path, num_workers: int) -> None:
    inner = Pictures(pictures)
    inner.samples[23] = (str(pictures / "gone.jpg"), 2)
    schema = {"fields": {"0": {"shape": [3, 32, 32], "ge": 0, "le": 1}, "1": {"ge": 0, "lt": 3}}}
    safe = SafeDataset(inner, schema=schema, max_bad_fraction=0.2)
    loader = DataLoader(
        safe,
        batch_size=8,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
        collate_fn=SafeCollate(),
    )
    for images, _ in loader:
        assert images.shape == (8, 3, 32, 32)
    report = safe.report()
    assert {sample.index: sample.codes for sample in report.samples} == {
        3: ("DC901",),
        7: ("DC907",),
        11: ("DC901",),
        19: ("DC906",),
        23: ("DC902",),
        31: ("DC004",),
    }
    assert "zero bytes) (" in str(report)
    assert f"{pictures / '007.jpg'})" in str(report)
    origins = batch_origins(images)
    assert origins is not None
    assert origins[-1].uri == str(pictures / "039.jpg")


def test_pictures_that_were_only_opened_are_decoded_in_the_check(pictures: Path) -> None:
    safe = SafeDataset(LazyPictures(pictures), max_bad_fraction=0.2)
    assert safe.check().bad_indices == (3, 7, 11, 19)
    assert safe[3]["image"].size == (32, 32)


def test_a_batch_of_dicts_of_pictures_is_screened_together(pictures: Path) -> None:
    class Batched(LazyPictures):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            return [self[index] for index in indices if index not in (7, 11, 19)]

    safe = SafeDataset(Batched(pictures), max_bad_fraction=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadSampleWarning)
        samples = safe.__getitems__([0, 1, 2, 3, 4, 5, 6, 8, 9, 10])
    assert all(sample["image"].size == (32, 32) for sample in samples)
    assert safe.report().bad_indices == (3,)
