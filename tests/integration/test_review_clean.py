"""``clean`` held to its inputs: statistics that a hand has changed, and names of splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from job_files import write_pipeline, write_table

import datacheck
from datacheck.errors import CleaningError, UsageError

NAN = float("nan")


def prepare(folder: Path, strategy: str, values: list[Any]) -> tuple[Path, Path]:
    write_table(folder / "in.parquet", {"x": values})
    rule = {"action": "impute", "strategy": strategy, "fields": "x", "codes": ["DC101", "DC104"]}
    pipeline = write_pipeline(folder, {"train": "in.parquet"}, [rule], fit="train")
    statistics = folder / "statistics.json"
    statistics.write_text(datacheck.fit(pipeline).to_json())
    return pipeline, statistics


@pytest.mark.parametrize(
    ("strategy", "values", "learned", "written"),
    [
        ("mean", [1.5, NAN], "[[1.5]]", '[["x"]]'),
        ("median", [1.5, NAN], "[[1.5]]", "[[true]]"),
        ("most_frequent", ["a", None], '[["a"]]', "[[3]]"),
        ("most_frequent", [True, None], "[[true]]", '[["true"]]'),
    ],
)
def test_a_statistic_of_the_wrong_kind_is_an_error(
    tmp_path: Path, strategy: str, values: list[Any], learned: str, written: str
) -> None:
    pipeline, statistics = prepare(tmp_path, strategy, values)
    text = statistics.read_text()
    assert learned in text
    statistics.write_text(text.replace(learned, written))
    with pytest.raises(CleaningError, match=r"expected numbers for the statistic|the value for 'x' is"):
        datacheck.clean(pipeline, statistics, tmp_path / "in.parquet", tmp_path / "new", workers=1)


@pytest.mark.parametrize("split", ["quarantine", "ledger", "../x", "", ".datacheck"])
def test_a_split_cannot_use_a_reserved_folder(tmp_path: Path, split: str) -> None:
    pipeline, statistics = prepare(tmp_path, "mean", [1.5, NAN])
    with pytest.raises(UsageError, match="is not a valid folder name for the output"):
        datacheck.clean(pipeline, statistics, tmp_path / "in.parquet", tmp_path / "new", split=split, workers=1)
    assert not (tmp_path / "new").exists()


def test_a_split_of_any_other_name_is_a_folder(tmp_path: Path) -> None:
    pipeline, statistics = prepare(tmp_path, "mean", [1.5, NAN])
    report = datacheck.clean(pipeline, statistics, tmp_path / "in.parquet", tmp_path / "new", split="fold-1", workers=1)
    (part,) = (tmp_path / "new" / "fold-1").iterdir()
    assert report.ok
    assert pq.read_table(part)["x"].to_pylist() == [1.5, 1.5]
