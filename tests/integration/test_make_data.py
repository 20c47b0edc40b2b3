"""The example data: what it is made of, and that making it is safe to repeat."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def flights(data: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(data / "flights" / split) for split in SPLITS)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_flight_is_there_with_the_gaps_it_had(flights: pa.Table) -> None:
    assert flights.num_rows == 336_776
    assert flights["arr_delay"].null_count == 9_430
    assert pc.sum(pc.is_nan(flights["arr_delay"])).as_py() == 0


def test_weather_joins_as_pandas_joins_it(flights: pa.Table, make_data: ModuleType) -> None:
    source = make_data.find_source()
    raw = pd.read_csv(source / "flights.csv.zip").merge(
        pd.read_csv(source / "weather.csv"), on=["origin", "time_hour"], how="left", suffixes=("", "_of_weather")
    )
    expected = raw.sort_values("month", kind="stable")
    for name in make_data.WEATHER_FEATURES:
        np.testing.assert_array_equal(flights[name].to_numpy(), expected[name].to_numpy(np.float32), err_msg=name)
        assert flights[name].null_count == 0


@pytest.mark.parametrize(("split", "months"), [("train", set(range(1, 10))), ("val", {10}), ("test", {11, 12})])
def test_splits_are_months_in_several_files_with_many_row_groups(data: Path, split: str, months: set[int]) -> None:
    files = sorted((data / "flights" / split).glob("*.parquet"))
    assert set(pq.read_table(files[0].parent)["month"].to_pylist()) == months
    assert len(files) == len(months)
    assert all(pq.ParquetFile(path).num_row_groups > 4 for path in files)


@pytest.mark.parametrize("split", SPLITS)
def test_windows_are_consecutive_hours_and_the_target_is_the_next(data: Path, split: str) -> None:
    windows = np.load(data / "weather" / split / "windows.npy")
    targets = np.load(data / "weather" / split / "targets.npy")
    assert windows.dtype == targets.dtype == np.float32
    assert windows.shape == (len(targets), 24, 9)
    slides = (windows[:-1, 1:] == windows[1:, :-1]) | np.isnan(windows[:-1, 1:])
    borders = np.flatnonzero(~slides.all((1, 2)))
    assert len(borders) == 2  # from one of three airports to the next
    following = np.setdiff1d(np.arange(len(targets) - 1), borders)
    np.testing.assert_array_equal(targets[following], windows[following + 1, -1, 0])


def test_the_gusts_missing_from_windows_are_those_missing_from_the_source(data: Path, make_data: ModuleType) -> None:
    weather = make_data.read_table("weather", make_data.WEATHER_COLUMNS)
    assert weather["wind_gust"].null_count == 20_778
    hours, features = make_data.hourly_features(weather, "JFK")
    present = weather.filter(pc.equal(weather["origin"], "JFK"))
    gust = make_data.WEATHER_FEATURES.index("wind_gust")
    missing_hours = len(hours) - present.num_rows
    assert np.isnan(features[:, gust]).sum() == present["wind_gust"].null_count + missing_hours


def test_made_again_it_has_the_same_bytes(data: Path, make_data: ModuleType, tmp_path: Path) -> None:
    make_data.main(["--output", str(tmp_path / "again")])
    assert digests(tmp_path / "again") == digests(data)


def test_what_is_whole_is_left_alone_and_what_is_not_is_made_again(
    make_data: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Path] = []

    def write(folder: Path) -> dict[str, int]:
        calls.append(folder)
        (folder / "rows.txt").write_text("1\n2\n", encoding="utf-8")
        return {"rows.txt": 2}

    target = tmp_path / "rows"
    make_data.publish(target, write)
    make_data.publish(target, write)
    assert len(calls) == 1
    assert capsys.readouterr().out.splitlines() == [f"{target / 'rows.txt'}: 2 rows", f"{target}: already there"]
    (target / "rows.txt").write_text("1\n", encoding="utf-8")
    make_data.publish(target, write)
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


def test_a_writer_that_fails_leaves_what_was_there(make_data: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "rows"
    target.mkdir()
    (target / "old.txt").write_text("kept", encoding="utf-8")

    def write(folder: Path) -> dict[str, int]:
        (folder / "half.txt").write_text("half", encoding="utf-8")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        make_data.publish(target, write)
    assert [path.name for path in target.iterdir()] == ["old.txt"]
