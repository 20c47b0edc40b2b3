"""Rows that repeat an earlier key are found across batches and files, in memory and on disk, as pandas finds them."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_data import canonical_columns, tables

from datacheck.batch import Batch, Column
from datacheck.hashing.keys import hash_unique_keys
from datacheck.hashing.store import HashStore
from datacheck.schema import Field, Schema

KEY = Schema(fields={"a": Field(unique=True, allow_nan=True, nullable=True)})
PAIR = Schema(fields={"a": Field(), "b": Field()}, unique=(("a", "b"),))


def repeated(schema: Schema, columns: dict[str, Any], cuts: list[int], spill_bytes: int = 1 << 20) -> list[int]:
    """The rows that repeat an earlier one, when the columns come in batches that end at ``cuts``."""
    length = len(next(iter(columns.values())))
    edges = [0, *sorted({cut % (length + 1) for cut in cuts}), length]
    with HashStore(spill_bytes) as store:
        for start, stop in pairwise(edges):
            batch = Batch(tuple(Column(name, data[start:stop]) for name, data in columns.items()), stop - start, start)
            for key in hash_unique_keys(batch, schema):
                store.add(key.hashes)
        return store.repeated().tolist()


def oracle(columns: dict[str, Any]) -> list[int]:
    frame = pd.DataFrame({name: pa.array(data).to_pylist() for name, data in columns.items()}, dtype=object)
    return np.flatnonzero(frame.duplicated(keep="first")).tolist()


SCALARS = {
    "int64": st.integers(-3, 3) | st.none(),
    "float64": st.sampled_from([0.0, -0.0, 1.5, float("inf"), None]),
    "string": st.sampled_from(["", "a", "b", "ab", "\x00", None]),
    "bool": st.booleans() | st.none(),
    "date32": st.sampled_from([pd.Timestamp("2024-01-01").date(), pd.Timestamp("2024-01-02").date(), None]),
}


@given(st.sampled_from(sorted(SCALARS)), st.data())
@settings(max_examples=150, deadline=None)
def test_duplicates_agree_with_pandas_for_any_batches(kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(SCALARS[kind], max_size=30))
    cuts = data.draw(st.lists(st.integers(0, 30), max_size=4))
    array = pa.array(values, pa.type_for_alias(kind))
    # Zeros are equal whatever their sign, as for pandas with Python floats.
    assert repeated(KEY, {"a": array}, cuts) == oracle({"a": array})


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["x", "y", None])), max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_key_of_two_fields_repeats_only_if_both_do(rows: list[tuple[int, str | None]]) -> None:
    columns = {"a": pa.array([a for a, _ in rows], pa.int32()), "b": pa.array([b for _, b in rows], pa.string())}
    assert repeated(PAIR, columns, [7, 20]) == oracle(columns)


@given(tables(), st.lists(st.integers(0, 30), max_size=2))
@settings(max_examples=150, deadline=None)
def test_keys_of_any_type_repeat_exactly_if_they_are_equal(table: pa.Table, cuts: list[int]) -> None:
    for column, values in zip(table.columns, canonical_columns(table), strict=True):
        earlier: set[str] = set()
        expected = []
        for row, value in enumerate(map(repr, values)):
            if value in earlier:
                expected.append(row)
            earlier.add(value)
        assert repeated(KEY, {"a": column.combine_chunks()}, cuts) == expected


def test_spilling_gives_the_same_rows_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    values = np.random.default_rng(0).integers(0, 5_000, 20_000)
    in_memory = repeated(KEY, {"a": values}, list(range(0, 20_000, 999)))
    on_disk = repeated(KEY, {"a": values}, list(range(0, 20_000, 999)), spill_bytes=10_000)
    assert in_memory == on_disk == oracle({"a": values})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda x: pa.array(x), np.asarray])
def test_nans_equal_each_other_whatever_their_bits(make: Any) -> None:
    bits = np.array([0x7FF8000000000000, 0x7FF8000000000001, 0x3FF0000000000000], np.uint64)
    assert repeated(KEY, {"a": make(bits.view(np.float64))}, []) == [1]


def test_rows_of_arrays_are_compared_as_a_whole() -> None:
    rows = np.array([[1.0, np.nan], [1.0, 2.0], [1.0, np.nan], [-0.0, 1.0], [0.0, 1.0]], np.float32)
    assert repeated(KEY, {"a": rows}, [2]) == [2, 4]


def test_strings_equal_across_encodings() -> None:
    plain = pa.array(["a", "b", "a"])
    mixed = pa.array(["b", "c"]).dictionary_encode()
    with HashStore() as store:
        for array in (plain, mixed, plain.cast(pa.large_string())):
            for key in hash_unique_keys(Batch((Column("a", array),), len(array)), KEY):
                store.add(key.hashes)
        assert store.repeated().tolist() == [2, 3, 5, 6, 7]


SAME_KEYS: dict[str, list[Any]] = {
    "integers": [np.array([3, -1], np.int8), pa.array([3, -1], pa.int64()), np.array([3, -1], ">i4")],
    "floats": [np.array([0.5, -0.0], np.float16), pa.array([0.5, 0.0]), np.array([0.5, 0.0], np.float32)],
    "decimals": [pa.array([Decimal("1.50"), None], kind) for kind in (pa.decimal32(5, 2), pa.decimal256(50, 2))],
    "times": [
        pa.array([86_400, 0], pa.timestamp("s")),
        pa.array([86_400_000, 0], pa.timestamp("ms")),
        np.array(["1970-01-02", "1970-01-01"], "M8[us]"),
    ],
    "bytes": [pa.array([b"ab", b"cd"]), pa.array([b"ab", b"cd"], pa.binary(2))],
    "lists": [pa.array([[1, 2], None], kind) for kind in (pa.list_(pa.int8()), pa.list_(pa.int64(), 2))],
    "objects": [np.array(["x", ("y", 1)], object), np.array(["x", ("y", 1)], object)],
}


@pytest.mark.parametrize("name", sorted(SAME_KEYS))
def test_equal_keys_repeat_whatever_stores_them(name: str) -> None:
    with HashStore() as store:
        for array in SAME_KEYS[name]:
            for key in hash_unique_keys(Batch((Column("a", array),), len(array)), KEY):
                store.add(key.hashes)
        assert store.repeated().tolist() == list(range(2, 2 * len(SAME_KEYS[name])))


def test_masked_values_are_nulls() -> None:
    assert repeated(KEY, {"a": np.ma.MaskedArray([1, 2, 1, 3], [False, True, False, True])}, []) == [2, 3]


@pytest.mark.parametrize("spill_bytes", [1, 1 << 20])
def test_hashes_that_share_only_one_word_are_different(spill_bytes: int) -> None:
    with HashStore(spill_bytes) as store:
        store.add(np.array([[1, 1], [1, 2], [2, 1], [1, 3]], np.uint64))
        store.add(np.array([[1, 2], [2, 2], [1, 1]], np.uint64))
        assert store.repeated().tolist() == [4, 6]
        assert store.has_repeated()
