"""Where many values are bad, counts, rows, examples and their spread are those of NumPy, whatever path counted them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.checks.rules import _any_in_rows
from datacheck.row_spread import RowSpread

_KINDS = {"DC101": np.isnan, "DC102": np.isposinf, "DC103": np.isneginf}


def _expect(values: np.ndarray, report: datacheck.Report) -> None:
    found = {finding.code: finding for finding in report.findings}
    for code, select in _KINDS.items():
        mask = select(values)
        if not mask.any():
            assert code not in found
            continue
        rows = np.flatnonzero(mask.reshape(len(values), -1).any(axis=1))
        per_row = np.repeat(np.arange(len(values)), mask.reshape(len(values), -1).sum(axis=1))
        finding = found[code]
        assert finding.num_violations == np.count_nonzero(mask)
        assert finding.num_rows == len(rows)
        assert finding.spread == RowSpread.of(per_row).over(len(values))
        first = np.argwhere(mask)[: len(finding.examples)].tolist()
        assert [[example.row, *example.index] for example in finding.examples] == first


@pytest.mark.parametrize("width", [2, 4, 8, 16, 24, 40, 48, 64, 100, 128, 2032, 2040, 2048, 4096, 8192])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_rows_with_a_violation_are_those_of_numpy(width: int, share: float) -> None:
    mask = np.random.default_rng(width).random(5 * width + 1) < share
    # A mask may begin anywhere in memory.
    for part in (mask[:-1], mask[1:]):
        assert _any_in_rows(part, width).tolist() == part.reshape(-1, width).any(axis=1).tolist()


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from(["float32", "float64", ">f4", "float16"]),
    width=st.sampled_from([1, 2, 3, 4, 8, 16, 24, 64, 100, 127, 128, 300, 1000, 2048]),
    shares=st.lists(st.sampled_from([0.0, 0.0005, 0.01, 0.4, 1.0]), min_size=1, max_size=4),
    infinite=st.sampled_from([0.0, 0.001, 0.3]),
    flat=st.booleans(),
    order=st.sampled_from("CF"),
    seed=st.integers(0, 2**32 - 1),
)
def test_counts_rows_and_spread_of_many_bad_values(
    dtype: str, width: int, shares: list[float], infinite: float, flat: bool, order: Literal["C", "F"], seed: int
) -> None:
    random = np.random.default_rng(seed)
    parts = []
    for share in shares:
        part = random.standard_normal((max(1, 150_000 // width), width))
        bad = random.random(part.shape) < share
        part[bad] = random.choice([np.nan, np.inf, -np.inf], bad.sum(), p=[1 - infinite, infinite / 2, infinite / 2])
        parts.append(part)
    values = np.concatenate(parts)
    with np.errstate(all="ignore"):
        values = values.astype(dtype)
    values = values.ravel() if flat or width == 1 else np.asarray(values, order=order)
    _expect(values, datacheck.scan(values, workers=1))


@pytest.mark.parametrize("start", [0, 2_000_000, 2_900_000])
def test_the_screen_comes_back_after_a_dense_part(start: int) -> None:
    values = np.zeros(3_500_000, np.float32)
    values[:1_500_000:7] = np.nan
    values[start] = np.inf
    _expect(values, datacheck.scan(values, workers=1))
