"""Bounds as Arrow scalars."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from datacheck.schema.scalars import arrow_scalar

UTC = datetime.UTC


@pytest.mark.parametrize(
    ("value", "arrow_type", "means"),
    [
        ("2024-01-31", pa.timestamp("us"), datetime.datetime(2024, 1, 31)),
        ("2024-01-31T12:30:00.5", pa.timestamp("ms"), datetime.datetime(2024, 1, 31, 12, 30, 0, 500_000)),
        ("2024-01-31T12:30+01:00", pa.timestamp("s", "UTC"), datetime.datetime(2024, 1, 31, 11, 30, tzinfo=UTC)),
        ("2024-01-31 12:30:00-0130", pa.timestamp("s", "UTC"), datetime.datetime(2024, 1, 31, 14, 0, tzinfo=UTC)),
        ("0001-01-01", pa.timestamp("us"), datetime.datetime(1, 1, 1)),
        ("2024-01-31", pa.date32(), datetime.date(2024, 1, 31)),
        ("1960-02-29", pa.date64(), datetime.date(1960, 2, 29)),
        ("12:30", pa.time32("s"), datetime.time(12, 30)),
        ("12:30:00.25", pa.time64("us"), datetime.time(12, 30, 0, 250_000)),
        (90, pa.duration("s"), datetime.timedelta(seconds=90)),
        ("90", pa.duration("ms"), datetime.timedelta(milliseconds=90)),
        ("1.10", pa.decimal128(5, 2), Decimal("1.10")),
        (0.1, pa.decimal128(5, 2), Decimal("0.1")),
        ("a", pa.large_string(), "a"),
        (True, pa.bool_(), True),
        (3, pa.int8(), 3),
        ("1e3", pa.int64(), 1000),
        (2**64 - 1, pa.uint64(), 2**64 - 1),
        (10**30, pa.int64(), 1e30),
        (0.5, pa.float32(), 0.5),
    ],
    ids=str,
)
def test_a_value_becomes_a_scalar_of_the_type(value: Any, arrow_type: pa.DataType, means: Any) -> None:
    scalar = arrow_scalar(value, arrow_type)
    assert scalar.as_py() == means
    assert pc.equal(pa.array([None], arrow_type), scalar).to_pylist() == [None]


@pytest.mark.parametrize(
    ("value", "arrow_type", "problem"),
    [
        ("soon", pa.timestamp("us"), "not a time in ISO form"),
        (3, pa.timestamp("us"), "not a time in ISO form"),
        ("2024-01-31T00:00Z", pa.timestamp("us"), "leave the offset out"),
        ("2024-01-31", pa.timestamp("us", "UTC"), "add an offset"),
        ("2024-01-31T00:00:00.5", pa.timestamp("s"), "more precise than"),
        ("2024-01-31T10:00", pa.date32(), "more precise than"),
        ("25:00", pa.time32("s"), "not a time in ISO form"),
        (0.5, pa.duration("s"), "not an integer"),
        ("x", pa.int64(), "is not a number"),
        ("nan", pa.float32(), "is not a number"),
        (True, pa.int64(), "is not a number"),
        (3, pa.string(), "is not a string"),
        (1, pa.bool_(), "not true or false"),
        (1, pa.list_(pa.int8()), "cannot be compared"),
        ("a", pa.binary(), "the values are bytes, .* the field image.distinct has the pixels of images that are masks"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_says_why(value: Any, arrow_type: pa.DataType, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        arrow_scalar(value, arrow_type)
