"""A field that may be converted: what is lost, or hidden, in the conversion is a wrong dtype, never a pass."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import datacheck
from datacheck import Schema

NAN = float("nan")


def codes(data: object, dtype: str) -> list[str]:
    schema = Schema(fields={"x": {"dtype": dtype, "coerce": True, "nullable": True}})
    return [finding.code for finding in datacheck.scan(data, schema).findings]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param(pa.array([1.0, NAN]), "bool", id="NaN is true, says Arrow"),
        pytest.param(pa.array([1.0, NAN]), "string", id="NaN becomes a word"),
        pytest.param(pa.array([1.0, NAN]).dictionary_encode(), "string", id="NaN in a dictionary"),
        pytest.param(pa.array([1.0, NAN]), "int32", id="NaN has no integer"),
        pytest.param(pa.array([0.0, 0.5]), "bool", id="a half is true, says Arrow"),
        pytest.param(pa.array([0, 2]), "bool", id="two is true, says Arrow"),
        pytest.param(pa.array([1_500], pa.timestamp("ms")), "date32", id="the time of a day"),
        pytest.param(pa.array([1_500], pa.timestamp("ms")), "timestamp[s]", id="a part of a second"),
        pytest.param(pa.array([1e300]), "float32", id="beyond the largest float32"),
        pytest.param(pa.array([99_999_999]), "float16", id="beyond the largest float16"),
        pytest.param(pa.array([2**53 + 1]), "float64", id="a whole number that float64 lacks"),
    ],
)
def test_a_column_that_would_lose_something_keeps_its_dtype(values: pa.Array, dtype: str) -> None:
    assert "DC003" in codes(pa.table({"x": values}), dtype)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param([2**53 + 1], "float64", id="a whole number that float64 lacks"),
        pytest.param([2**24 + 1], "float32", id="a whole number that float32 lacks"),
        pytest.param([2**53 + 1], "complex128", id="a whole number that complex lacks"),
        pytest.param([2.0**63], "int64", id="one beyond the largest int64"),
        pytest.param([2.0**64], "uint64", id="one beyond the largest uint64"),
        pytest.param([-1], "uint8", id="below zero"),
        pytest.param([1.0, NAN], "bool", id="NaN"),
        pytest.param([1.0, NAN], "decimal128(10, 2)", id="a dtype that NumPy lacks"),
    ],
)
def test_an_array_that_would_lose_something_keeps_its_dtype(values: list[Any], dtype: str) -> None:
    assert "DC003" in codes({"x": np.array(values)}, dtype)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pa.array([0.1, None]), "float32"),
        (pa.array([1.0, 2.0]), "int8"),
        (pa.array([0, 1, None]), "bool"),
        (pa.array([1, None]), "string"),
        (pa.array(["1.50", None]), "float64"),
        (pa.array([Decimal("1.00"), None]), "int32"),
        (pa.array([86_400_000], pa.timestamp("ms")), "date32"),
        (pa.array(["a", "b"]).dictionary_encode(), "string"),
        (pa.array([], pa.float64()), "float16"),
        (pa.nulls(3, pa.float64()), "int32"),
    ],
)
def test_a_column_whose_values_all_survive_is_accepted(values: pa.Array, dtype: str) -> None:
    assert codes(pa.table({"x": values}), dtype) in ([], ["DC306"])


@pytest.mark.parametrize(
    "values",
    [
        np.array([2.0**53 + 2, 1.0]),
        np.array([2.0**24 + 2, 1.0], np.float32),
        pa.array([169298433216610305.0, 1.0]),
        pa.array([-(2.0**60), 1.0]),
    ],
    ids=str,
)
def test_a_float_that_stands_for_several_integers_is_none(values: Any) -> None:
    data = {"x": values} if isinstance(values, np.ndarray) else pa.table({"x": values})
    (finding,) = datacheck.scan(data, Schema(fields={"x": {"dtype": "int64", "coerce": True}})).findings
    assert (finding.code, finding.num_violations, [example.row for example in finding.examples]) == ("DC003", 1, [0])


@pytest.mark.parametrize(
    ("values", "dtype"), [([0.1], "float32"), ([2.0**53], "int64"), ([2**53], "float64"), ([], "int8")]
)
def test_an_array_whose_values_all_survive_is_accepted(values: list[Any], dtype: str) -> None:
    assert codes({"x": np.array(values)}, dtype) in ([], ["DC306"])
