"""The two example pipelines on real data, against what pandas and NumPy say of the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import datacheck
from datacheck import RunReport

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def flights_report(example: Path) -> RunReport:
    return datacheck.run(example / "pipelines" / "flights.yaml")


@pytest.fixture(scope="module")
def weather_report(example: Path) -> RunReport:
    return datacheck.run(example / "pipelines" / "weather.yaml")


def read_split(folder: Path, split: str) -> pd.DataFrame:
    parts = sorted((folder / split).glob("*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in parts], ignore_index=True)


def is_suspect(flights: pd.DataFrame) -> pd.Series[bool]:
    """Rows with a label that a person should look at."""
    late = flights.arr_delay > 720
    foreign = flights.tailnum.notna() & ~flights.tailnum.str.startswith("N", na=False)
    fast = flights.distance > 11 * flights.air_time
    return late | foreign | fast


@pytest.mark.parametrize("split", SPLITS)
def test_every_flight_is_kept_dropped_or_set_aside_and_accounted_for(
    example: Path, flights_report: RunReport, split: str
) -> None:
    source = read_split(example / "data" / "flights", split)
    no_label = source.arr_delay.isna()
    suspect = is_suspect(source) & ~no_label
    accounts = [account for account in flights_report.accounts if account.split == split]
    assert flights_report.ok
    assert sum(account.num_read for account in accounts) == len(source)
    assert sum(account.num_dropped for account in accounts) == no_label.sum()
    assert sum(account.num_quarantined for account in accounts) == suspect.sum()
    assert sum(account.num_kept for account in accounts) == (~no_label & ~suspect).sum()


@pytest.mark.parametrize("split", SPLITS)
def test_kept_flights_have_no_gap_and_are_otherwise_what_they_were(
    example: Path, flights_report: RunReport, make_data: ModuleType, split: str
) -> None:
    source = read_split(example / "data" / "flights", split)
    expected = source[source.arr_delay.notna() & ~is_suspect(source)].reset_index(drop=True)
    kept = read_split(example / "out" / "flights", split)
    assert {"arr_time", "air_time"}.isdisjoint(kept.columns)
    np.testing.assert_array_equal(kept.wind_gust_missing, expected.wind_gust.isna())
    for name in make_data.WEATHER_FEATURES:
        assert kept[name].dtype == np.float32
        present = expected[name].notna()
        np.testing.assert_array_equal(kept[name][present], expected[name][present], err_msg=name)
        assert kept[name][~present].nunique() <= 1  # one statistic, learned from the training split, for every gap
        assert kept[name].notna().all()
    np.testing.assert_array_equal(kept.dep_delay, expected.dep_delay.clip(-60, 720))
    np.testing.assert_array_equal(kept.arr_delay, expected.arr_delay)
    assert list(kept.tailnum) == list(expected.tailnum)


def test_what_fills_a_gap_is_the_median_of_the_rows_kept_for_training(example: Path, flights_report: RunReport) -> None:
    kept = {split: read_split(example / "out" / "flights", split) for split in SPLITS}
    gusts = kept["train"].wind_gust[~kept["train"].wind_gust_missing]
    fills = {value for rows in kept.values() for value in rows.wind_gust[rows.wind_gust_missing].unique()}
    assert fills == {np.median(gusts)}


def test_flights_set_aside_are_the_original_rows_with_their_reasons(example: Path, flights_report: RunReport) -> None:
    source = read_split(example / "data" / "flights", "train")
    aside = read_split(example / "out" / "flights" / "quarantine", "train")
    suspect = source[source.arr_delay.notna() & is_suspect(source)]
    assert len(aside) == len(suspect) > 0
    np.testing.assert_array_equal(aside.air_time, suspect.air_time)
    assert aside.dep_delay.max() > 720  # unrepaired


def test_the_manifest_accounts_for_every_flight(example: Path, flights_report: RunReport) -> None:
    manifest = json.loads((example / "out" / "flights" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["num_read"] == 336_776
    assert manifest["num_dropped"] == 9_430
    assert manifest["num_read"] == sum(manifest[f"num_{place}"] for place in ("kept", "dropped", "quarantined"))


@pytest.mark.parametrize("split", SPLITS)
def test_kept_windows_have_no_gap_and_keep_their_targets(example: Path, weather_report: RunReport, split: str) -> None:
    windows = np.load(example / "data" / "weather" / split / "windows.npy")
    targets = np.load(example / "data" / "weather" / split / "targets.npy")
    kept = np.isfinite(targets) & ~(windows > 400).any((1, 2))
    folder = example / "out" / "weather" / split
    arrays = {name: np.load(next(folder.rglob(f"*{name}*.npy"))) for name in ("windows", "targets")}
    np.testing.assert_array_equal(arrays["targets"], targets[kept])
    gaps = np.isnan(windows[kept])
    np.testing.assert_array_equal(arrays["windows"][~gaps], windows[kept][~gaps])
    for feature in range(windows.shape[2]):
        assert len(np.unique(arrays["windows"][..., feature][gaps[..., feature]])) <= 1
    assert np.isfinite(arrays["windows"]).all()
    assert weather_report.ok
