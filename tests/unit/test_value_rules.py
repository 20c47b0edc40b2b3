"""Rules on values match NumPy for numbers and Arrow for the rest; a rule that does not fit is a finding."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import datacheck
from datacheck.findings import Finding


def findings(data: Any, field: dict[str, Any]) -> dict[str, Finding]:
    report = datacheck.scan(data, {"fields": {"x": {"nullable": True, **field}}})
    return {finding.code: finding for finding in report.findings}


def counts(data: Any, field: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {code: (found.num_violations, found.num_checked) for code, found in findings(data, field).items()}


FLOATS = hnp.arrays(
    st.sampled_from(["<f2", "<f4", "<f8", ">f4"]),
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    elements=st.sampled_from([0.0, -0.0, 1.0, -2.5, 7.0, float("nan"), float("inf"), float("-inf")]),
)


@given(FLOATS, st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_counts_match_numpy(array: np.ndarray, allow_nan: bool, allow_inf: bool) -> None:
    field = {"ge": -1, "lt": 7, "allow_nan": allow_nan, "allow_inf": allow_inf}
    judged = ~np.isinf(array) if allow_inf else np.ones(array.shape, bool)
    oracle = {
        "DC101": 0 if allow_nan else np.isnan(array).sum(),
        "DC102": 0 if allow_inf else (array == np.inf).sum(),
        "DC103": 0 if allow_inf else (array == -np.inf).sum(),
        "DC201": ((array < -1) & judged).sum(),
        "DC204": ((array >= 7) & judged).sum(),
    }
    expected = {code: (int(number), array.size) for code, number in oracle.items() if number}
    assert counts(array, field) == expected


@given(FLOATS)
@settings(max_examples=80, deadline=None)
def test_every_example_is_a_violation(array: np.ndarray) -> None:
    report = datacheck.scan(np.asfortranarray(array))
    for finding in report.findings:
        for example in finding.examples:
            assert repr(float(array[(example.row, *example.index)])) == example.value


def test_a_float32_value_equal_to_its_bound_in_float32_passes() -> None:
    tenth = np.array([0.1], np.float32)
    assert counts(tenth, {"ge": 0.1, "le": 0.1}) == {}
    assert counts(tenth.astype(np.float16), {"ge": 0.1, "le": 0.1}) == {}


def test_bfloat16_stored_as_uint16_is_read_with_the_dtype_of_the_schema() -> None:
    bits = np.array([0x3F80, 0x7FC0, 0x7F80, 0xFF80], np.uint16)
    assert counts(bits, {}) == {}
    assert counts(bits, {"dtype": "bfloat16", "ge": 0}) == {
        "DC101": (1, 4),
        "DC102": (1, 4),
        "DC103": (1, 4),
        "DC201": (1, 4),
    }


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        (pa.array(["a", "b", None]), {"isin": ["a"]}, {"DC205": (1, 2)}),
        (pa.array(["a", "b", None], pa.string_view()), {"isin": ["a"]}, {"DC205": (1, 2)}),
        (pa.array(["a", "b", None]).dictionary_encode(), {"str_matches": "a"}, {"DC206": (1, 2)}),
        (pa.array(["ab", "ba"]), {"str_matches": "(?=a)a"}, {"DC206": (1, 2)}),
        (pa.array(["xa"]), {"str_matches": "a"}, {"DC206": (1, 1)}),
        (pa.array([1, 2, None]), {"isin": [1]}, {"DC205": (1, 2)}),
        (pa.array([True, False]), {"isin": [True]}, {"DC205": (1, 2)}),
        (pa.array([Decimal("1.10"), None]), {"ge": 2}, {"DC201": (1, 1)}),
        (pa.array([datetime.date(2020, 1, 1)]), {"ge": "2021-01-01"}, {"DC201": (1, 1)}),
        (pa.array([datetime.time(9, 30)]), {"le": "09:00"}, {"DC202": (1, 1)}),
        (pa.array([[1, 2], [1], None]), {"shape": [2]}, {"DC004": (1, 2)}),
    ],
)
def test_rules_apply_to_columns_of_other_dtypes(
    values: pa.Array, field: dict[str, Any], expected: dict[str, tuple[int, int]]
) -> None:
    assert counts(pa.table({"x": values}), field) == expected


@pytest.mark.parametrize(
    ("values", "field", "problem"),
    [
        (pa.array([1, 2]), {"ge": "2020-01-01"}, "is not a number"),
        (pa.array([1, 2]), {"isin": ["a"]}, "is not a number"),
        (pa.array([1, 2]), {"isin": [True]}, "is not a number"),
        (pa.array([1, 2]), {"str_matches": "a"}, "not strings"),
        (pa.array([True]), {"ge": 0}, "no bounds"),
        (pa.array(["a"]), {"ge": 5}, "is not a string"),
        (pa.array([datetime.datetime(2020, 1, 1)]), {"ge": "1.5"}, "not a time"),
    ],
)
def test_a_rule_that_does_not_fit_the_values_is_a_finding(
    values: pa.Array, field: dict[str, Any], problem: str
) -> None:
    found = findings(pa.table({"x": values}), field)
    assert list(found) == ["DC005"]
    assert problem in found["DC005"].detail
    assert not datacheck.scan(pa.table({"x": values}), {"fields": {"x": field}}).ok


def test_nulls_are_counted_over_all_values_and_the_rest_over_present_values() -> None:
    table = pa.table({"x": pa.array([1.0, None, float("nan"), -1.0])})
    report = datacheck.scan(table, {"fields": {"x": {"ge": 0}}})
    assert {f.code: (f.num_violations, f.num_checked) for f in report.findings} == {
        "DC101": (1, 3),
        "DC104": (1, 4),
        "DC201": (1, 3),
    }
