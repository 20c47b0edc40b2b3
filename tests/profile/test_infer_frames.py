"""A schema inferred from a data frame holds for it in memory, and in every format that pandas writes it to."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.schema import Schema

Random = np.random.Generator
Make = Callable[[Random, int], Any]


def with_gaps(values: Any, random: Random, gap: Any = None) -> list[Any]:
    return [gap if random.random() < 0.2 else value for value in values]


def seconds(random: Random, num_rows: int) -> Any:
    return random.integers(0, 10**9, num_rows)


#: Columns that every format keeps, also CSV given their dtypes.
PLAIN: dict[str, Make] = {
    "float64": lambda random, n: random.normal(size=n),
    "float32": lambda random, n: random.normal(size=n).astype(np.float32),
    "float64 with NaN": lambda random, n: np.where(random.random(n) < 0.2, np.nan, random.normal(size=n)),
    "float32 with NaN": lambda random, n: np.where(random.random(n) < 0.2, np.nan, 1).astype(np.float32),
    "int64": lambda random, n: random.integers(-(10**12), 10**12, n),
    "int8": lambda random, n: random.integers(-128, 127, n, dtype=np.int8),
    "uint64": lambda random, n: random.integers(0, 2**64 - 1, n, dtype=np.uint64),
    "bool": lambda random, n: random.random(n) < 0.5,
    "nullable integers": lambda random, n: pd.Series(with_gaps(range(n), random), dtype="Int64"),
    "nullable booleans": lambda random, n: pd.Series(with_gaps([True] * n, random), dtype="boolean"),
    "text": lambda random, n: [f"text {number}" for number in random.integers(0, 10**6, n)],
    "objects, all integers": lambda random, n: pd.Series(random.integers(0, 9, n).tolist(), dtype=object),
    "objects, integers and NaN": lambda random, n: pd.Series(with_gaps([4] * n, random, np.nan), dtype=object),
    "dates": lambda random, n: with_gaps([datetime.date(2000, 1, 2)] * n, random),
    "timestamp[s]": lambda random, n: seconds(random, n).astype("M8[s]"),
    "timestamp[us]": lambda random, n: seconds(random, n).astype("M8[s]").astype("M8[us]"),
    "timestamp[ns] with NaT": lambda random, n: pd.Series(seconds(random, n).astype("M8[ns]")).where(
        random.random(n) > 0.2
    ),
}
#: Columns that Parquet and Feather keep.
OTHERS: dict[str, Make] = {
    "float16": lambda random, n: random.normal(size=n).astype(np.float16),
    "text with None": lambda random, n: with_gaps(["q"] * n, random),
    "text with NaN": lambda random, n: pd.Series(with_gaps(["q"] * n, random, np.nan), dtype=object),
    "categories": lambda random, n: pd.Categorical(with_gaps(random.choice(["x", "y"], n), random)),
    "integer categories": lambda random, n: pd.Categorical(random.integers(0, 5, n)),
    "lists": lambda random, n: [random.normal(size=length).tolist() for length in random.integers(0, 4, n)],
    "lists with None": lambda random, n: with_gaps([[1, 2]] * n, random),
    "structs": lambda random, n: [{"a": int(number), "b": str(number)} for number in random.integers(0, 9, n)],
    "durations": lambda random, n: seconds(random, n).astype("m8[ns]"),
    "with a time zone": lambda random, n: pd.Series(seconds(random, n).astype("M8[ns]")).dt.tz_localize("Asia/Tokyo"),
    "bytes": lambda random, n: [bytes([number]) for number in random.integers(0, 255, n)],
}
ROWS = st.sampled_from([1, 2, 3, 12, 40, 120, 1100])


def assert_passes(data: Any, schema: Schema) -> None:
    report = datacheck.scan(data, schema)
    assert report.ok, (str(report), schema)


@given(st.sampled_from(sorted(PLAIN | OTHERS)), st.sampled_from(sorted(PLAIN | OTHERS)), ROWS, st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_a_data_frame_passes_on_its_schema_in_memory_and_in_every_format(
    first: str, second: str, num_rows: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    makes = PLAIN | OTHERS
    # A row number keeps CSV's rows from being empty lines.
    frame = pd.DataFrame(
        {"a": makes[first](random, num_rows), "b": makes[second](random, num_rows), "n": range(num_rows)}
    )
    schema = datacheck.infer(frame)
    assert_passes(frame, schema)
    with TemporaryDirectory() as folder:
        file = f"{folder}/frame"
        frame.to_parquet(f"{file}.parquet")
        frame.to_feather(f"{file}.feather")
        written = ["parquet", "feather"]
        if {first, second} <= PLAIN.keys():
            frame.to_csv(f"{file}.csv", index=False)
            written.append("csv")
        if all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in frame.dtypes):
            np.savez(f"{file}.npz", **{str(name): column.to_numpy() for name, column in frame.items()})
            written.append("npz")
        for suffix in written:
            assert_passes(f"{file}.{suffix}", schema)


@pytest.mark.parametrize("dtype", ["timestamp[s]", "time32[s]", "duration[s]", "date64[ms]", "timestamp[ns]"])
def test_a_time_passes_in_the_unit_that_parquet_stores(tmp_path: Path, dtype: str) -> None:
    kind = pa.date64() if dtype == "date64[ms]" else pa.type_for_alias(dtype)
    days = pa.array([0, 86_400_000], pa.int64()) if dtype == "date64[ms]" else pa.array([0, 50], pa.int64())
    if dtype == "time32[s]":
        days = days.cast(pa.int32())
    table = pa.table({"t": days.cast(kind)})
    pq.write_table(table, tmp_path / "t.parquet")
    assert_passes(tmp_path / "t.parquet", datacheck.infer(table))


def test_a_coarser_unit_than_the_schema_says_is_still_a_finding(tmp_path: Path) -> None:
    table = pa.table({"t": pa.array([0, 50]).cast(pa.timestamp("us"))})
    schema = Schema(fields={"t": {"dtype": "timestamp[ms]"}})
    assert [finding.code for finding in datacheck.scan(table, schema).findings] == ["DC003"]


def test_an_array_of_one_axis_is_the_same_as_a_column(tmp_path: Path) -> None:
    schema = Schema(fields={"a": {"shape": [None]}})
    column = pa.table({"a": [1, 2]})
    assert_passes(column, schema)
    assert_passes({"a": np.array([1, 2])}, schema)
    assert not datacheck.scan({"a": np.array([[1], [2]])}, schema).ok
    assert not datacheck.scan(column, Schema(fields={"a": {"shape": [None, 3]}})).ok
