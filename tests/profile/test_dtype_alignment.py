"""Leaks are found whatever dtypes and layouts two datasets have."""

from __future__ import annotations

import datetime
import functools
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck import Report
from datacheck.hashing.rows import add_leaf
from datacheck.profile import unit
from datacheck.profile.compare import leakage

compare = functools.partial(datacheck.compare, drift=False)


def codes(report: Report, *wanted: str) -> list[tuple[str, str | None, int]]:
    return [(found.code, found.field, found.num_violations) for found in report.findings if found.code in wanted]


def table(column: pa.Array, first: int = 0) -> pa.Table:
    return pa.table({"x": column, "n": [f"row {number}" for number in range(first, first + len(column))]})


TIMES = [datetime.datetime(1960, 1, 2), None, datetime.datetime(2024, 2, 29), datetime.datetime(2200, 1, 1)]
LISTS = [[1.0, -0.0], None, [np.nan, 3.0], [4.0, 5.0]]
DECIMALS = [Decimal("-1.50"), None, Decimal("7"), Decimal("0.25")]

#: The same four values, one of them null, in several types.
EQUAL: dict[str, list[pa.Array]] = {
    "integers": [
        *(pa.array([-1, None, 100, 0], kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
        pa.array([-1, None, 100, -0.0], pa.float16()),
        pa.array([-1, None, 100, 0], pa.float32()),
        pa.array([-1, None, 100, 0], pa.float64()),
        pa.array([-1, None, 100, 0], pa.decimal128(5, 0)),
    ],
    "large integers": [pa.array([2**62 + 1, None, 3, 4], kind) for kind in (pa.int64(), pa.uint64())],
    "booleans": [pa.array([True, None, False, True]), pa.array([1, None, 0, 1], pa.int8())],
    "fractions": [pa.array([0.1, None, 1e-3, np.nan], kind) for kind in (pa.float32(), pa.float64())],
    "decimals": [
        *(pa.array(DECIMALS, kind) for kind in (pa.decimal128(10, 2), pa.decimal128(20, 4), pa.decimal256(50, 2))),
        pa.array(DECIMALS, pa.decimal32(5, 2)),
        pa.array([-1.5, None, 7, 0.25]),
    ],
    "times": [
        *(pa.array(TIMES, pa.timestamp(one)) for one in ("s", "ms", "us", "ns")),
        pa.array(TIMES, pa.timestamp("us", "UTC")),
        pa.array(TIMES, pa.date32()),
        pa.array(TIMES, pa.date64()),
    ],
    "durations": [pa.array([5, None, -7, 0], pa.duration("s")), pa.array([5000, None, -7000, 0], pa.duration("ms"))],
    "texts": [
        *(pa.array(["a", None, "", "b" * 300], kind) for kind in (pa.string(), pa.large_string(), pa.string_view())),
        pa.array(["a", None, "", "b" * 300]).dictionary_encode(),
    ],
    "lists": [
        pa.array(LISTS, pa.list_(pa.float32())),
        pa.array(LISTS, pa.list_(pa.float32(), 2)),
        pa.array(LISTS, pa.large_list(pa.float64())),
    ],
    "lists of lists": [
        pa.array([[[1, 2]], None, [[3, 4]], [[5, 6]]], kind)
        for kind in (pa.list_(pa.list_(pa.int32(), 2), 1), pa.list_(pa.list_(pa.int32())), pa.list_(pa.list_(pa.int8(), 2)))
    ],
    "structs": [
        pa.array([{"a": 1}, None, {"a": None}, {"a": 4}], pa.struct([("a", kind)])) for kind in (pa.int32(), pa.float64())
    ],
}  # fmt: skip
PAIRS = [
    pytest.param(first, second, id=f"{name}: {first.type}, {second.type}")
    for name, columns in EQUAL.items()
    for first in columns
    for second in columns
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_rows_and_keys_match_across_all_types_that_can_hold_them(first: pa.Array, second: pa.Array) -> None:
    values = second.to_pylist()
    train, other = table(first), table(pa.array([values[place] for place in (2, 0, 1, 3)], second.type))
    other = other.set_column(1, "n", pa.array(["row 2", "row 0", "row 1", "another"]))
    found = codes(compare(train, other, key="x"), "DC310", "DC311")
    assert found == [("DC310", None, 3), ("DC311", "x", 4)]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=30), st.data())
@settings(max_examples=40)
def test_integers_leak_exactly_where_they_are_equal(numbers: list[int], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.sampled_from(numbers) | st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=30))
    train = pa.table({"x": pa.array(numbers, pa.int64()), "n": ["a"] * len(numbers)})
    other = pa.table({"x": pa.array(others, pa.int32()), "n": ["a"] * len(others)})
    expected = sum(number in set(numbers) for number in others)
    assert sum(count for _, _, count in codes(compare(train, other), "DC310")) == expected


def test_files_of_one_dataset_may_have_different_dtypes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    pq.write_table(table(pa.array([-1, -2], pa.int32())), tmp_path / "train" / "a.parquet")
    pq.write_table(table(pa.array([-3, -4], pa.int64()), 2), tmp_path / "train" / "b.parquet")
    pq.write_table(table(pa.array([-1, -2, -3, -4], pa.int64())), tmp_path / "test.parquet")
    report = compare(tmp_path / "train", tmp_path / "test.parquet")
    assert codes(report, "DC310") == [("DC310", None, 4)]


