"""Hugging Face datasets: in memory as they are used, and folders that hold what their cards promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.errors import UsageError

NAN = np.nan


@pytest.fixture(scope="module")
def datasets() -> Any:
    return pytest.importorskip("datasets")


def found(data: Any, **options: Any) -> list[tuple[str, str, str | None, int]]:
    return [(one.code, one.uri, one.field, one.num_violations) for one in datacheck.scan(data, **options).findings]


@pytest.fixture
def dataset(datasets: Any) -> Any:
    values = np.arange(2500, dtype=np.float32)
    values[[3, 2000]] = NAN
    return datasets.Dataset(pa.table({"x": values, "n": pa.array([None if i == 7 else i for i in range(2500)])}))


def test_a_dataset_is_checked_as_it_is_used(dataset: Any) -> None:
    assert found(dataset) == [("DC101", "<memory>", "x", 2), ("DC104", "<memory>", "n", 1)]
    selected = dataset.select([2000, 5, 6])
    (finding,) = datacheck.scan(selected).findings
    assert (finding.code, finding.examples[0].row, finding.num_checked) == ("DC101", 0, 3)
    assert found(dataset.filter(lambda row: row["n"] is not None and 100 < row["n"] < 200)) == []
    assert found(dataset.with_format("numpy")) == found(dataset)


def test_streams_and_splits_are_checked(datasets: Any, dataset: Any) -> None:
    assert [code for code, *_ in found(dataset.to_iterable_dataset(num_shards=3))] == ["DC101", "DC104"]
    splits = datasets.DatasetDict({"train": dataset.select(range(10)), "test": dataset.select(range(1990, 2010))})
    assert found(splits) == [
        ("DC101", "<memory>/train", "x", 1),
        ("DC104", "<memory>/train", "n", 1),
        ("DC101", "<memory>/test", "x", 1),
    ]
    assert datacheck.scan(splits).num_rows == 30
    with pytest.raises(UsageError, match="splits 'train', 'test'; pass one of them"):
        datacheck.infer(splits)
    assert "x" in datacheck.infer(splits["train"]).fields


def test_a_label_beyond_its_classes_is_named_with_them(datasets: Any) -> None:
    features = datasets.Features({"label": datasets.ClassLabel(names=["cat", "dog"])})
    table = pa.table({"label": pa.array([0, 1, 2, -1], pa.int64())})
    labelled = datasets.Dataset(table.cast(features.arrow_schema), info=datasets.DatasetInfo(features=features))
    (finding,) = datacheck.scan(labelled).findings
    assert (finding.code, finding.num_violations, finding.examples[0].row) == ("DC205", 1, 2)
    assert "labels of its 2 classes ('cat', 'dog')" in finding.message


@pytest.mark.torch
def test_a_safe_dataset_wraps_one(dataset: Any) -> None:
    pytest.importorskip("torch")
    from datacheck.torch import SafeDataset
    from datacheck.torch.loader.errors import BadSampleWarning

    safe = SafeDataset(dataset.select_columns("x").with_format("torch"), max_bad_fraction=1.0)
    with pytest.warns(BadSampleWarning, match="sample 3"):
        assert all(bool(safe[index]["x"].isfinite()) for index in range(10))


def test_what_save_to_disk_wrote_has_the_rows_that_it_promises(dataset: Any, datasets: Any, tmp_path: Path) -> None:
    datasets.DatasetDict({"train": dataset}).save_to_disk(tmp_path / "d", num_shards={"train": 3})
    folder = tmp_path / "d" / "train"
    for name, changes in (
        ("state.json", {"_split": "train"}),
        ("dataset_info.json", {"splits": {"train": {"name": "train", "num_examples": 2500}}}),
    ):
        record = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(record | changes))
    assert {code for code, *_ in found(tmp_path / "d")} == {"DC101", "DC104"}
    shard = next(folder.glob("data-00001-*"))
    table = pa.ipc.open_stream(shard.read_bytes()).read_all()
    shard.unlink()
    with pa.OSFile(str(shard), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table.slice(0, 100))
    (finding,) = [one for one in datacheck.scan(tmp_path / "d").findings if one.code == "DC911"]
    assert "'train' has 1,767 rows, and dataset_info.json promises 2,500" in finding.message


CARD = """---
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*}
  - {split: test, path: data/test-*}
dataset_info:
  splits:
  - {name: train, num_examples: 30}
  - {name: test, num_examples: 10}
---
# Data
"""


def test_a_split_with_fewer_rows_than_its_card_promises_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text(CARD)
    for number in range(2):
        pq.write_table(pa.table({"x": range(15)}), tmp_path / "data" / f"train-0000{number}-of-00002.parquet")
    pq.write_table(pa.table({"x": range(9)}), tmp_path / "data" / "test-00000-of-00001.parquet")
    (finding,) = datacheck.scan(tmp_path).findings
    assert (finding.code, finding.num_violations) == ("DC911", 1)
    assert "the split 'test' has 9 rows, and README.md promises 10" in finding.message


@pytest.mark.parametrize(
    "card", ["---\n[\n---\n", "---\ndataset_info: 7\n---\n", "# no front matter", "---\nconfigs: [1]\n---\n"]
)
def test_a_card_that_says_nothing_of_rows_promises_nothing(card: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    pq.write_table(pa.table({"x": range(9)}), tmp_path / "train.parquet")
    assert found(tmp_path) == []
