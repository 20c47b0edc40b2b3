"""Profiles of one streaming pass agree with NumPy and Python over all of the data at once."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datacheck.batch import Batch, Column
from datacheck.hashing.store import HashStore, matches
from datacheck.profile import sample as sample_module
from datacheck.profile import unit as unit_module
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.options import ProfileOptions
from datacheck.profile.sample import Sample
from datacheck.profile.unit import UnitProfile, profile_batches

FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan])


def batches_of(array: Any, cuts: list[int]) -> list[Batch]:
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(array)}), len(array)]
    return [Batch((Column("x", array[start:stop]),), stop - start, start) for start, stop in itertools.pairwise(bounds)]


def profile(array: Any, cuts: list[int], options: ProfileOptions) -> LeafProfile:
    """The profile of a column whose batches are units of their own, merged in order."""
    profiles = [profile_batches([batch], options).leaves for batch in batches_of(array, cuts)]
    (first, *rest) = [next(iter(found.values())) for found in profiles if found]
    for other in rest:
        first.merge(pickle.loads(pickle.dumps(other)))
    return first


@given(st.lists(FLOATS | st.none(), min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=3))
@settings(max_examples=150)
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_counts_and_extremes_cover_all_values(kind: pa.DataType, values: list[Any], cuts: list[int]) -> None:
    found = profile(pa.array(values, kind), cuts, ProfileOptions(max_distinct=10))
    present = np.array([value for value in values if value is not None], np.float64)
    finite = present[np.isfinite(present)]
    assert found.num_slots == len(values)
    assert found.num_nulls == len(values) - len(present)
    assert found.num_nan == np.isnan(present).sum()
    assert (found.num_posinf, found.num_neginf) == ((present == np.inf).sum(), (present == -np.inf).sum())
    assert (found.low, found.high) == ((finite.min(), finite.max()) if len(finite) else (None, None))


@given(st.lists(FLOATS, min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=3))
def test_without_extremes_the_counts_are_the_same(values: list[float], cuts: list[int]) -> None:
    array = np.array(values, np.float32)
    found = profile(array, cuts, ProfileOptions(with_extremes=False))
    assert (found.low, found.num_nan) == (None, np.isnan(array).sum())
    assert found.num_infinite == np.isinf(array).sum()


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.none(), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=3),
)
def test_integers_are_counted_exactly_or_not_at_all(values: list[int | None], cuts: list[int]) -> None:
    found = profile(pa.array(values, pa.int64()), cuts, ProfileOptions(max_distinct=8))
    expected = Counter(value for value in values if value is not None)
    assert found.vocabulary is not None
    assert found.vocabulary.counts == (expected if len(expected) <= 8 else None)
    assert (found.low, found.high) == ((min(expected), max(expected)) if expected else (None, None))


@given(st.lists(st.text(max_size=3) | st.none(), min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=3))
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_texts_are_counted_exactly_or_not_at_all(kind: pa.DataType, values: list[str | None], cuts: list[int]) -> None:
    found = profile(pa.array(values, pa.string()).cast(kind), cuts, ProfileOptions(max_distinct=8))
    expected = Counter(value for value in values if value is not None)
    assert found.vocabulary is not None
    assert found.vocabulary.counts == (expected if len(expected) <= 8 else None)


def test_a_text_that_is_not_valid_utf8_only_drops_the_vocabulary() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff")]
    )
    found = profile(broken, [], ProfileOptions(max_distinct=8))
    assert found.vocabulary is not None
    assert found.vocabulary.counts is None
    assert found.num_slots == 2


@pytest.mark.parametrize("length", [1, 100, sample_module.SAMPLE_SIZE])
def test_a_sample_of_few_values_holds_all_of_them(length: int) -> None:
    values = np.random.default_rng(0).standard_normal(length)
    found = Sample()
    for start in range(0, length, 1000):
        found.add(values[start : start + 1000], "float64", None, start)
    assert found.is_whole
    np.testing.assert_array_equal(found.values(), values)


@pytest.mark.parametrize("period", [1, 2, 64])
@pytest.mark.parametrize("part", [10_000, 1_000_000])
def test_a_sample_represents_all_parts_of_the_data_equally(period: int, part: int) -> None:
    """Even if the values have a period that a fixed stride would be in step with."""
    length = 1_000_000
    values = np.arange(length) % period + np.linspace(0, 0.5, length)
    found = Sample()
    for start in range(0, length, part):
        piece = Sample()
        piece.add(values[start : start + part], "float64", None, start)
        found.merge(piece)
    kept = found.values()
    assert sample_module.SAMPLE_SIZE / 4 < len(kept) <= sample_module.SAMPLE_SIZE
    quantiles = np.linspace(0.05, 0.95, 19)
    ranks = np.searchsorted(np.sort(values), np.quantile(kept, quantiles)) / length
    np.testing.assert_allclose(ranks, quantiles, atol=0.03)


def test_a_sample_leaves_out_nulls_and_non_finite_values() -> None:
    found = Sample()
    validity = np.array([True, True, True, False, True])
    found.add(np.array([1, np.nan, np.inf, 7, 2], np.float32), "float32", validity, 0)
    np.testing.assert_array_equal(found.values(), [1, 2])


def test_samples_are_deterministic() -> None:
    values = np.random.default_rng(1).standard_normal(200_000)
    units = [
        Batch((Column("x", values[start : start + 50_000]),), 50_000, start) for start in range(0, 200_000, 50_000)
    ]
    options = ProfileOptions(with_samples=True)
    once, again = ([profile_batches([unit], options).leaves["x", "float64"].sample for unit in units] for _ in range(2))
    for first, second in zip(once, again, strict=True):
        assert first is not None
        assert second is not None
        np.testing.assert_array_equal(first.values(), second.values())


# Hashes of rows


HASHES = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=40)


@given(HASHES, HASHES, st.sampled_from([8, 64, 1 << 20]), st.sampled_from([8, 64, 1 << 20]))
@settings(max_examples=60)
def test_matches_agree_with_a_dictionary_in_memory_and_on_disk(
    first: list[int], second: list[int], first_bytes: int, second_bytes: int
) -> None:
    places: dict[int, int] = {}
    for place, value in enumerate(first):
        places.setdefault(value, place)
    expected = [(place, places[value]) for place, value in enumerate(second) if value in places]
    with HashStore(first_bytes) as left, HashStore(second_bytes) as right:
        for store, values in ((left, first), (right, second)):
            for start in range(0, len(values), 7):
                store.add(np.array(values[start : start + 7], np.uint64))
        found = [
            pair for here, there in matches(left, right) for pair in zip(here.tolist(), there.tolist(), strict=True)
        ]
        assert sorted(found) == expected
        assert left.has_repeated() is (len(set(first)) < len(first))


def test_nothing_is_left_on_disk(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with HashStore(100) as store:
        store.add(np.arange(100, dtype=np.uint64))
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("column", "is_unique"),
    [
        (pa.array(range(2000)), True),
        (pa.array([*range(1999), 5]), False),
        (pa.array([*range(1999), None]), False),
        (pa.array([f"n{number}" for number in range(70_000)]), True),
        (pa.array([*(f"n{number}" for number in range(70_000)), "n0"]), False),
        (np.arange(70_000, dtype=np.uint16), False),
        (np.arange(100.0), False),
    ],
)
def test_a_column_is_unique_if_no_two_values_are_equal(column: Any, is_unique: bool) -> None:
    found: UnitProfile = profile_batches(
        batches_of(column, [300, 50_000]), ProfileOptions(max_distinct=50, find_unique=True)
    )
    parts = found.unique["x"]
    with HashStore() as store:
        for part in parts or ():
            store.add(part)
        assert (parts is not None and not store.has_repeated()) is is_unique


def test_whether_columns_are_unique_is_kept_of_so_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "_MAX_UNIQUE_BYTES", 8 * 250)
    columns = tuple(Column(name, pa.array(range(100))) for name in "abc")
    found = profile_batches([Batch(columns, 100)], ProfileOptions(find_unique=True)).unique
    assert {name for name, parts in found.items() if parts is not None} == {"a", "b"}


@pytest.mark.parametrize(("first", "last"), [(7e-310, 3e-312), (1.0, 3.0), (3.0, 1.0)])
def test_a_signalling_nan_hides_no_value(first: float, last: float) -> None:
    array = np.full(3, 0x7FF0000000000001, np.uint64).view(np.float64)
    array[0], array[2] = first, last
    found = profile(array, [], ProfileOptions())
    assert (found.num_nan, found.low, found.high) == (1, min(first, last), max(first, last))
