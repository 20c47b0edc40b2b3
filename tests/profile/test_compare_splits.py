"""Rules across splits in a comparison: those of the schema, and a note where the times of two datasets overlap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import datacheck

DAYS = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=60), "who": np.arange(60), "x": 1.0})


def found(*data: Any, **options: Any) -> list[tuple[str, str]]:
    report = datacheck.compare(*data, drift=False, **options)
    return [(one.code, one.severity) for one in report.findings if one.code not in ("DC310", "DC315")]


def in_files(folder: Path, frame: pd.DataFrame, name: str) -> Path:
    path = folder / name
    path.mkdir()
    for number, start in enumerate(range(0, len(frame), 11)):
        frame.iloc[start : start + 11].to_parquet(path / f"{number}.parquet", row_group_size=5, index=False)
    return path


@pytest.mark.parametrize("is_in_files", [False, True])
def test_a_random_split_of_days_is_noted(tmp_path: Path, is_in_files: bool) -> None:
    is_test = np.random.default_rng(0).random(60) < 0.2
    train, test = DAYS[~is_test], DAYS[is_test]
    data = [in_files(tmp_path, train, "a"), in_files(tmp_path, test, "b")] if is_in_files else [train, test]
    assert found(*data) == [("DC330", "info")]
    assert found(*data, schema={"splits": {"time": {"on": "day"}}}) == [("DC330", "error")]


def test_times_that_do_not_overlap_are_not_noted_in_either_order() -> None:
    early, late = DAYS[:40], DAYS[40:]
    assert found(early, late) == found(late, early) == []
    rule = {"splits": {"time": {"on": "day"}}}
    assert found(early, late, schema=rule) == []
    assert found(late, early, schema=rule) == [("DC330", "error")]
    with_gap = {"splits": {"time": {"on": "day", "gap": "2d"}}}
    assert found(early, late, schema=with_gap) == [("DC330", "error")]
    assert found(early, DAYS[41:], schema=with_gap) == []


def test_keys_of_the_schema_are_kept_apart_and_within() -> None:
    train, test = DAYS[:40], DAYS[38:]
    rules = {"splits": {"apart": "who", "within": "who"}}
    codes = [code for code, severity in found(train, test, schema=rules) if severity == "error"]
    assert codes == ["DC329", "DC314"]
