"""Sums and sums of squares are exact, in however many parts; a screen of members never misses a value that is none."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datacheck.dataset_rules.member_screen import MemberScreen
from datacheck.exact_moments import ExactMoments

Array = np.ndarray[Any, Any]

DTYPES = ["bool", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
FINITE = {"allow_nan": False, "allow_infinity": False}


def check(values: Array, *, cut: int, squares: bool) -> None:
    found, rest = ExactMoments(squares=squares), ExactMoments(squares=squares)
    found.add(values[:cut])
    rest.add(values[cut:])
    found.merge(rest)
    exact = list(map(Fraction, values.tolist()))
    assert found.sum == sum(exact)
    if squares:
        assert found.sum_of_squares == sum(one * one for one in exact)


@settings(max_examples=200)
@given(st.data(), st.sampled_from(DTYPES), st.booleans())
def test_sums_are_those_of_fractions(data: st.DataObject, dtype: str, squares: bool) -> None:
    elements = FINITE if dtype.startswith("float") else None
    values = data.draw(hnp.arrays(dtype, st.integers(0, 60), elements=elements))
    check(values, cut=data.draw(st.integers(0, len(values))), squares=squares)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_many_blocks_of_extremes_are_exact(dtype: str) -> None:
    generator = np.random.default_rng(0)
    info: Any = np.finfo(dtype) if dtype.startswith("float") else None
    if dtype == "bool":
        special = [False, True]
    elif info is not None:
        special = [info.max, -info.max, info.smallest_subnormal, info.tiny, 1.0, 0.1, 0.0, -0.0]
    else:
        special = [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1]
    for number in (4096, 4097, 33_000):
        check(generator.choice(np.array(special, dtype), number), cut=number // 3, squares=True)
        if info is not None:
            check((1000 + generator.standard_normal(number)).astype(dtype), cut=0, squares=True)
            check(np.full(number, np.nextafter(info.dtype.type(2), info.dtype.type(1))), cut=0, squares=True)


@given(hnp.arrays(st.sampled_from(["float16", "float32", "float64"]), st.integers(0, 20)))
def test_only_finite_values_are_added(values: Array) -> None:
    found = ExactMoments(squares=True)
    is_finite = np.isfinite(values)
    assert found.add(values) is bool(is_finite.all())
    exact = list(map(Fraction, values[is_finite].tolist()))
    assert (found.sum, found.sum_of_squares) == (sum(exact), sum(one * one for one in exact))


@given(st.data(), st.sampled_from([one for one in DTYPES if one != "bool"]))
def test_the_screen_of_members_never_misses(data: st.DataObject, dtype: str) -> None:
    elements = FINITE if dtype.startswith("float") else None
    few = hnp.arrays(dtype, st.integers(1, 40), elements=elements).map(lambda one: np.unique(one + one.dtype.type(0)))
    members = data.draw(few)
    values = np.concatenate([data.draw(few), data.draw(hnp.arrays(dtype, 20, elements=st.sampled_from(list(members))))])
    outside = MemberScreen(members).outside(values + values.dtype.type(0))
    assert set(np.flatnonzero(~np.isin(values, members)).tolist()) <= set(outside.tolist())


def test_the_screen_knows_nearly_all_members() -> None:
    members = np.unique(np.random.default_rng(0).standard_normal(10_000))
    assert len(MemberScreen(members).outside(members)) < len(members) // 8
