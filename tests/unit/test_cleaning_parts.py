"""Repairs by column and by channel: they change what NumPy changes, at these indices and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.batch import Batch, Column
from datacheck.cleaning.fit.learner import Learner
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import CleaningPlan, leaf_dtypes, parse_plan
from datacheck.cleaning.repairs import apply_repairs
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.errors import CleaningError, PipelineError
from datacheck.schema.model import Schema

Array = np.ndarray[Any, Any]
NAN = np.nan
VALUES = st.sampled_from([-7.0, -1.0, 0.0, 0.5, 1.0, 4.0, 90.0, -999.0, NAN])


def ragged(array: Array) -> pa.Array:
    """Rows as lists; behind the columns of the array are others, of which there are more in every second row."""
    rows = [[*row.tolist(), *([50.0] * (number % 2))] for number, row in enumerate(array)]
    return pa.array([[3.0], *rows], pa.list_(pa.float32())).slice(1)


def fixed(array: Array) -> pa.Array:
    return pa.array([[3.0] * array.shape[1], *array.tolist()], pa.list_(pa.float32(), array.shape[1])).slice(1)


def tensor(array: Array) -> pa.Array:
    storage = pa.array(array.tolist(), pa.list_(pa.float32(), array.shape[1]))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (array.shape[1],)), storage)


BUILDS: dict[str, Callable[[Array], Any]] = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=0)[::2],
    "ragged": ragged,
    "fixed": fixed,
    "tensor": tensor,
}
SCHEMA = {
    "x": {"allow_nan": True, "nullable": True, "columns": {0: {"ge": 0, "le": 1}, 2: {"gt": -2, "missing": [-999.0]}}}
}
RULES: dict[str, dict[str, Any]] = {
    "clip": {"action": "clip"},
    "one column": {"action": "clip", "fields": "x[0]"},
    "bounds": {"action": "clip", "fields": "x[0]", "ge": 0.25, "le": 0.75},
    "constant": {"action": "impute", "strategy": "constant", "value": 0.25, "codes": ["DC2", "DC110"]},
    "to null": {"action": "to_null", "codes": ["DC110", "DC201", "DC203"]},
    "replace": {"action": "replace", "fields": "x[2]", "to_replace": [4.0], "value": 0.5},
}


def expected(array: Array, name: str) -> Array:
    """What NumPy makes of the array."""
    made = array.copy()
    first, third = made[:, 0], made[:, 2]
    is_missing = third == -999
    if name in ("clip", "one column"):
        first[:] = np.clip(first, 0, 1)
        if name == "clip":
            third[(third <= -2) & ~is_missing] = np.nextafter(np.float32(-2), np.float32(0))
    elif name == "bounds":
        first[:] = np.clip(first, 0.25, 0.75)
    elif name == "constant":
        first[(first < 0) | (first > 1)] = 0.25
        third[third <= -2] = 0.25
    elif name == "to null":
        first[first < 0] = NAN
        third[third <= -2] = NAN
    else:
        third[third == 4] = 0.5
    return made


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("rule", RULES)
@given(st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=1, max_size=8))
@settings(max_examples=12)
def test_repairs_by_column_change_what_numpy_changes(build: str, rule: str, rows: list[list[float]]) -> None:
    array = np.array(rows, np.float32)
    data = BUILDS[build](array)
    batch = Batch((Column("x", data),), len(array))
    schema = Schema.model_validate({"fields": SCHEMA})
    plan = validate_plan(parse_plan([RULES[rule]]), leaf_dtypes(batch), schema)
    before = data.copy() if isinstance(data, np.ndarray) else data
    repaired, counts = apply_repairs(batch, plan, schema)
    [column] = repaired.columns
    found = column.data
    if not isinstance(found, np.ndarray):
        lists = [[NAN if one is None else one for one in row] for row in found.to_pylist()]
        assert [row[4:] for row in lists] == (
            [[50.0] * (number % 2) for number in range(len(rows))] if build == "ragged" else [[]] * len(rows)
        )
        found = np.array([row[:4] for row in lists], np.float32)
    wanted = expected(array, rule)
    np.testing.assert_array_equal(found, wanted)
    changed = (array != wanted) & ~(np.isnan(array) & np.isnan(wanted))
    assert sum(one.num_values for one in counts) == changed.sum()
    assert {one.field for one in counts} == {f"x[{index}]" for index in (0, 2) if changed[:, index].any()}
    if isinstance(data, np.ndarray):
        np.testing.assert_array_equal(data, before)


def test_channels_are_repaired_and_what_no_rule_repairs_is_quarantined() -> None:
    images = np.random.default_rng(0).uniform(-0.5, 1.5, (20, 3, 4, 4)).astype(np.float32)
    schema = {"fields": {"image": {"channels": {"r": {"ge": 0, "le": 1}, "g": {}, "b": {"ge": -1, "le": 1.4}}}}}
    cleaned = datacheck.clean_data({"image": images}, [{"action": "clip", "fields": "image[r]"}], schema)
    kept = ~(images[:, 2] > 1.4).any(axis=(1, 2))
    assert 0 < kept.sum() < 20
    wanted = images[kept].copy()
    wanted[:, 0] = np.clip(wanted[:, 0], 0, 1)
    np.testing.assert_array_equal(cleaned.data["image"], wanted)


def test_text_in_lists_is_repaired_by_column() -> None:
    rows = [["a", "x"], ["q", "q"], [None, "y"]]
    schema = {"fields": {"t": {"nullable": True, "columns": {0: {"isin": ["a", "b"]}}}}}
    rule = {"action": "impute", "strategy": "constant", "value": "b", "codes": "DC205"}
    cleaned = datacheck.clean_data(pa.table({"t": rows}), [rule], schema)
    assert cleaned.data["t"].to_pylist() == [["a", "x"], ["b", "q"], [None, "y"]]


def test_a_rule_across_fields_is_judged_after_the_repair_of_a_column() -> None:
    array = np.array([[9.0, 0.5], [0.5, 0.5]], np.float32)
    schema = {"fields": {"x": {"columns": {0: {"le": 1}}}}, "checks": [{"name": "small", "expr": "sum(x) < 2"}]}
    cleaned = datacheck.clean_data({"x": array}, [{"action": "clip"}], schema)
    np.testing.assert_array_equal(cleaned.data["x"], [[1.0, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"action": "clip", "fields": "x[1]"}, r"no bounds for 'x\[1\]'"),
        ({"action": "clip", "fields": "x[7]"}, r"unknown field 'x\[7\]'"),
        ({"action": "clip", "fields": "x[0]", "le": 3}, r"outside the schema's bounds for 'x\[0\]', from 0 to 1"),
        (
            {"action": "impute", "fields": "x[0]", "strategy": "constant", "value": 5, "codes": "DC2"},
            "violates the schema",
        ),
        ({"action": "impute", "fields": "x[0]", "strategy": "mean", "per_feature": True}, "has one statistic"),
        ({"action": "impute", "fields": "x[0]", "strategy": "mean", "indicator": True}, "is for a whole field"),
        ({"action": "drop_field", "fields": "x[0]"}, "only whole fields can be dropped"),
    ],
)
def test_a_rule_that_cannot_apply_to_a_column_is_refused(rule: dict[str, Any], message: str) -> None:
    schema = {"fields": {"x": {"columns": {0: {"ge": 0, "le": 1}, 1: {}}}}}
    with pytest.raises((PipelineError, CleaningError), match=message):
        datacheck.clean_data({"x": np.zeros((3, 2), np.float32)}, [rule], schema)


def fitted(batches: list[Array], rules: list[dict[str, Any]], schema: Schema) -> tuple[CleaningPlan, Statistics]:
    """Statistics as a job learns them: each batch by itself, merged, as many passes as the plan needs."""
    made = [Batch((Column("x", array),), len(array)) for array in batches]
    plan = validate_plan(parse_plan(rules), leaf_dtypes(made[0]), schema)
    statistics = None
    for _ in range(plan.num_rounds(plan.paths)):
        learner = Learner(plan, schema, statistics)
        statistics = learner.finish(learner.merge([learner.learn(batch) for batch in made]))
    assert statistics is not None
    return plan, Statistics.from_json(statistics.to_json())


@given(
    st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=12),
    st.lists(st.integers(0, 12), max_size=3),
    st.sampled_from(["C", "F"]),
)
@settings(max_examples=25)
def test_what_is_learned_for_a_column_is_what_numpy_finds_in_it(
    rows: list[list[float]], cuts: list[int], order: Literal["C", "F"]
) -> None:
    array = np.array([*rows, [1.0, 2.0, 0.5]], np.float32, order=order)
    batches = [part for part in np.split(array, sorted(cuts)) if len(part)]
    columns = {0: {"ge": -2}, 1: {"missing": [-999.0, 90.0]}, 2: {}}
    schema = Schema.model_validate({"fields": {"x": {"shape": [None, 3], "columns": columns}}})
    rules = [
        {"action": "impute", "strategy": "mean", "fields": "x[0]", "codes": ["DC101", "DC201"]},
        {"action": "impute", "strategy": "median", "fields": "x[1]"},
        {"action": "clip", "fields": "x[2]", "quantiles": [0, 0.5]},
        {"action": "impute", "strategy": "constant", "value": -7, "fields": "x[2]"},
    ]
    plan, statistics = fitted(batches, rules, schema)
    assert plan.num_rounds(plan.paths) == 1
    repaired, _ = apply_repairs(Batch((Column("x", array),), len(array)), plan, schema, statistics)
    bad = np.isnan(array) | [[row[0] < -2, row[1] in (-999, 90), False] for row in array.tolist()]
    good = [np.float64(array[~bad[:, index], index]) for index in range(3)]
    wanted = array.copy()
    wanted[bad[:, 0], 0], wanted[bad[:, 1], 1] = good[0].mean(), np.median(good[1])
    wanted[:, 2] = np.where(bad[:, 2], -7, np.minimum(array[:, 2], np.float32(np.median(good[2]))))
    np.testing.assert_array_equal(repaired.columns[0].data, wanted)


@pytest.mark.parametrize("per_feature", [False, True])
def test_a_statistic_of_the_field_replaces_what_only_a_column_forbids_and_is_not_learned_from_it(
    per_feature: bool,
) -> None:
    array = np.array([[1, 10], [3, -999], [np.nan, 30], [-999, 50]], np.float32)
    schema = Schema.model_validate({"fields": {"x": {"columns": {1: {"missing": [-999]}, 0: {"ge": -1000}}}}})
    rule = {"action": "impute", "strategy": "mean", "fields": "x", "per_feature": per_feature}
    plan, statistics = fitted([array[:1], array[1:]], [rule], schema)
    repaired, counts = apply_repairs(Batch((Column("x", array),), 4), plan, schema, statistics)
    first, second = (-995 / 3, 30) if per_feature else (-905 / 6, -905 / 6)
    np.testing.assert_array_equal(repaired.columns[0].data, np.float32([[1, 10], [3, second], [first, 30], [-999, 50]]))
    assert {(one.field, one.num_values) for one in counts} == {("x", 1), ("x[1]", 1)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_learns_columns_from_the_training_split_only(tmp_path: Path, workers: int) -> None:
    train = np.random.default_rng(1).normal(size=(90, 4)).astype(np.float32)
    train[::7, 1], train[3::11, 3] = np.nan, -999
    test = np.full((5, 4), 40, np.float32)
    test[2, 1], test[3, 3] = np.nan, -999
    for name, parts in (("train", np.split(train, [20, 50])), ("test", [test])):
        (tmp_path / name).mkdir()
        for number, part in enumerate(parts):
            np.save(tmp_path / name / f"{number}.npy", part)
    fields = {"w": {"shape": [None, 4], "columns": {"a": {}, "b": {}, "c": {}, "d": {"missing": [-999]}}}}
    rules = [
        {"action": "impute", "strategy": "mean", "fields": "w[b]"},
        {"action": "impute", "strategy": "median", "fields": "w[d]"},
    ]
    (tmp_path / "schema.yaml").write_text(json.dumps({"fields": fields}))
    inputs = {"inputs": {"train": "train", "test": "test"}, "fit": "train", "output": {"path": "out"}}
    (tmp_path / "run.yaml").write_text(json.dumps({"version": 1, "schema": "schema.yaml", "clean": rules, **inputs}))
    assert datacheck.run(tmp_path / "run.yaml", workers=workers).ok
    [found] = (np.load(path) for path in (tmp_path / "out" / "test").glob("*.npy"))
    wanted = test.copy()
    wanted[2, 1] = np.nanmean(train[:, 1], dtype=np.float64)
    wanted[3, 3] = np.median(train[train[:, 3] != -999, 3])
    np.testing.assert_array_equal(found, wanted)
