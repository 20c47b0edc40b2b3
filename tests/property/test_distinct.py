"""The different values are those of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datacheck.distinct import distinct

DTYPES = ["bool", "int8", "uint16", "int64", "uint64", "float32", "float64"]


@given(hnp.arrays(st.sampled_from(DTYPES), st.integers(0, 30), elements={"allow_nan": False}), st.booleans())
def test_they_are_sorted_and_each_is_there_once(values: np.ndarray[Any, Any], is_sorted: bool) -> None:
    values = np.sort(values) if is_sorted else values
    before = values.copy()
    found = distinct(values)
    np.testing.assert_array_equal(found, np.unique(values), strict=True)
    np.testing.assert_array_equal(values, before)
