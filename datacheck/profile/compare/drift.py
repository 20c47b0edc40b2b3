"""Statistics of the distance between two distributions, from SciPy if it has them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.errors import UsageError

Array = np.ndarray[Any, Any]

#: Bins of the population stability index: quantiles of the training data.
NUM_BINS = 10
#: Up to this many distinct values, each is a bin of its own.
_FEW_VALUES = 20


@dataclass(frozen=True, slots=True)
class NumberDrift:
    """Population stability index and Kolmogorov-Smirnov statistic of two distributions of numbers."""

    psi: float
    ks: float
    train_median: float
    other_median: float
    table: Array
    sizes: tuple[int, int]

    @property
    def psi_chance(self) -> float:
        """The probability that two samples of one distribution fill the bins as differently."""
        return _chance(self.table)

    @property
    def ks_chance(self) -> float:
        """The probability that two samples of one distribution are as far apart, by the limit law.

        ``scipy.stats.ks_2samp`` is exact for few values, but takes ten times as long as everything else.
        """
        from scipy.stats import kstwobign

        first, second = self.sizes
        return float(kstwobign.sf(np.sqrt(first * second / (first + second)) * self.ks)) if self.ks else 1.0


@dataclass(frozen=True, slots=True)
class CategoryDrift:
    """Jensen-Shannon distance of two distributions of categories, and the category that changed most."""

    distance: float
    category: Any
    train_share: float
    other_share: float
    table: Array

    @property
    def chance(self) -> float:
        """The probability that two samples of one distribution differ as much."""
        return _chance(self.table)


def require_scipy() -> None:
    """Import the parts of SciPy in use; raises ``UsageError`` if it is not installed."""
    try:
        importlib.import_module("scipy.stats")
        importlib.import_module("scipy.spatial.distance")
    except ImportError:
        raise UsageError(
            "comparing distributions needs SciPy, which is not installed: pip install 'datacheck-ml[compare]'; "
            "without it, compare(drift=False) and --no-drift still find leaked rows, leaked keys and new categories"
        ) from None


def number_drift(train: Array, other: Array) -> NumberDrift:
    """The drift between two non-empty arrays of finite numbers."""
    train, other = np.sort(train), np.sort(other)
    table = np.stack(_binned(train, other))
    return NumberDrift(
        psi=_stability_index(table),
        ks=_largest_distance(train, other),
        train_median=_quantile(train, 0.5),
        other_median=_quantile(other, 0.5),
        table=table,
        sizes=(len(train), len(other)),
    )


def _largest_distance(train: Array, other: Array) -> float:
    """The two-sample Kolmogorov-Smirnov statistic of sorted values: the largest distance of their distributions.

    Between two training values only the other distribution grows, so the distance is largest at a training value or just
    below one.
    """
    upto = np.searchsorted(other, train, side="right")
    below = upto
    if (other[np.maximum(upto, 1) - 1] == train).any():
        below = np.searchsorted(other, train)
        # Among equal values, the last one counts all of them as at or below it, the first one none as below it.
        is_last = np.append(train[1:] != train[:-1], True)
        ends = np.flatnonzero(is_last)
        starts = np.append(0, ends[:-1] + 1)
        upto, below = upto[ends], below[ends]
    else:
        ends = starts = np.arange(len(train))
    at = np.abs((ends + 1) / len(train) - upto / len(other)).max()
    before = np.abs(starts / len(train) - below / len(other)).max()
    return float(max(at, before))


def _quantile(ordered: Array, quantile: float) -> float:
    """The least value with at least that share of the values at or below it."""
    return float(ordered[max(0, math.ceil(quantile * len(ordered)) - 1)])


def _binned(train: Array, other: Array) -> tuple[Array, Array]:
    """Count sorted values in bins derived from the training data.

    The bins are its distinct values and the gaps between them if these are few, otherwise its quantiles.
    """
    is_first = np.append(True, train[1:] != train[:-1])
    if np.count_nonzero(is_first) <= _FEW_VALUES:
        values = train[is_first]
        return _count_between(values, train, exact=True), _count_between(values, other, exact=True)
    edges = np.unique([_quantile(train, part / NUM_BINS) for part in range(1, NUM_BINS)])
    return _count_between(edges, train, exact=False), _count_between(edges, other, exact=False)


def _count_between(edges: Array, ordered: Array, *, exact: bool) -> Array:
    """Count the values in each bin up to and including an edge; with ``exact`` every edge is a bin of its own."""
    ends = np.searchsorted(ordered, edges, side="right")
    if exact:
        ends = np.stack([np.searchsorted(ordered, edges), ends], axis=1).reshape(-1)
    return np.diff(ends, prepend=0, append=len(ordered))


def _stability_index(table: Array) -> float:
    """The population stability index: the symmetrised relative entropy, with half a value in each empty bin."""
    table = table[:, table.sum(axis=0) > 0]
    counts = np.where(table == 0, 0.5, table)
    first, second = counts / counts.sum(axis=1, keepdims=True)
    return float(np.sum((second - first) * np.log(second / first)))


def _chance(table: Array) -> float:
    """The p-value of the chi-squared test that both rows of counts have one distribution."""
    from scipy.stats import chi2_contingency

    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    return float(chi2_contingency(table).pvalue)


def category_drift(train: Mapping[Any, int], other: Mapping[Any, int]) -> CategoryDrift:
    """The drift of categories between two non-empty mappings from category to count."""
    from scipy.spatial.distance import jensenshannon

    names = list(dict.fromkeys([*train, *other]))
    table = np.array([[counts.get(name, 0) for name in names] for counts in (train, other)], np.float64)
    shares = table / table.sum(axis=1, keepdims=True)
    most = int(np.argmax(np.abs(shares[1] - shares[0])))
    with np.errstate(invalid="ignore"):
        # Rounding can make a distance of zero slightly negative, and its square root NaN.
        distance = float(np.nan_to_num(jensenshannon(shares[0], shares[1], base=2)))
    return CategoryDrift(distance, names[most], float(shares[0, most]), float(shares[1, most]), table)


def rate_chance(train: tuple[int, int], other: tuple[int, int]) -> float:
    """The p-value of the test that two rates, each a count and a total, are equal."""
    return _chance(np.array([[number, total - number] for number, total in (train, other)]))