def test_training_rows_in_a_text_file_are_leaks(tmp_path: Path) -> None:
    """It has fractions as they were written, not rounded to float32."""
    values = np.random.default_rng(0).standard_normal(200)
    train = pa.table(
        {"x": values.astype(np.float32), "y": values, "id": np.arange(200, dtype=np.int16), "s": ["a"] * 200}
    )
    pq.write_table(train, tmp_path / "train.parquet")
    pa.csv.write_csv(train.slice(50, 20), tmp_path / "test.csv")
    report = compare(tmp_path / "train.parquet", tmp_path / "test.csv", key="id")
    assert codes(report, "DC310", "DC311") == [("DC310", None, 20), ("DC311", "id", 20)]


@pytest.mark.parametrize("other", ["bfloat16", "float32"])
def test_bfloat16_is_compared_by_value(tmp_path: Path, other: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array([[0.0, np.nan], [1.5, 2], [3, 4]], np.float32)
    train = {"x": values.astype(ml_dtypes.bfloat16), "n": np.arange(3)}
    turned = {"x": np.array([[-0.0, -np.nan], [1.5, -2]], np.float32).astype(ml_dtypes.bfloat16), "n": np.arange(2)}
    turned["x"] = turned["x"].astype(other)
    assert codes(compare(train, turned), "DC310") == [("DC310", None, 1)]


def test_columns_whose_values_cannot_be_equal_are_left_out_and_named() -> None:
    train = pa.table({"id": [1, 2, 3], "x": [0.5, 1.5, 2.5], "s": ["a", "b", "c"]})
    other = pa.table({"id": ["1", "2"], "x": [0.5, 1.5], "s": ["a", "b"]})
    report = compare(train, other, key=["id", "s"])
    assert codes(report, "DC310", "DC311") == [("DC310", None, 2), ("DC311", "s", 2)]
    notes = {found.field: found.detail for found in report.findings if found.code == "DC315"}
    assert "the dtypes of 'id (int64 and string)' have no values in common" in str(notes["whole rows"])
    assert notes["id"] == "its dtypes have no values in common: id is int64 and string"


@pytest.mark.parametrize("key", ["", "x"])
def test_matches_are_confirmed_if_hashes_may_collide(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If every hash collides except the confirming ones, only equal rows are leaks."""

    def collide(leaf: Any, into: Any, **options: Any) -> bool:
        return bool(options.get("salt")) and add_leaf(leaf, into, **options)

    monkeypatch.setattr(unit, "add_leaf", collide)
    train, other = table(pa.array([1, 2, 3])), table(pa.array([9, 2, 8]))
    assert codes(compare(train, other, key=key or None), "DC310") == [("DC310", None, 3)]
    monkeypatch.setattr(leakage, "_MANY_PAIRS", 0)
    assert codes(compare(train, other, key=key or None), "DC310", "DC311") == [
        ("DC310", None, 1),
        *([("DC311", "x", 1)] if key else []),
    ]


BIG = np.arange(100) * 2 + 2**53 + 1  # no float64 is any of these


def leaks(train: pa.Table, other: pa.Table, key: str | None = None) -> list[tuple[str, int, bool, bool]]:
    findings = datacheck.compare(train, other, drift=False, key=key).findings
    found = [one for one in findings if one.code in ("DC310", "DC311")]
    return [(one.code, one.num_violations, one.is_error, "equal only as float" in one.detail) for one in found]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.decimal128(19, 0)])
def test_a_key_that_matches_only_as_a_float_is_a_warning_that_says_so(kind: pa.DataType) -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 100))
    exact = pa.array(BIG.tolist(), kind)
    # Each float stands for two integers, of which neither may be the one that was meant.
    rounded = pa.table({"id": BIG.astype(np.float64), "x": y})
    assert leaks(pa.table({"id": exact, "x": x}), rounded, "id") == [("DC311", 100, False, True)]
    # Rows that also have the same noise are copies, whose ids went through a float.
    copies = pa.table({"id": BIG.astype(np.float64), "x": x})
    assert leaks(pa.table({"id": exact, "x": x}), copies) == [("DC310", 100, True, True)]


def test_a_key_that_a_float_holds_exactly_is_an_error() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 100))
    for ids, dtype in ((BIG - 1, np.float64), (np.arange(100), np.float64), (np.arange(100) * 2 + 2**24, np.float32)):
        train, other = (pa.table({"id": ids, "x": noise[0]}), pa.table({"id": ids.astype(dtype), "x": noise[1]}))
        assert leaks(train, other, "id") == [("DC311", 100, True, False)]


def test_a_few_matches_of_many_that_are_exact_are_counted() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 100))
    ids = np.where(np.arange(100) < 10, BIG - 1, BIG)
    found = leaks(pa.table({"id": ids, "x": noise[0]}), pa.table({"id": ids.astype(np.float64), "x": noise[1]}), "id")
    assert found == [("DC311", 100, True, True)]


def test_decimals_are_the_floats_that_their_digits_mean() -> None:
    cents = [Decimal(number) / 100 for number in range(1000)]
    train = pa.table({"price": pa.array(cents, pa.decimal128(10, 2)), "row": np.arange(1000)})
    other = pa.table({"price": np.array([float(str(one)) for one in cents]), "row": np.arange(1000)})
    assert leaks(train, other) == [("DC310", 1000, True, False)]
