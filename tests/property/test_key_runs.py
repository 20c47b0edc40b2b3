"""Keys whose rows lie together are hashed once a run, with the same hashes as each row's alone."""

from __future__ import annotations

import operator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacheck.batch import Column
from datacheck.dataset_rules.groups import Runs, hash_key, run_starts
from datacheck.dataset_rules.positions import Scale, within
from datacheck.hashing.keys import hash_columns
from datacheck.schema.intervals import Interval

TYPES = [
    pa.bool_(),
    pa.int8(),
    pa.uint64(),
    pa.float16(),
    pa.float64(),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("ns", "UTC"),
    pa.duration("s"),
    pa.decimal128(10, 2),
    pa.string(),
    pa.large_string(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.binary(),
    pa.list_(pa.int8()),
]


def values_of(kind: pa.DataType, lengths: np.ndarray) -> pa.Array:
    numbers = np.random.default_rng(0).integers(0, 2, len(lengths))
    mask = np.random.default_rng(1).random(len(lengths)) < 0.2
    if pa.types.is_list(kind):
        few = pa.array([None if hidden else [int(one)] for one, hidden in zip(numbers, mask, strict=True)], kind)
    elif pa.types.is_floating(kind):
        few = pa.array(np.where(numbers == 1, np.nan, 0.5).astype(kind.to_pandas_dtype()), kind, mask=mask)
    elif pa.types.is_boolean(kind):
        few = pa.array(numbers == 1, mask=mask)
    elif pa.types.is_integer(kind):
        few = pa.array(numbers, mask=mask).cast(kind)
    else:
        texts = pa.array(numbers.astype(str), pa.string(), mask=mask)
        few = (
            texts.cast(kind)
            if not pa.types.is_temporal(kind)
            else pa.array(numbers, mask=mask).cast(pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
        )
    return few.take(pa.array(np.repeat(np.arange(len(lengths)), lengths)))


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("mean", [1, 30])
def test_runs_have_the_hashes_of_their_rows(kind: pa.DataType, mean: int) -> None:
    lengths = np.random.default_rng(2).integers(1, 2 * mean, 6000 // mean)
    data = values_of(kind, lengths)[5:-7]
    columns = [Column("a", data), Column("b", pa.array(np.arange(len(data)) // 100))]
    found = hash_key(columns)
    expected = hash_columns([replace(column, name=str(index)) for index, column in enumerate(columns)])
    assert found.shape == (len(data), 2)
    assert (found == expected).all()


def test_run_starts_are_where_one_of_the_keys_changes() -> None:
    first = np.array([[1, 1], [1, 1], [1, 2], [1, 2]], np.uint64)
    second = np.array([[0, 0], [0, 0], [0, 0], [5, 0]], np.uint64)
    assert run_starts(first, second).tolist() == [0, 2, 3]
    assert run_starts(first[:0]).tolist() == []
    assert [part.tolist() for part in Runs.of(first[[0, 2, 0]]).pairs_across()] == [[0], [2]]


BOUNDS = st.sampled_from([-(2**64), -(2**63), -3, -1, 0, 1, 2, Fraction(5, 2), 2**63, 2**64 - 1])
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1])
COMPARE = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}


@given(
    st.lists(st.tuples(INTEGERS, INTEGERS), min_size=1, max_size=9),
    st.dictionaries(st.sampled_from([*COMPARE]), BOUNDS),
)
def test_steps_of_integers_are_exact_where_a_difference_needs_more_bits(
    pairs: list[tuple[int, int]], bounds: dict[str, Fraction]
) -> None:
    before, after = (np.array(values, np.int64) for values in zip(*pairs, strict=True))
    found = within(Interval.model_construct(**bounds), Scale(), before, after)
    expected = [all(COMPARE[name](second - first, bound) for name, bound in bounds.items()) for first, second in pairs]
    assert found.tolist() == expected
