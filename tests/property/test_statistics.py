"""What the statistics guarantee: exact sums, exact medians within the bound, a rank error beyond it, whatever the split."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datacheck.batch import Batch, Column
from datacheck.cleaning.fit.accumulator import MemoryLimits
from datacheck.cleaning.fit.frequencies import Frequencies
from datacheck.cleaning.fit.learner import Learner
from datacheck.cleaning.fit.quantiles import SKETCH_RANK_ERROR, Quantiles
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import parse_plan
from datacheck.exact_sums import ExactSum
from datacheck.schema.model import Schema

Array = np.ndarray[Any, Any]

FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def finite_arrays(dtypes: st.SearchStrategy[Any] = FLOATS, **bounds: Any) -> st.SearchStrategy[Array]:
    return dtypes.flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=1, max_dims=1, min_side=1, max_side=200),
            elements={"allow_nan": False, "allow_infinity": False},
        )
    )


def exact_mean(values: Array) -> Fraction:
    ratios = (float(value).as_integer_ratio() for value in values)
    total = sum(numerator << (1075 - denominator.bit_length()) for numerator, denominator in ratios)
    return Fraction(total, len(values) << 1074)


def mean_of(*parts: Array) -> float:
    total = ExactSum()
    for part in parts:
        other = ExactSum()
        other.add(part)
        total.merge(pickle.loads(pickle.dumps(other)))
    return total.means([sum(map(len, parts))])[0]


@given(finite_arrays())
def test_a_mean_is_the_exact_mean_rounded_once(values: Array) -> None:
    assert mean_of(values) == float(exact_mean(values))


@given(finite_arrays(), st.randoms(use_true_random=False), st.integers(1, 8))
def test_a_mean_depends_neither_on_the_order_nor_on_the_parts(values: Array, random: Any, num_parts: int) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert mean_of(*np.array_split(shuffled, num_parts)) == mean_of(values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_means_agree_with_numpy(dtype: Any, scale: float) -> None:
    generator = np.random.default_rng(0)
    values = (scale * generator.standard_normal(300_007) + scale).astype(dtype)
    assert mean_of(values) == pytest.approx(np.mean(values, dtype=np.float64), rel=1e-12, abs=0)


ADVERSARIAL = {
    "cancellation": np.array([1e16, 1.0, -1e16] * 50_000),
    "cancellation of all but one": np.concatenate([np.array([1e300, -1e300] * 40_000), [2.0]]),
    "every exponent": np.ldexp(1.0, np.arange(-1074, 1024).repeat(40)),
    "largest": np.full(70_000, np.finfo(np.float64).max),
    "smallest": np.full(70_000, 5e-324),
    "largest and smallest": np.array([np.finfo(np.float64).max, 5e-324, -np.finfo(np.float64).max] * 30_000),
    "any bits": np.random.default_rng(5).integers(0, 0x7FEF << 48, 50_000).view(np.float64),
    "float32 largest": np.full(100_001, np.finfo(np.float32).max),
    "float16 that overflow float16": np.full(100_001, np.float16(60000)),
    "zeros": np.array([0.0, -0.0] * 1000),
}


@pytest.mark.parametrize("values", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_means_of_hostile_data_are_exact(values: Array) -> None:
    assert mean_of(values) == float(exact_mean(values))
    assert mean_of(values[::-1][: len(values) // 3], values[::-1][len(values) // 3 :]) == float(exact_mean(values))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 300), st.integers(1, 5)),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    st.booleans(),
)
def test_each_column_has_its_exact_mean(matrix: Array, fortran: bool) -> None:
    total = ExactSum(matrix.shape[1])
    total.add(np.asfortranarray(matrix) if fortran else matrix)
    assert total.means([len(matrix)] * matrix.shape[1]) == [float(exact_mean(column)) for column in matrix.T]


@pytest.mark.parametrize("columns", [2, 9, 300, 40_000])
def test_wide_and_narrow_rows_have_exact_means(columns: int) -> None:
    matrix = np.random.default_rng(columns).standard_normal((max(3, 200_000 // columns), columns)).astype(np.float32)
    total = ExactSum(columns)
    total.add(matrix)
    means = total.means([len(matrix)] * columns)
    for column in (0, columns // 2, columns - 1):
        assert means[column] == float(exact_mean(matrix[:, column]))


@given(finite_arrays(), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_quantiles_within_the_bound_are_numpys(values: Array, quantiles: list[float]) -> None:
    kept = Quantiles(values.dtype)
    kept.add(values)
    assert kept.is_exact
    scale = 2.0**-8 if values.dtype == np.float64 else 1.0  # NumPy's interpolation overflows where ours does not
    wanted = np.quantile(values.astype(np.float64) * scale, quantiles) / scale
    spread = float(np.ptp(values.astype(np.float64) * scale)) / scale
    for found, want in zip(kept.find(quantiles), wanted, strict=True):
        assert float(found) == pytest.approx(want, rel=1e-12, abs=1e-12 * spread + 1e-322)


@given(finite_arrays())
def test_medians_within_the_bound_are_exact(values: Array) -> None:
    kept = Quantiles(values.dtype)
    kept.add(values)
    ordered = [Fraction(float(value)) for value in np.sort(values)]
    middle = len(ordered) // 2
    assert kept.find([0.5]) == [(ordered[middle] + ordered[-middle - 1]) / 2]


def test_the_bound_itself_is_exact_and_one_value_more_is_not() -> None:
    values = np.arange(1000, dtype=np.float32)
    kept = Quantiles(values.dtype, memory_bound=values.nbytes)
    kept.add(values)
    assert kept.is_exact
    kept.add(values[:1])
    assert not kept.is_exact


GENERATOR = np.random.default_rng(11)
NUM_VALUES = 400_000
NORMAL = GENERATOR.standard_normal(NUM_VALUES)
HEAVY = np.sort(np.exp(NORMAL * 30))
DISTRIBUTIONS = {
    "normal": NORMAL,
    "float32": NORMAL.astype(np.float32),
    "float16": NORMAL.astype(np.float16),
    "rising": np.sort(NORMAL),
    "falling": -np.sort(NORMAL),
    "heavy tails": GENERATOR.permutation(HEAVY),
    "heavy tails from outside in": np.stack([HEAVY[: NUM_VALUES // 2], HEAVY[NUM_VALUES // 2 :][::-1]], axis=1).ravel(),
    "two far clusters": np.where(GENERATOR.random(NUM_VALUES) < 0.5, -1e300, 1e300) * GENERATOR.random(NUM_VALUES),
    "nearly the largest": GENERATOR.uniform(-1, 1, NUM_VALUES) * 1.7e308,
    "few values": GENERATOR.integers(0, 5, NUM_VALUES).astype(np.float64),
    "mostly zero": np.where(GENERATOR.random(NUM_VALUES) < 0.7, 0, NORMAL),
    "near one": 1 + NORMAL * 1e-9,
    "integers": GENERATOR.integers(-(2**62), 2**62, NUM_VALUES),
    "small integers": GENERATOR.poisson(3, NUM_VALUES),
    "blocks of one value": np.repeat(GENERATOR.standard_normal(NUM_VALUES // 1000), 1000),
}


def sketch_of(values: Array, num_units: int) -> Quantiles:
    merged = Quantiles(values.dtype, memory_bound=1000)
    for unit in np.array_split(values, num_units):
        part = Quantiles(values.dtype, memory_bound=1000)
        for batch in np.array_split(unit, 3):
            part.add(batch)
        merged.merge(part)
    return merged


@pytest.mark.parametrize("num_units", [1, 64])
@pytest.mark.parametrize("values", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_beyond_the_bound_the_rank_error_is_what_is_stated(values: Array, num_units: int) -> None:
    sketch = sketch_of(values, num_units)
    assert not sketch.is_exact
    assert sketch.num_values == NUM_VALUES
    ordered = np.sort(values)
    quantiles = [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999]
    for quantile, found in zip(quantiles, sketch.find(quantiles), strict=True):
        value = round(found) if values.dtype.kind == "i" else values.dtype.type(float(found))
        below, up_to = (np.searchsorted(ordered, value, side) / NUM_VALUES for side in ("left", "right"))
        assert below - SKETCH_RANK_ERROR <= quantile <= up_to + SKETCH_RANK_ERROR


def test_a_sketch_is_the_same_however_its_parts_travel_and_are_batched() -> None:
    def sketch(num_batches: int, travels: bool) -> bytes:
        merged = Quantiles(np.dtype(np.float64), memory_bound=1 << 20)
        for unit in np.array_split(np.tile(NORMAL, 8), 5):
            part = Quantiles(unit.dtype, memory_bound=1 << 20)
            for batch in np.array_split(unit, num_batches):
                part.add(batch)
            merged.merge(pickle.loads(pickle.dumps(part)) if travels else part)
            merged = pickle.loads(pickle.dumps(merged)) if travels else merged
        return pickle.dumps(merged.find([0.01, 0.5, 0.99]))

    assert len({sketch(1, False), sketch(1, True), sketch(7, False), sketch(7, True)}) == 1


def test_a_sketch_is_the_same_in_another_process() -> None:
    script = (
        "import numpy as np; from datacheck.cleaning.fit.quantiles import Quantiles\n"
        "values = np.random.default_rng(1).standard_normal(300_000)\n"
        "q = Quantiles(values.dtype, 1000); q.add(values); print(q.find([0.1, 0.5, 0.9]))"
    )
    runs = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(runs) == 1


@given(st.lists(st.sampled_from([-1.5, -0.0, 0.0, 2.0, 7.0]), min_size=1, max_size=60), st.integers(1, 5))
def test_the_most_frequent_value_is_numpys(values: list[float], num_parts: int) -> None:
    merged = Frequencies("it")
    for part in np.array_split(np.array(values, np.float32), num_parts):
        counted = Frequencies("it")
        counted.add(part)
        merged.merge(pickle.loads(pickle.dumps(counted)))
    distinct, counts = np.unique(np.array(values) + 0.0, return_counts=True)
    assert merged.most_frequent() == (distinct[np.argmax(counts)], counts.max())


RULES = [
    {"action": "impute", "strategy": "mean", "fields": "a"},
    {"action": "impute", "strategy": "median", "fields": "b"},
    {"action": "impute", "strategy": "most_frequent", "fields": "c"},
    {"action": "clip", "quantiles": [0.1, 0.9], "fields": "a"},
    {"action": "impute", "strategy": "mean", "fields": "d", "per_feature": True},
]


def table(num_rows: int, seed: int) -> Batch:
    generator = np.random.default_rng(seed)
    a, b = np.exp(generator.standard_normal((2, num_rows)) * 20).astype(np.float32)
    c, d = generator.integers(0, 3, num_rows).astype(np.float64), generator.standard_normal((num_rows, 2, 3))
    for column in (a, b, c, d):
        column[generator.random(column.shape) < 0.3] = np.nan
        column.reshape(-1)[0] = 1
    d[0] = 1
    columns = {"a": a, "b": b, "c": c, "d": np.asfortranarray(d)}
    return Batch(tuple(Column(name, data) for name, data in columns.items()), num_rows)


def learn(batches: list[Batch], units: list[int], travels: bool, limits: MemoryLimits) -> str:
    plan = parse_plan(RULES)
    statistics: Statistics | None = None
    for _ in range(plan.num_rounds("abcd")):
        learner = Learner(plan, Schema(), statistics, limits)
        parts = [learner.learn(batch) for batch in batches]
        grouped = [learner.merge(parts[start:stop]) for start, stop in zip([0, *units], [*units, None], strict=True)]
        statistics = learner.finish(learner.merge(pickle.loads(pickle.dumps(grouped)) if travels else grouped))
    assert statistics is not None
    return statistics.to_json()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 5), st.data())
def test_any_partition_into_batches_and_units_gives_the_same_bytes(
    num_rows: int, seed: int, data: st.DataObject
) -> None:
    whole = table(num_rows, seed)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, num_rows), max_size=5))), num_rows]
    batches = [whole.take(np.arange(start, stop)) for start, stop in itertools.pairwise(cuts)]
    units = sorted(data.draw(st.lists(st.integers(0, len(batches)), max_size=3)))
    limits = MemoryLimits()
    assert learn(batches, units, data.draw(st.booleans()), limits) == learn([whole], [], False, limits)


def test_the_same_units_give_the_same_bytes_beyond_the_bound_too() -> None:
    batches = [table(500, seed) for seed in range(8)]
    limits = MemoryLimits(kept_bytes=2000)
    first = learn(batches, [2, 4, 6], False, limits)
    assert '"exact": false' in first
    assert learn(batches, [2, 4, 6], True, limits) == first


def test_a_field_known_not_to_fit_is_sketched_from_the_start() -> None:
    plan = parse_plan([{"action": "impute", "strategy": "median"}])
    batch = table(500, 0)
    limits = MemoryLimits(kept_bytes=3000)
    for num_rows, exact in ((500, True), (800, False)):
        learner = Learner(plan, Schema(), None, limits, num_rows=num_rows)
        learned = {entry.field: entry.exact for entry in learner.finish(learner.learn(batch)).learned}
        assert learned["a"] is exact
