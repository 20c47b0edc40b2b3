"""Inferring and comparing on the example data, checked against pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import datacheck
from datacheck import Report, Schema, Thresholds


@pytest.fixture(scope="module")
def flights(example: Path) -> Path:
    return example / "data" / "flights"


@pytest.fixture(scope="module")
def inferred(flights: Path) -> Schema:
    return datacheck.infer(flights, permissive=True)


@pytest.fixture(scope="module")
def months_apart(flights: Path) -> Report:
    pytest.importorskip("scipy")
    thresholds = Thresholds(exclude=("month", "day", "time_hour"))
    return datacheck.compare(flights / "train", flights / "test", key="carrier,flight,time_hour", thresholds=thresholds)


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)


def test_the_flights_pass_their_inferred_schema(flights: Path, inferred: Schema) -> None:
    assert [finding for finding in datacheck.scan(flights, inferred).findings if finding.is_error] == []


def test_the_inferred_schema_of_the_flights_agrees_with_pandas(flights: Path, inferred: Schema) -> None:
    table = pd.concat([read(flights / split) for split in ("train", "val", "test")])
    assert list(inferred.fields) == list(table.columns)
    for name, field in inferred.fields.items():
        assert field.allow_nan or not field.nullable or table[name].isna().any()
        assert (field.nullable or field.allow_nan) is bool(table[name].isna().any()), name
        if field.ge is not None and not isinstance(field.ge, str):
            assert field.ge <= table[name].min()
    assert set(inferred.fields["carrier"].isin or ()) == set(table.carrier)
    assert inferred.fields["dest"].isin is None


def test_train_and_test_share_no_flight(months_apart: Report) -> None:
    assert not {"DC310", "DC311"} & {finding.code for finding in months_apart.findings}
    assert months_apart.num_rows == 307_887


@pytest.mark.slow
def test_differences_between_train_and_test_agree_with_pandas(flights: Path, months_apart: Report) -> None:
    train, test = read(flights / "train"), read(flights / "test")
    (new,) = [finding for finding in months_apart.findings if finding.code == "DC314"]
    unknown = sorted(set(test.dest) - set(train.dest))
    assert (new.field, new.detail) == ("dest", ", ".join(f"'{name}'" for name in unknown))
    assert new.num_violations == (~test.dest.isin(train.dest)).sum()
    # November and December are colder than the nine months before October.
    drifted = {finding.field for finding in months_apart.findings if finding.code == "DC312"}
    assert {"temp", "dewp"} <= drifted
    assert not {"hour", "minute", "distance", "carrier", "origin"} & drifted
    rates = {finding.field: finding for finding in months_apart.findings if finding.code == "DC313"}
    for name in ("temp", "wind_gust"):
        share = np.isnan(test[name]).mean() - np.isnan(train[name]).mean()
        assert (name in rates) is bool(abs(share) > 0.01)


def test_every_row_of_a_training_month_is_a_leak(flights: Path, tmp_path: Path) -> None:
    month = flights / "train" / "2013-03.parquet"
    report = datacheck.compare(flights / "train", month, drift=False)
    (found,) = [finding for finding in report.findings if finding.code == "DC310"]
    assert found.num_violations == found.num_checked == len(pd.read_parquet(month))
    assert str(month) in found.detail


def test_the_windows_of_the_weather_do_not_overlap(example: Path) -> None:
    weather = example / "data" / "weather"
    report = datacheck.compare(weather / "train", weather / "test", drift=False)
    assert [finding.code for finding in report.findings if finding.is_error] == []
    schema = datacheck.infer(weather / "train" / "windows.npy", permissive=True)
    field = schema.fields[None]
    assert (field.dtype, field.shape, field.allow_nan) == ("float32", (None, 24, 9), True)
    assert datacheck.scan(weather / "train" / "windows.npy", schema).ok
