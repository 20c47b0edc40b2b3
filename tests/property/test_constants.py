"""A constant of a schema compares as a value of the dtype of the data, in every place where a schema has constants."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st

from datacheck.batch import Batch, Column
from datacheck.checks.checker import Checker, RuleSet
from datacheck.cleaning.values import encode, max_finite
from datacheck.leaves import FLOAT_FORMATS
from datacheck.numerics import to_float
from datacheck.schema.model import Schema
from datacheck.schema.rounding import round_float

few = settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate])

NARROW = ("float16", "float32", *FLOAT_FORMATS)
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
WORDS = ("ge", "le", "gt", "lt")
LONG_NAMES = {
    "ge": "greater_than_or_equal_to",
    "le": "less_than_or_equal_to",
    "gt": "greater_than",
    "lt": "less_than",
}


def broken_rows(values: Any, dtype: str | None, **rules: Any) -> list[int]:
    """The rows of a column that violate a field's rules, or an expression over the column, ``x``."""
    expression = rules.pop("expr", None)
    # Only fields of numbers take constants that are numbers, and may hold NaN.
    is_number = dtype is not None
    field = {"nullable": True, **({"allow_nan": True, "allow_inf": True} if is_number else {}), **rules}
    if dtype in FLOAT_FORMATS:
        field["dtype"] = dtype
    schema = Schema(fields={"x": field}, checks=[{"expr": expression}] if expression else [])
    outcomes = Checker(RuleSet(schema), with_rows=True).check(Batch((Column("x", values),), len(values)))
    found = {outcome.code: outcome for outcome in outcomes if outcome.num_violations}
    assert "DC005" not in found, found["DC005"].detail
    assert not any(outcome.rows is None for outcome in found.values()), found
    return sorted({int(row) for outcome in found.values() if outcome.rows is not None for row in outcome.rows})


def assert_everywhere(values: Any, dtype: str | None, constant: Any, below: list[bool], equal: list[bool]) -> None:
    """Every way to compare the values with the constant agrees with where they are below it and equal to it."""
    above = [not (low or same) for low, same in zip(below, equal, strict=True)]
    broken = {
        "ge": below,
        "le": above,
        "gt": [low or same for low, same in zip(below, equal, strict=True)],
        "lt": [high or same for high, same in zip(above, equal, strict=True)],
        "ne": equal,
        "eq": [not same for same in equal],
    }
    expected = {word: [row for row, is_broken in enumerate(rows) if is_broken] for word, rows in broken.items()}
    for word in WORDS:
        assert broken_rows(values, dtype, **{word: constant}) == expected[word], word
        assert broken_rows(values, dtype, checks={LONG_NAMES[word]: constant}) == expected[word], word
    assert broken_rows(values, dtype, isin=[constant]) == expected["eq"]
    for name, word in (("isin", "eq"), ("equal_to", "eq"), ("notin", "ne"), ("not_equal_to", "ne")):
        given = [constant] if name.endswith("in") else constant
        assert broken_rows(values, dtype, checks={name: given}) == expected[word], name
    for symbol, word in ((">=", "ge"), ("<=", "le"), (">", "gt"), ("<", "lt"), ("==", "eq"), ("!=", "ne")):
        assert broken_rows(values, dtype, expr=f"x {symbol} {constant!r}") == expected[word], symbol
    assert broken_rows(values, dtype, expr=f"x in [{constant!r}]") == expected["eq"]


def with_neighbours(dtype: str, constant: float) -> np.ndarray[Any, Any]:
    """The value of the dtype nearest to the constant, and those beside it, as they are stored."""
    nearest = encode(constant, dtype, "the constant")
    if dtype not in FLOAT_FORMATS:
        return np.array([nearest, np.nextafter(nearest, nearest.dtype.type(1)), -nearest, 0], nearest.dtype)
    bits = int(nearest)
    last = np.iinfo(FLOAT_FORMATS[dtype]).max
    stored = np.array([bits, max(bits - 1, 0), min(bits + 1, last)], FLOAT_FORMATS[dtype])
    return stored[np.isfinite(to_float(stored, dtype))]


