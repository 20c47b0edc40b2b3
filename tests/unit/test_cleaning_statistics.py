"""Learning: what is learned, from what, and what the file says of it."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from datacheck import __version__
from datacheck.batch import Batch, Column
from datacheck.cleaning.fit.accumulator import MemoryLimits
from datacheck.cleaning.fit.learner import Learner, PartialStatistics
from datacheck.cleaning.fit.statistics import Learned, LearnedFrom, Statistics
from datacheck.cleaning.plan import parse_plan
from datacheck.cleaning.repairs import apply
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.errors import CleaningError
from datacheck.schema.model import Field, Schema
from datacheck.storage.base import Fingerprint

NAN, INF = math.nan, math.inf
NO_SCHEMA = Schema()


def impute(strategy: str, **more: Any) -> dict[str, Any]:
    return {"action": "impute", "strategy": strategy, **more}


def batch_of(**columns: Any) -> Batch:
    return Batch(tuple(Column(name, data) for name, data in columns.items()), len(next(iter(columns.values()))))


def learn(rules: list[Any], *batches: Batch, schema: Schema = NO_SCHEMA, **options: Any) -> Statistics:
    learner = Learner(parse_plan(rules), schema, **options)
    return learner.finish(learner.merge(learner.learn(batch) for batch in batches))


def values_of(statistics: Statistics) -> list[Any]:
    return [entry.values for entry in statistics.learned]


@pytest.mark.parametrize(
    ("strategy", "value"), [("mean", 17 / 6), ("median", 2.5), ("most_frequent", 2.0)], ids=["mean", "median", "mode"]
)
def test_nan_infinities_and_nulls_teach_nothing(strategy: str, value: float) -> None:
    data = pa.array([1.0, NAN, 2.0, None, INF, 3.0, -INF, 2.0, NAN, 4.0, 5.0])
    statistics = learn([impute(strategy)], batch_of(x=data))
    assert statistics.learned == (Learned(0, "x", strategy, False, True, (6,), ((value,),)),)  # type: ignore[arg-type]
    assert statistics.num_rows == 11
    assert statistics.datacheck == __version__


def test_values_that_break_the_codes_of_the_rule_teach_nothing() -> None:
    schema = Schema(fields={"x": Field(ge=0, lt=100, isin=(1, 2, 50))})
    batch = batch_of(x=np.array([1, 2, 50, -7, 500, 3], np.float32))
    narrow = learn([impute("mean", codes=["DC101", "DC2"])], batch, schema=Schema(fields={"x": Field(ge=0, lt=100)}))
    assert values_of(narrow) == [((14.0,),)]
    frequent = learn([impute("most_frequent", codes=["DC2"])], batch, schema=schema)
    assert frequent.learned[0].num_values == (3,)
    (clipped,) = learn([{"action": "clip", "quantiles": [0, 1]}], batch, schema=schema).learned
    assert clipped.values == ((1.0, 50.0),)


def test_a_learned_value_that_violates_the_schema_is_an_error() -> None:
    batch = batch_of(x=np.array([1, 2, 1e6], np.float32))
    schema = Schema(fields={"x": Field(le=10)})
    with pytest.raises(CleaningError, match=r"the mean of 'x' is 333334\.3.*violates the schema \(DC202\); add DC202"):
        learn([impute("mean")], batch, schema=schema)
    assert values_of(learn([impute("mean", codes=["DC101", "DC202"])], batch, schema=schema)) == [((1.5,),)]
    assert learn([impute("mean"), {"action": "clip"}], batch, schema=schema).learned


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full(4096, NAN), "nothing to learn a mean from: all 4,096 values of 'x' are NaN"),
        (pa.nulls(3, pa.float32()), "nothing to learn a mean from: all 3 values of 'x' are null"),
        (np.full(2, INF), "nothing to learn a mean from: all 2 values of 'x' are +inf"),
        (
            pa.array([NAN, None, NAN]),
            "nothing to learn a mean from: none of the 3 values of 'x' can be used (2 NaN, 1 null)",
        ),
        (np.empty(0), "nothing to learn a mean from: there are no values of 'x'"),
        (pa.array([[], []], pa.list_(pa.float64())), "there are no values of 'x[]'"),
    ],
)
def test_a_field_with_nothing_to_learn_from_is_an_error(data: Any, message: str) -> None:
    with pytest.raises(CleaningError) as caught:
        learn([impute("mean")], batch_of(x=data))
    assert message in str(caught.value)
    assert str(caught.value).startswith("clean[0] (impute): ")


def test_one_good_value_anywhere_is_enough() -> None:
    statistics = learn([impute("mean")], batch_of(x=np.full(5, NAN)), batch_of(x=np.array([NAN, 3.0])))
    assert values_of(statistics) == [((3.0,),)]


def test_each_feature_needs_something_to_learn_from() -> None:
    data = np.ones((5, 2, 3))
    data[:, :, 1] = NAN
    with pytest.raises(CleaningError, match="none of the 10 values of feature 1 of 'x' can be used"):
        learn([impute("median", per_feature=True)], batch_of(x=data))


def test_the_median_of_integers_must_be_one() -> None:
    assert values_of(learn([impute("median")], batch_of(x=np.array([3, 1, 5])))) == [((3,),)]
    assert values_of(learn([impute("median")], batch_of(x=np.array([3, 1, 5, 5])))) == [((4,),)]
    with pytest.raises(CleaningError, match=r"the median of 'x' is 1\.5, which int64 cannot hold; use most_frequent"):
        learn([impute("median")], batch_of(x=np.array([1, 2])))


def test_large_integers_are_exact() -> None:
    data = np.array([2**63 - 1, 2**63 - 3], np.int64)
    assert values_of(learn([impute("median")], batch_of(x=data))) == [((2**63 - 2,),)]
    statistics = learn([impute("most_frequent")], batch_of(x=np.array([2**53 + 1, 2**53 + 1, 2**53], np.int64)))
    assert values_of(Statistics.from_json(statistics.to_json())) == [((2**53 + 1,),)]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (np.array([2.0, 1.0, 2.0, 1.0]), 1.0),
        (np.array([-0.0, 0.0, 5.0, 5.0, -0.0]), 0.0),
        (pa.array(["b", "a", None, "b", "a", None, None]), "a"),
        (pa.array([True, False]), False),
        (np.array([7, 7, -3, -3], ">i2"), -3),
        (np.array([0.1, 0.1, 0.2], np.float32), float(np.float32(0.1))),
    ],
)
def test_of_several_most_frequent_values_the_smallest_is_learned(data: Any, value: Any) -> None:
    assert values_of(learn([impute("most_frequent")], batch_of(x=data))) == [((value,),)]


def test_too_many_distinct_values_are_an_error_however_they_are_split() -> None:
    limits = MemoryLimits(max_distinct=10)
    few, many = batch_of(x=np.arange(10) % 10), batch_of(x=np.arange(11))
    assert values_of(learn([impute("most_frequent")], few, few, limits=limits)) == [((0,),)]
    for batches in ([many], [many.take(np.arange(5)), many.take(np.arange(5, 11))]):
        with pytest.raises(CleaningError, match="'x' has more than 10 distinct values, too many to count"):
            learn([impute("most_frequent")], *batches, limits=limits)


def test_a_field_must_have_one_dtype_and_one_number_of_features() -> None:
    with pytest.raises(CleaningError, match="'x' is float32 in some inputs and float64 in others; give it one dtype"):
        learn([impute("mean")], batch_of(x=np.ones(2, np.float32)), batch_of(x=np.ones(2)))
    with pytest.raises(CleaningError, match="'x' has 2 features in some inputs and 3 in others"):
        learn([impute("mean", per_feature=True)], batch_of(x=np.ones((2, 2))), batch_of(x=np.ones((2, 3))))


def test_validation_and_test_data_never_move_a_statistic() -> None:
    generator = np.random.default_rng(0)
    train = batch_of(x=generator.standard_normal(1000).astype(np.float32))
    wild = batch_of(x=(1e6 * generator.standard_normal(1000)).astype(np.float32))
    wild.columns[0].data[::3] = NAN
    plan = parse_plan([impute("median"), {"action": "clip", "quantiles": [0.01, 0.99]}])
    statistics: Statistics | None = None
    for _ in range(2):
        learner = Learner(plan, NO_SCHEMA, statistics)
        statistics = learner.finish(learner.merge([learner.learn(train)]))
    assert statistics is not None
    before = statistics.to_json()
    repaired, _ = apply(wild, plan, NO_SCHEMA, statistics)
    assert statistics.to_json() == before
    lower, upper = np.quantile(train.columns[0].data.astype(np.float64), [0.01, 0.99]).astype(np.float32)
    assert {lower, upper} < set(repaired.columns[0].data)
    assert np.float32(np.median(train.columns[0].data.astype(np.float64))) in repaired.columns[0].data


def test_data_that_changes_between_passes_is_an_error() -> None:
    plan = parse_plan([impute("mean"), {"action": "clip", "quantiles": [0, 1]}])
    first = Learner(plan, NO_SCHEMA)
    statistics = first.finish(first.learn(batch_of(x=np.ones(5))))
    second = Learner(plan, NO_SCHEMA, statistics)
    with pytest.raises(CleaningError, match="had 5 rows in the first pass and 4 in this one"):
        second.finish(second.learn(batch_of(x=np.ones(4))))


def test_merging_changes_no_part() -> None:
    learner = Learner(
        parse_plan([impute("mean"), impute("median", fields="y"), impute("most_frequent", fields="z")]), NO_SCHEMA
    )
    parts = [learner.learn(batch_of(x=np.array([i, 1.0]), z=pa.array(["a", str(i)]))) for i in range(3)]
    first = learner.finish(learner.merge(parts)).to_json()
    assert learner.finish(learner.merge(parts)).to_json() == first
    assert learner.finish(learner.merge(pickle.loads(pickle.dumps(parts)))).to_json() == first
    assert learner.merge([]) == PartialStatistics()


def test_further_columns_of_known_rows_are_no_further_rows() -> None:
    batch = batch_of(x=np.ones(3))
    columns = Batch(batch.columns, 3, counts_rows=False)
    assert learn([impute("mean")], batch, columns).num_rows == 3


def example() -> Statistics:
    source = LearnedFrom("data/träin.parquet", Fingerprint(123, 456), 10)
    learned = (
        Learned(0, None, "mean", False, True, (10,), ((0.1 + 0.2,),)),
        Learned(1, 'a "b"\x1b\ud800', "most_frequent", True, True, (3, 4), (("ä",), (True,))),
        Learned(2, "q", "quantiles", False, False, (1,), ((-5e-324, 1.7976931348623157e308),)),
    )
    return Statistics("sha256:0", 10, learned, (source,), "9.9")


def test_statistics_read_back_as_they_were_written() -> None:
    text = example().to_json()
    assert Statistics.from_json(text) == example()
    assert Statistics.from_json(text.encode()).to_json() == text
    assert json.loads(text)["fields"][0]["values"] == [[0.30000000000000004]]
    assert Statistics.from_json(Statistics("p").to_json()) == Statistics("p")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "not a statistics file: Expecting value"),
        (lambda text: "[1]", "not a statistics file: it has no version; run 'datacheck fit' to create one"),
        (lambda text: "[" * 100_000, "not a statistics file"),
        (
            lambda text: text.replace('"version": 1', '"version": 2'),
            "unsupported version 2, expected 1; run 'datacheck fit' again",
        ),
        (lambda text: text.replace('"version": 1', '"version": true'), "unsupported version True"),
        (lambda text: text.replace("0.30000000000000004", "NaN"), "not a statistics file: NaN is not a JSON number"),
        (
            lambda text: text.replace("0.30000000000000004", "1e999"),
            "fields[0].values[0][0]: does not fit into 64 bits",
        ),
        (lambda text: text.replace("0.30000000000000004", "null"), "fields[0].values[0][0]: expected true or false"),
        (lambda text: text.replace("0.30000000000000004", "1, 2"), "fields[0].values: expected 1 for each feature"),
        (lambda text: text.replace('"mean"', '"meen"'), "fields[0].statistic: must be 'mean', 'median'"),
        (lambda text: text.replace('"num_values": [3, 4]', '"num_values": [3]'), "fields[1].values: has 2 features"),
        (
            lambda text: text.replace('"num_rows": 10,\n', '"num_rows": -10,\n'),
            "num_rows: must be greater than or equal to 0",
        ),
        (lambda text: text.replace('"plan"', '"plam"'), "plan: is required"),
    ],
)
def test_an_invalid_statistics_file_says_why(change: Any, message: str) -> None:
    with pytest.raises(CleaningError) as caught:
        Statistics.from_json(change(example().to_json()), "out/statistics.json")
    assert str(caught.value).startswith(f"out/statistics.json: {message}")


def test_many_fields_share_the_memory_for_exact_medians() -> None:
    plan = parse_plan([impute("median", fields="m*"), impute("mean", fields="x*")])
    fields: dict[str | None, str] = {f"m{i}": "float32" for i in range(8)} | {f"x{i}": "float32" for i in range(100)}
    assert MemoryLimits.shared(plan) == MemoryLimits.shared(
        validate_plan(plan, {"m0": "float32", "x0": "float32"}, NO_SCHEMA)
    )
    assert MemoryLimits.shared(plan).kept_bytes == 64 << 20
    assert MemoryLimits.shared(validate_plan(plan, fields, NO_SCHEMA)).kept_bytes == 32 << 20


@pytest.mark.parametrize("per_feature", [False, True])
def test_the_bound_holds_for_all_features_of_a_field_together(per_feature: bool) -> None:
    batch = batch_of(x=np.random.default_rng(0).standard_normal((100, 4)))
    for kept_bytes, exact in ((3200, True), (3199, False)):
        limits = MemoryLimits(kept_bytes=kept_bytes)
        (learned,) = learn([impute("median", per_feature=per_feature)], batch, limits=limits).learned
        assert learned.exact is exact
