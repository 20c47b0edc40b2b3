"""The screen never misses, and the exact masks agree with NumPy: over every dtype, layout, size and place."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datacheck import numerics
from datacheck.leaves import FLOAT_FORMATS, walk_array
from datacheck.numerics import BLOCK, CACHED_BLOCK, SCREEN_WIDTH, Bounds, suspicious

NUMPY_FLOATS = ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8", "<c8", "<c16", ">c8", ">c16", "longdouble"]
EDGES = sorted(
    {0, 1, 2, 7, SCREEN_WIDTH - 1, SCREEN_WIDTH, SCREEN_WIDTH + 1, CACHED_BLOCK, CACHED_BLOCK + 1, BLOCK - 1, BLOCK + 3}
)
BAD = [np.nan, np.inf, -np.inf]


def reference(bits: np.ndarray, dtype: str) -> np.ndarray:
    """What ml_dtypes says the bits of a narrow format mean."""
    return bits.view(getattr(ml_dtypes, dtype)).astype(np.float32)


def covered(parts: list[slice], length: int) -> np.ndarray:
    mask = np.zeros(length, bool)
    for part in parts:
        mask[part] = True
    return mask


@pytest.mark.parametrize("dtype", NUMPY_FLOATS)
@pytest.mark.parametrize("length", EDGES)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_at_either_end_and_in_the_middle_is_found(dtype: str, length: int, bad: float) -> None:
    for place in {0, length // 2, length - 1} if length else ():
        values = np.ones(length, dtype)
        values[place] = bad
        parts = list(suspicious(values, np.dtype(dtype).name))
        assert covered(parts, length)[place]


@pytest.mark.parametrize("dtype", NUMPY_FLOATS)
@pytest.mark.parametrize("length", EDGES)
def test_ordinary_values_trip_nothing(dtype: str, length: int) -> None:
    assert list(suspicious(np.linspace(-1e3, 1e3, length).astype(dtype), np.dtype(dtype).name)) == []


@given(
    st.sampled_from(["<f2", "<f4", "<f8", ">f4", "<c8"]),
    st.integers(1, 3 * SCREEN_WIDTH),
    st.lists(st.tuples(st.integers(0, 10**9), st.sampled_from(BAD)), max_size=8),
    st.sampled_from([1.0, -1e4, 3e38, 1e-45, 6e4]),
)
@settings(max_examples=150, deadline=None)
def test_everything_outside_the_suspicious_slices_is_finite(
    dtype: str, length: int, planted: list[tuple[int, float]], filler: float
) -> None:
    with np.errstate(over="ignore"):
        values = np.full(length, filler).astype(dtype)
    for place, bad in planted:
        values[place % length] = bad
    outside = ~covered(list(suspicious(values, values.dtype.name)), length)
    assert np.isfinite(values[outside]).all()


def test_an_infinity_is_not_cancelled_by_the_opposite_one() -> None:
    values = np.zeros(SCREEN_WIDTH, np.float32)
    values[3], values[4] = np.inf, -np.inf
    assert list(suspicious(values, "float32"))


def test_finite_values_that_overflow_the_screen_are_a_false_alarm_and_no_verdict() -> None:
    values = np.full(10, 3e38, np.float32)
    assert list(suspicious(values, "float32"))
    assert numerics.is_finite(values, "float32")


@pytest.mark.parametrize("dtype", [*FLOAT_FORMATS, "float16"])
def test_every_bit_pattern_of_a_narrow_format_means_what_ml_dtypes_says(dtype: str) -> None:
    storage = np.dtype(np.uint16) if dtype == "float16" else FLOAT_FORMATS[dtype]
    bits = np.arange(1 << (8 * storage.itemsize)).astype(storage)
    values = bits.view(np.float16) if dtype == "float16" else bits
    expected = values.astype(np.float32) if dtype == "float16" else reference(bits, dtype)
    np.testing.assert_array_equal(numerics.to_float(values, dtype), expected)
    np.testing.assert_array_equal(numerics.nan_mask(values, dtype), np.isnan(expected))
    np.testing.assert_array_equal(numerics.posinf_mask(values, dtype), expected == np.inf)
    np.testing.assert_array_equal(numerics.neginf_mask(values, dtype), expected == -np.inf)


@pytest.mark.parametrize("dtype", [*FLOAT_FORMATS, "float16"])
def test_the_screen_of_a_narrow_format_is_exact_for_every_bit_pattern(dtype: str) -> None:
    storage = np.dtype(np.uint16) if dtype == "float16" else FLOAT_FORMATS[dtype]
    for bits in np.unique(np.linspace(0, (1 << (8 * storage.itemsize)) - 1, 600).astype(storage)):
        raw = np.full(5, 0x3C if storage.itemsize == 1 else 0x3C00, storage)
        raw[2] = bits
        values = raw.view(np.float16) if dtype == "float16" else raw
        finite = bool(np.isfinite(numerics.to_float(values, dtype)).all())
        assert numerics.is_finite(values, dtype) == finite
        assert (list(suspicious(values, dtype)) == []) == finite


@given(
    st.sampled_from(["<f4", "<f8", ">f8", "<f2", "<i4", "<u8", "<i1"]),
    st.lists(st.sampled_from([-9.0, -1.0, 0.0, 0.5, 1.0, 3.0, 100.0, np.nan, np.inf, -np.inf]), max_size=40),
    st.builds(
        Bounds,
        ge=st.sampled_from([None, 0, -1.5]),
        le=st.sampled_from([None, 1, 50.0]),
        gt=st.sampled_from([None, -1]),
        lt=st.sampled_from([None, 100]),
    ),
)
@settings(max_examples=200, deadline=None)
def test_everything_outside_the_suspicious_slices_is_within_the_bounds(
    dtype: str, numbers: list[float], bounds: Bounds
) -> None:
    is_integer = np.dtype(dtype).kind in "iu"
    if is_integer:
        numbers = [abs(number) for number in numbers if np.isfinite(number)]
    values = np.array(numbers, dtype)
    outside = values[~covered(list(suspicious(values, values.dtype.name, bounds)), len(values))]
    if not is_integer:
        assert np.isfinite(outside).all()
    for word, broken in (("ge", np.less), ("le", np.greater), ("gt", np.less_equal), ("lt", np.greater_equal)):
        limit = getattr(bounds, word)
        if limit is not None:
            assert not broken(outside, limit).any()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (5,), (4, 3), (2, 3, 4)])
@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed", "big-endian", "masked"])
def test_a_position_in_memory_leads_back_to_the_row_and_the_index(shape: tuple[int, ...], layout: str) -> None:
    array = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)
    laid_out = {
        "C": lambda: array,
        "F": lambda: np.asfortranarray(array),
        "strided": lambda: np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
        "reversed": lambda: np.ascontiguousarray(array[::-1])[::-1] if array.ndim else array,
        "big-endian": lambda: array.astype(">f8"),
        "masked": lambda: np.ma.MaskedArray(array, mask=np.zeros(shape, bool)),
    }[layout]()
    (leaf,) = walk_array("x", laid_out)
    rows, index = leaf.locate(np.arange(len(leaf)))
    for position in range(len(leaf)):
        if shape:
            place = (int(rows[position]), *(int(digit) for digit in index[position]))
            assert array[place] == leaf.values[position]
        else:
            assert rows.tolist() == [0]
            assert index.shape == (1, 0)
