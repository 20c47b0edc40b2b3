"""Values written in the bits of a dtype, against NumPy and ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from datacheck.cleaning.values import dtype_family, encode, max_finite, next_value, round_inward
from datacheck.errors import CleaningError

FORMATS = ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]


@pytest.mark.parametrize("dtype", FORMATS[:-1])
def test_numbers_round_to_the_nearest_bits_as_ml_dtypes_rounds_them(dtype: str) -> None:
    storage = np.dtype(getattr(ml_dtypes, dtype))
    generator = np.random.default_rng(1)
    limit = np.log10(max_finite(dtype))
    numbers = 10.0 ** generator.uniform(-7, limit - 0.1, 2000) * generator.choice([-1, 1], 2000)
    # float32 first: ml_dtypes rounds a double twice.
    numbers = numbers.astype(np.float32).astype(np.float64)
    found = np.array([encode(number, dtype, "it") for number in numbers])
    wanted = numbers.astype(np.float32).astype(storage)
    np.testing.assert_array_equal(found.view(storage).astype(float), wanted.astype(float))


def test_powers_of_two_round_to_the_nearest_and_from_the_middle_to_the_even_exponent() -> None:
    bits = [int(encode(value, "float8_e8m0fnu", "it")) for value in (1.0, 1.4, 1.5, 1.6, 3.0, 6.0)]
    assert bits == [127, 127, 128, 128, 128, 130]


@pytest.mark.parametrize("dtype", [*FORMATS, "float16", "float32"])
def test_a_number_beyond_the_largest_is_an_error(dtype: str) -> None:
    largest = max_finite(dtype)
    assert encode(largest, dtype, "it") is not None
    with pytest.raises(CleaningError, match=f"it is .*, which is beyond the largest {dtype}"):
        encode(largest * 2, dtype, "it")


@pytest.mark.parametrize(("value", "dtype"), [(256, "uint8"), (-1, "uint8"), (0.5, "int64"), (2**63, "int64")])
def test_an_integer_is_never_rounded(value: float, dtype: str) -> None:
    with pytest.raises(CleaningError, match=f"which {dtype} cannot hold"):
        encode(value, dtype, "it")


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16", "float32", "float64"])
def test_neighbours_are_those_that_numpy_names(dtype: str) -> None:
    storage = np.dtype(getattr(ml_dtypes, dtype, dtype))
    for value in (0.0, 1.0, -1.0, 1.5, 224.0, -0.0078125):
        scalar = storage.type(value)
        assert next_value(value, dtype, up=True) == float(np.nextafter(scalar, storage.type(240)))
        assert next_value(value, dtype, up=False) == float(np.nextafter(scalar, storage.type(-240)))


def test_neighbours_of_integers() -> None:
    assert [next_value(5, "int8", up=True), next_value(5.5, "int8", up=True), next_value(-5.5, "int8", up=True)] == [
        6,
        6,
        -5,
    ]
    assert [next_value(5, "int8", up=False), next_value(5.5, "int8", up=False)] == [4, 5]


def test_bounds_of_narrow_formats_go_inward() -> None:
    assert round_inward(0.1, "float8_e4m3fn", up=True) == 0.1015625
    assert round_inward(0.1, "float8_e4m3fn", up=False) == 0.09375
    assert round_inward(0.25, "bfloat16", up=True) == round_inward(0.25, "bfloat16", up=False) == 0.25
    assert round_inward(1e9, "float8_e4m3fn", up=False) == 1e9


@pytest.mark.parametrize(
    ("dtype", "family"),
    [
        ("float16", "float"),
        ("double", "float"),
        ("bfloat16", "float"),
        ("float8_e5m2", "float"),
        ("float128", "other"),
        ("complex64", "complex"),
        ("uint64", "int"),
        ("bool", "bool"),
        ("large_string", "string"),
        ("list<float32>", "container"),
        ("fixed_size_list<item: float>[3]", "container"),
        ("map<string, float>", "container"),
        ("timestamp[us]", "other"),
        ("decimal128(5, 2)", "other"),
        ("interval", "other"),
    ],
)
def test_every_dtype_has_a_family(dtype: str, family: str) -> None:
    assert dtype_family(dtype) == family
