"""Distances of distributions, against SciPy's own functions and plain formulas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from datacheck.profile.compare.drift import category_drift, number_drift, rate_chance
from datacheck.profile.sample import SAMPLE_SIZE, Sample

NUMBERS = st.lists(st.integers(-3, 3).map(float) | st.floats(-1e300, 1e300), min_size=1, max_size=60)


@given(NUMBERS, NUMBERS)
@settings(max_examples=200)
def test_the_ks_statistic_is_the_largest_distance_of_the_distributions(train: list[float], other: list[float]) -> None:
    found = number_drift(np.array(train), np.array(other))
    first, second = np.array(train), np.array(other)
    assert found.ks == pytest.approx(max(abs((first <= x).mean() - (second <= x).mean()) for x in [*train, *other]))
    assert 0 <= found.ks_chance <= 1


@pytest.mark.parametrize("decimals", [1, 9])
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.3])
def test_statistic_and_p_value_agree_with_scipy_for_many_values(shift: float, decimals: int) -> None:
    from scipy.stats import ks_2samp

    random = np.random.default_rng(3)
    train, other = random.standard_normal(4000).round(decimals), (random.standard_normal(3000) + shift).round(decimals)
    expected, found = ks_2samp(train, other, method="asymp"), number_drift(train, other)
    assert found.ks == pytest.approx(expected.statistic, abs=1e-12)
    assert found.ks_chance == pytest.approx(expected.pvalue, rel=0.35, abs=1e-12)


def test_the_stability_index_is_the_formula_over_deciles() -> None:
    random = np.random.default_rng(0)
    train, other = random.standard_normal(10_000), random.standard_normal(10_000) + 0.5
    edges = np.quantile(train, np.arange(1, 10) / 10, method="inverted_cdf")
    p, q = (np.bincount(np.searchsorted(edges, values), minlength=10) / len(values) for values in (train, other))
    found = number_drift(train, other)
    assert found.psi == pytest.approx(np.sum((q - p) * np.log(q / p)), rel=1e-9)
    assert found.psi == pytest.approx(0.25, abs=0.05)  # of two normal distributions half a deviation apart
    assert found.psi_chance < 1e-9


def sampled(values: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The sample of values that come in batches and units, as they do from files."""
    whole = Sample()
    for start in range(0, len(values), 250_000):
        part = Sample()
        for first in range(start, min(start + 250_000, len(values)), 50_000):
            part.add(values[first : first + 50_000], "float32", None, first)
        whole.merge(part)
    return whole.values()


@pytest.mark.parametrize("order", ["random", "sorted", "periodic"])
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3, 0.6])
def test_samples_give_the_drift_of_all_values_to_within_a_few_hundredths(shift: float, order: str) -> None:
    """That is far below the limits of 0.2 and 0.25, so no drift is missed and none reported falsely."""
    random = np.random.default_rng(5)
    train, other = (random.standard_normal(1_000_000, np.float32) for _ in range(2))
    other += np.float32(shift)
    if order == "sorted":
        train.sort()
    elif order == "periodic":
        other = np.sort(other).reshape(100, -1).T.reshape(-1)
    exact, found = number_drift(train, other), number_drift(sampled(train), sampled(other))
    assert SAMPLE_SIZE / 2 < min(found.sizes) <= max(found.sizes) <= SAMPLE_SIZE
    assert found.ks == pytest.approx(exact.ks, abs=0.03)
    assert found.psi == pytest.approx(exact.psi, abs=0.015 + 0.15 * exact.psi)
    assert (found.ks_chance < 0.001) is (shift > 0)


def test_each_of_a_few_values_is_a_bin_so_that_a_new_value_between_them_counts() -> None:
    train = np.repeat([0.0, 1.0], 500)
    assert number_drift(train, np.repeat([0.0, 1.0], 300)).psi == pytest.approx(0, abs=1e-12)
    assert number_drift(train, np.repeat([0.0, 0.5, 1.0], 300)).psi > 1
    assert number_drift(np.zeros(1000), np.ones(1000)).psi > 1
    assert number_drift(np.zeros(1000), -np.ones(1000)).psi > 1


@pytest.mark.parametrize("size", [5, 20, 100])
def test_differences_of_few_rows_are_not_significant(size: int) -> None:
    """Even if the statistic is large."""
    random = np.random.default_rng(7)
    found = [number_drift(random.standard_normal(size), random.standard_normal(size)) for _ in range(50)]
    assert min(drift.ks_chance for drift in found) > 1e-3
    assert min(drift.psi_chance for drift in found) > 1e-3
    assert max(drift.psi for drift in found) > 0.1


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1), st.data())
def test_the_distance_of_categories_agrees_with_scipy(train: dict[str, int], data: st.DataObject) -> None:
    from scipy.spatial.distance import jensenshannon

    other = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1))
    found = category_drift(train, other)
    names = "abcdef"
    expected = jensenshannon([train.get(n, 0) for n in names], [other.get(n, 0) for n in names], base=2)
    assert found.distance == pytest.approx(np.nan_to_num(expected), abs=1e-7)
    assert 0 <= found.distance <= 1
    shares = {
        n: (train.get(n, 0) / sum(train.values()), other.get(n, 0) / sum(other.values())) for n in {*train, *other}
    }
    assert (found.train_share, found.other_share) == pytest.approx(shares[found.category])
    assert abs(found.train_share - found.other_share) == pytest.approx(max(abs(a - b) for a, b in shares.values()))


def test_rates_of_few_values_are_not_significant() -> None:
    assert rate_chance((0, 5), (1, 5)) > 0.1
    assert rate_chance((0, 5000), (1000, 5000)) < 1e-9
    assert rate_chance((7, 7), (9, 9)) == 1.0


def test_without_scipy_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['scipy'] = None\n"
        "import datacheck, numpy\n"
        "data = numpy.arange(20.0).reshape(10, 2)\n"
        "print([finding.code for finding in datacheck.compare(data, data, drift=False).findings])\n"
        "try: datacheck.compare(data, data)\n"
        "except datacheck.DatacheckError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "['DC310']"
    assert "pip install 'datacheck-ml[compare]'" in done.stdout