@pytest.mark.parametrize("dtype", ["float64", *NARROW])
@few
@given(constant=st.floats(-1000, 1000) | st.floats(-1e-6, 1e-6) | st.floats(-1e300, 1e300))
@example(constant=-999.99)
@example(constant=0.1)
def test_floats(dtype: str, constant: float) -> None:
    constant = max(-max_finite(dtype) / 4, min(max_finite(dtype) / 4, constant))
    if dtype == "float8_e8m0fnu":
        constant = max(2.0**-127, abs(constant))
    values = with_neighbours(dtype, constant)
    read = to_float(values, dtype).astype(np.float64)
    rounded = float(to_float(np.array([encode(constant, dtype, "it")], values.dtype), dtype)[0])
    assert_everywhere(values, dtype, constant, (read < rounded).tolist(), (read == rounded).tolist())


# Powers of two alone have ties at 3, 6, ..., which the formats break in different ways.
@pytest.mark.parametrize("dtype", [dtype for dtype in NARROW if dtype != "float8_e8m0fnu"])
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_agrees_with_the_formats(dtype: str, value: float) -> None:
    assume(abs(value) <= max_finite(dtype))
    stored = np.array([encode(value, dtype, "it")]).astype(FLOAT_FORMATS.get(dtype, dtype))
    assert round_float(value, dtype) == float(to_float(stored, dtype)[0])


@pytest.mark.parametrize("dtype", INTEGERS)
@few
@given(data=st.data())
def test_integers(dtype: str, data: st.DataObject) -> None:
    limits = np.iinfo(dtype)
    edges = [n for n in (0, 2**53 + 1, 2**53, 2**63 - 1, 2**64 - 1) if n <= limits.max]
    inside = st.integers(int(limits.min), int(limits.max)) | st.sampled_from(edges)
    rows = data.draw(st.lists(inside, min_size=1, max_size=4))
    beside = st.sampled_from(rows).flatmap(lambda n: st.sampled_from([n, n + 1, float(n), n + 0.5, -n]))
    constant = data.draw(beside)
    values = np.array(rows, dtype)
    assert_everywhere(values, dtype, constant, [n < constant for n in rows], [n == constant for n in rows])


@few
@given(
    rows=st.lists(st.decimals(-(10**7), 10**7, places=2), min_size=1, max_size=4),
    beside=st.sampled_from([Decimal(0), Decimal("0.01"), Decimal("-0.01"), Decimal("0.001")]),
    kind=st.sampled_from([pa.decimal128(9, 2), pa.decimal128(38, 2), pa.decimal256(60, 2), pa.decimal64(12, 2)]),
)
def test_decimals(rows: list[Decimal], beside: Decimal, kind: pa.DataType) -> None:
    constant = float(rows[0] + beside)
    exact = Decimal(repr(constant))
    below, equal = [row < exact for row in rows], [row == exact for row in rows]
    assert_everywhere(pa.array(rows, kind), None, constant, below, equal)


def test_long_decimals_are_compared_digit_by_digit() -> None:
    rows = [Decimal(10**20), Decimal(10**20 + 1)]
    values = pa.array(rows, pa.decimal128(38, 0))
    assert broken_rows(values, None, isin=[10**20]) == broken_rows(values, None, expr="x == 1e20") == [1]
    assert broken_rows(values, None, le=10**20) == broken_rows(values, None, expr="x <= 1e20") == [1]
    assert broken_rows(values, None, checks={"notin": [10**20]}) == [0]


@few
@given(
    rows=st.lists(
        st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)).map(
            lambda t: t.replace(microsecond=0)
        ),
        min_size=1,
        max_size=4,
    ),
    seconds=st.sampled_from([0, 1, -1]),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_times(rows: list[datetime.datetime], seconds: int, unit: str) -> None:
    constant = rows[0] + datetime.timedelta(seconds=seconds)
    below, equal = [row < constant for row in rows], [row == constant for row in rows]
    assert_everywhere(pa.array(rows, pa.timestamp(unit)), None, constant.isoformat(), below, equal)
