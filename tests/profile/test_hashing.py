"""Rows have equal hashes exactly if they are equal, whatever their layout and batches."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_data import canonical_columns, tables

from datacheck.batch import Batch, Column
from datacheck.profile.options import ProfileOptions
from datacheck.profile.unit import profile_batches

ROWS = ProfileOptions(hash_rows=True)


def hashes(
    columns: dict[str | None, Any], cuts: list[int] | None = None, options: ProfileOptions = ROWS
) -> np.ndarray[Any, Any]:
    length = len(next(iter(columns.values())))
    bounds = [0, *sorted({cut for cut in cuts or [] if 0 < cut < length}), length]
    batches = [
        Batch(tuple(Column(name, data[start:stop]) for name, data in columns.items()), stop - start, start)
        for start, stop in itertools.pairwise(bounds)
    ]
    found = profile_batches(batches, options)
    assert found.rows is not None
    assert [found.rows.rows[place] for place in range(length)] == list(range(length))
    return found.rows.hashes


@given(tables(), st.lists(st.integers(0, 100), max_size=3))
@settings(max_examples=250)
def test_rows_have_equal_hashes_exactly_if_they_are_equal(table: pa.Table, cuts: list[int]) -> None:
    distinct = {name: index for index, name in enumerate(table.column_names)}
    table = table.select(sorted(distinct.values()))
    if not len(table) or not table.num_columns:
        return
    columns: dict[str | None, Any] = {
        name: column.combine_chunks() for name, column in zip(table.column_names, table.columns, strict=True)
    }
    # Rows of a single number are not hashed, so there is always a second column.
    columns["a column of its own"] = pa.array(["x"] * len(table))
    found = hashes(columns, cuts)
    rows = list(map(repr, zip(*canonical_columns(table), strict=True)))
    for first in range(len(rows)):
        for second in range(first):
            assert (rows[first] == rows[second]) is bool(found[first] == found[second]), (rows[first], rows[second])


@given(tables())
@settings(max_examples=60)
def test_the_order_of_columns_does_not_matter(table: pa.Table) -> None:
    distinct = {name: index for index, name in enumerate(table.column_names)}
    if len(distinct) < 2 or not len(table):
        return
    columns: dict[str | None, Any] = {name: table.column(index).combine_chunks() for name, index in distinct.items()}
    turned = dict(reversed(columns.items()))
    np.testing.assert_array_equal(hashes(columns), hashes(turned))


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "big-endian": lambda x: x.astype(">f4"),
    "masked": lambda x: np.ma.MaskedArray(x, np.zeros(x.shape, bool)),
    "lists": lambda x: pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x[0].size),
    "lists with a null": lambda x: pa.FixedSizeListArray.from_arrays(
        pa.array([*x.reshape(-1), *x[0].reshape(-1)]), x[0].size, mask=pa.array([False] * len(x) + [True])
    ),
}


@pytest.mark.parametrize("shape", [(50, 1), (50, 7), (50, 8), (50, 3, 5), (50, 40, 9)])
@pytest.mark.parametrize("quick", [False, True])
def test_a_row_has_the_same_hash_in_every_layout(shape: tuple[int, ...], quick: bool) -> None:
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    rows[30] = rows[3]
    options = ProfileOptions(hash_rows=True, quick_rows=quick)
    found = {}
    for name, make in LAYOUTS.items():
        data = make(rows)
        found[name] = hashes({"x": data, "n": np.zeros(len(data))}, options=options)[: len(rows)]
    assert found["C"][30] == found["C"][3]
    assert len(np.unique(found["C"])) == 49
    for name in found:
        # The values of a list have another path than an array.
        like = found["lists"] if name.startswith("lists") else found["C"]
        np.testing.assert_array_equal(found[name], like, err_msg=name)


def test_the_hash_of_a_row_with_nulls_does_not_depend_on_other_rows() -> None:
    rows = [[1.0, None], [1.0, 2.0], [None, None], None]
    kind = pa.list_(pa.float32(), 2)
    for row in rows:
        alone = hashes({"x": pa.array([row, [7.0, 7.0]], kind), "n": np.zeros(2)})[0]
        with_others = hashes({"x": pa.array([*rows, row], kind), "n": np.zeros(5)})[-1]
        assert alone == with_others
    assert len(np.unique(hashes({"x": pa.array(rows, kind), "n": np.zeros(4)}))) == 4


def test_one_hot_rows_have_different_hashes() -> None:
    """Nearly all of their bits are equal, which makes a plain sum of products collide."""
    rows = np.eye(512, dtype=np.float32)
    assert len(np.unique(hashes({"x": rows}))) == 512
    pairs = np.stack(np.meshgrid(np.arange(300.0), np.arange(300.0)), axis=2).reshape(-1, 2)
    assert len(np.unique(hashes({"a": pairs[:, 0].copy(), "b": pairs[:, 1].copy()}))) == 90_000
    assert len(np.unique(hashes({"x": pairs}))) == 90_000


SIGNS = (np.arange(1 << 16)[:, None] >> np.arange(16) & 1) * 2 - 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64"])
@pytest.mark.parametrize("layout", ["columns", "matrix", "lists"])
def test_all_bits_of_a_hash_differ_between_rows_of_few_values(dtype: str, layout: str) -> None:
    """If only signs differ, hardly any bit does, and a product alone would change only its high bits."""
    values = SIGNS.astype(dtype)
    columns: dict[str | None, Any] = {f"c{number}": values[:, number].copy() for number in range(16)}
    if layout == "matrix":
        columns = {"x": values}
    elif layout == "lists":
        offsets = np.arange(0, values.size + 1, 16, dtype=np.int32)
        columns = {"x": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))}
    found = hashes(columns)
    for first in (0, 12, 24):
        part = (found >> np.uint64(first)) & np.uint64((1 << 40) - 1)
        assert len(np.unique(part)) >= len(part) - 2


def test_zeros_and_nans_are_equal_whatever_their_bits() -> None:
    values = np.array([[0.0, 1.0], [-0.0, 1.0], [np.nan, 1.0], [-np.nan, 1.0]], np.float32)
    found = hashes({"x": values})
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0] != found[2]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64, np.complex64])
@pytest.mark.parametrize("width", [3, 33, 300, 1001])
def test_quick_hashes_of_long_rows_differ_for_most_rows(dtype: Any, width: int) -> None:
    rows = np.random.default_rng(0).integers(0, 255, (200, width)).astype(dtype)
    rows[150] = rows[3]
    quick = hashes({"x": rows}, options=ProfileOptions(hash_rows=True, quick_rows=True))
    assert quick[150] == quick[3]
    assert len(np.unique(quick)) == 199
    assert len(np.unique(hashes({"x": rows}))) == 199


@pytest.mark.parametrize("lengths", [(0, 1, 7, 8, 9, 15, 16, 17, 255, 256, 257, 1000)])
def test_texts_of_any_length_have_different_hashes(lengths: tuple[int, ...]) -> None:
    texts = [letter * length for length in lengths for letter in "ab"] + ["a" * 8 + "\0", "a" * 8 + "\0\0"]
    found = hashes({"x": pa.array([*texts, *texts])}, cuts=[5])
    assert len(np.unique(found)) == len(set(texts))
    np.testing.assert_array_equal(found[: len(texts)], found[len(texts) :])
