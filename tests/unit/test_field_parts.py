"""Rules for single columns and channels of a field, and fields whose names are patterns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck import Field, Schema
from datacheck.batch import Batch, Column
from datacheck.checks.checker import Checker, RuleSet
from datacheck.errors import SchemaError
from datacheck.findings import MAX_EXAMPLES
from datacheck.schema.diff import diff_schemas
from datacheck.schema.field_paths import find_field
from datacheck.schema.loading import parse_schema
from datacheck.schema.yaml_file import parse_yaml
from datacheck.storage.documents import load_schema

BOXES = {"0": {"ge": 0, "lt": 80}, "1": {"ge": 0, "le": 1}}


def violations(
    column: Any, schema: Schema, name: str | None = "x"
) -> set[tuple[str, str | None, int, tuple[int, ...]]]:
    """The code, field, row and index of every violation."""
    batch = Batch((Column(name, column),), len(column))
    found = set()
    for outcome in Checker(RuleSet(schema), with_rows=True).check(batch):
        for example in outcome.examples:
            found.add((outcome.code, outcome.field, example.row or 0, example.index))
        assert outcome.num_violations == len(outcome.examples), "more violations than examples"
    return found


def test_the_label_files_of_a_detector_have_bounds_for_each_column(tmp_path: Path) -> None:
    labels = np.column_stack([np.arange(80), np.full((80, 4), 0.5)]).astype(np.float32)
    labels[7, 1], labels[9, 0] = 1.07, 80
    np.save(tmp_path / "labels.npy", labels)
    schema = Schema(fields={None: {"shape": [None, 5], "columns": BOXES}})
    report = datacheck.scan(tmp_path / "labels.npy", schema)
    assert [finding.message.partition(" (")[0] for finding in report.findings] == [
        "1 of 80 values in 'array[0]' are not < 80: found 80.0",
        "1 of 80 values in 'array[1]' are not <= 1: found 1.07",
    ]


@settings(max_examples=60)
@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, float("nan")]), min_size=12, max_size=12),
    shape=st.sampled_from([(3, 4), (2, 3, 2), (2, 2, 3), (12, 1), (1, 1, 12)]),
    which=st.sampled_from(["columns", "channels"]),
    layout=st.sampled_from(["C", "F", "fixed", "lists", "tensor", "permuted"]),
)
def test_the_values_at_an_index_are_those_of_numpy(values: Any, shape: Any, which: str, layout: str) -> None:
    array = np.array(values).reshape(shape)
    axis = array.ndim - 1 if which == "columns" else 1
    expected = {("DC202", "x[0]", *divmod_index(place)) for place in np.argwhere(array > 1) if place[axis] == 0}
    column: Any = array
    if layout == "F":
        column = np.asfortranarray(array)
    elif layout in ("fixed", "lists") and array.ndim == 2:
        kind = pa.list_(pa.float64(), shape[1]) if layout == "fixed" else pa.list_(pa.float64())
        column = pa.array(array.tolist(), kind)
    elif layout == "tensor":
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(array)
    elif layout == "permuted" and array.ndim == 3:
        kind = pa.fixed_shape_tensor(pa.float64(), shape[:0:-1], permutation=[1, 0])
        stored = np.ascontiguousarray(array.transpose(0, 2, 1)).reshape(-1)
        storage = pa.FixedSizeListArray.from_arrays(pa.array(stored), array[0].size)
        column = pa.ExtensionArray.from_storage(kind, storage)
    schema = Schema(fields={"x": {"allow_nan": True, which: {"0": {"le": 1}}}})
    batch = Batch((Column("x", column),), len(column))
    outcomes = Checker(RuleSet(schema), with_rows=True).check(batch)
    assert sum(outcome.num_violations for outcome in outcomes) == len(expected)
    assert {row for outcome in outcomes for row in outcome.rows.tolist()} == {row for _, _, row, _ in expected}
    if len(expected) <= MAX_EXAMPLES:
        assert violations(column, schema) == expected


def divmod_index(place: Any) -> tuple[int, tuple[int, ...]]:
    row, *index = (int(digit) for digit in place)
    return row, tuple(index)


def test_lists_of_different_lengths_have_columns_as_far_as_they_reach() -> None:
    column = pa.array([[1.0, 5.0], [9.0], None, [], [1.0, 5.0, 9.0]], pa.list_(pa.float32()))
    schema = Schema(fields={"x": {"nullable": True, "columns": {"0": {"le": 4}, "2": {"le": 4}}}})
    assert violations(column, schema) == {("DC202", "x[0]", 1, (0,)), ("DC202", "x[2]", 4, (2,))}


def test_columns_have_names_in_the_order_of_the_axis() -> None:
    schema = Schema(
        fields={"x": {"shape": [None, 2], "columns": {"low": {"ge": 0}, "high": {"le": 1}}}},
        checks=['x["low"] <= x["high"]'],
    )
    found = violations(np.array([[0.0, 1.0], [-1.0, 2.0], [0.5, 0.2]]), schema)
    assert found == {
        ("DC201", "x[low]", 1, (0,)),
        ("DC202", "x[high]", 1, (1,)),
        ("DC302", None, 2, ()),
    }


def test_a_column_may_forbid_what_the_field_allows() -> None:
    array = np.array([[np.nan, 1.0], [1.0, np.nan]])
    schema = Schema(fields={"x": {"allow_nan": True, "columns": {"1": {"allow_nan": False}}}})
    assert violations(array, schema) == {("DC101", "x[1]", 1, (1,))}
    silent = Schema(fields={"x": {"allow_nan": True, "columns": {"1": {"ge": 0}}}})
    assert violations(array, silent) == set()


@pytest.mark.parametrize(
    ("keys", "detail"),
    [
        ("3", "it has 3 columns, and the schema has a rule for '3'"),
        ("abcd", "it has 3 columns, and the schema has a rule for 'd'"),
        ("ab", "it has 3 columns, and the schema names 2; name all, or use their numbers"),
    ],
)
def test_columns_that_are_not_those_of_the_array_are_a_finding(keys: str, detail: str) -> None:
    schema = Schema(fields={"x": {"columns": {key: {"ge": 0} for key in keys}}})
    (outcome,) = Checker(RuleSet(schema)).check(Batch((Column("x", np.zeros((2, 3))),), 2))
    assert (outcome.code, outcome.detail) == ("DC004", detail)


@pytest.mark.parametrize(
    ("field", "place", "problem"),
    [
        ({"columns": {"0": {"dtype": "int8"}}}, "columns.0.dtype", "belongs to the whole field"),
        ({"columns": {"a": {}, "1": {}}}, "columns.a", "is a name among numbers"),
        ({"shape": [None, 2], "columns": {"2": {}}}, "columns.2", "there are 2, counted from 0"),
        ({"shape": [None, 3], "columns": {"a": {}, "b": {}}}, "columns", "names 2 of 3"),
        ({"columns": {"0": {"allow_nan": True}}}, "columns.0.allow_nan", "the field forbids it"),
        ({"dtype": "int8", "columns": {"0": {"le": 300}}}, "columns.0.le", "int8 cannot hold 300"),
        ({"columns": {"0": {}}, "channels": {"0": {}}}, "channels", "not both"),
        ({"columns": {"0": {"gee": 1}}}, "columns.0", "unknown key 'gee'"),
        ({"shape": ["3x"]}, "shape[0]", "a name such as H"),
    ],
)
def test_a_contradiction_in_columns_is_an_error_with_its_place(field: Any, place: str, problem: str) -> None:
    with pytest.raises(SchemaError) as error:
        Schema(fields={"x": field})
    assert f"fields.x.{place}" in str(error.value)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("name", "path", "matches"),
    [
        ("layer.*", "layer.0.weight", True),
        ("layer.*", "layer", False),
        ("[].edge_index", "12.edge_index", True),
        ("[].edge_index", "a.12.edge_index", False),
        ("[].edge_index", "x12.edge_index", False),
        ("boxes[].x", "boxes[].x", True),
        ("boxes[].x", "boxes.3.x", True),
        ("boxes[].x", "boxes.3.y", False),
        ("*.bias", "encoder.1.bias", True),
        ("emb", "emb[]", True),
        ("e*", "emb[]", True),
    ],
)
def test_a_field_may_stand_for_several_paths(name: str, path: str, matches: bool) -> None:
    assert (find_field({name: "the field"}, path) is not None) is matches


def test_a_pattern_holds_for_every_kind_of_rule(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("f1,f2,g\n1,2,3\n1,7,3\n")
    (tmp_path / "g.csv").write_text("f1,f2,g\n1,2,3\n4,2,3\n")
    field = {"dtype": "float32", "checks": {"notin": [7]}, "min_distinct": 2}
    found = datacheck.scan(tmp_path / "t.csv", Schema(fields={"f*": field, "g": {"dtype": "int64"}})).findings
    assert [(one.code, one.field) for one in found] == [("DC207", "f2")]
    constant = Schema(fields={"g*": {"min_distinct": 2}})
    assert [one.code for one in datacheck.scan(tmp_path / "g.csv", constant).findings] == ["DC324"]
    with pytest.raises(SchemaError, match="matches several fields"):
        Schema(fields={"f*": {"unique": True}})


def test_a_name_comes_before_the_patterns() -> None:
    fields = {"layer.*": 1, "layer.0": 2, "l*": 3}
    assert (find_field(fields, "layer.0"), find_field(fields, "layer.1"), find_field(fields, "lap")) == (2, 1, 3)


def test_a_pattern_holds_in_files_and_is_required_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", **{"layer.0.w": np.ones(3), "layer.1.w": np.full(3, 9.0), "head": np.ones(3)})
    schema = Schema(strict=True, fields={"layer.*": {"le": 4}, "missing.*": {}, "head": {}})
    codes = [(one.code, one.field) for one in datacheck.scan(tmp_path / "weights.npz", schema).findings]
    assert codes == [("DC001", "missing.*"), ("DC202", "layer.1.w")]


def test_a_field_of_the_structs_in_a_list_is_a_list(tmp_path: Path) -> None:
    boxes = [[{"x1": 1.0, "x2": 2.0}, {"x1": 3.0, "x2": 1.0}], [], None, [{"x1": 0.0, "x2": 1.0}]]
    pq.write_table(pa.table({"boxes": boxes}), tmp_path / "boxes.parquet")
    schema = Schema(fields={"boxes": {"nullable": True}}, checks=["field('boxes[].x1') < field('boxes[].x2')"])
    (finding,) = datacheck.scan(tmp_path / "boxes.parquet", schema).findings
    assert [example.row for example in finding.examples] == [0]
    assert finding.num_checked == 3


def test_classes_without_gaps_are_a_range(tmp_path: Path) -> None:
    labels = np.arange(25)
    labels[5] = 6
    np.save(tmp_path / "y.npy", labels)
    schema = Schema(fields={None: {"covers": {"from": 0, "to": 24}}})
    (finding,) = datacheck.scan(tmp_path / "y.npy", schema).findings
    assert finding.message.startswith("the array lacks 1 of 25 values that must occur: '5'")
    for wrong in ({"from": 3, "to": 2}, {"from": 0, "to": 10**9}, {"from": 0.5, "to": 2}, {"from": 0}):
        with pytest.raises(SchemaError, match="covers"):
            Field(covers=wrong)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_sensor_that_is_always_zero_is_named(tmp_path: Path, workers: int) -> None:
    values = np.random.default_rng(0).normal(size=(300, 4))
    values[:, 2] = 0
    np.save(tmp_path / "sensors.npy", values)
    table = pa.table({"x": pa.array(values.tolist(), pa.list_(pa.float64()))})
    pq.write_table(table, tmp_path / "sensors.parquet", row_group_size=37)
    moving = {key: {"min_distinct": 2, "std": {"gt": 0}} for key in ("a", "b", "c", "d")}
    for file, name in (("sensors.npy", None), ("sensors.parquet", "x")):
        report = datacheck.scan(tmp_path / file, Schema(fields={name: {"columns": moving}}), workers=workers)
        assert [(one.code, one.field) for one in report.findings] == [
            ("DC323", f"{name or 'array'}[c]"),
            ("DC324", f"{name or 'array'}[c]"),
        ]


EVERYTHING = Schema(
    fields={
        "x": {"shape": ["T"], "allow_nan": True, "columns": {"0": {"allow_nan": False, "ge": 0}, "1": {"le": 1}}},
        "y": {"shape": ["T"]},
        "image": {"channels": {"red": {"ge": 0}, "green": {}, "blue": {"le": 9}}},
        "layer.*": {"le": 4},
        "[].q": {"shape": [None, 3]},
    },
    checks=["max(x) < 5 and x[0] <= x[1]", 'x["0"] > -9'],
    dimensions={"T": "file"},
)


def test_a_schema_with_columns_dimensions_and_patterns_survives_yaml_and_pandera() -> None:
    assert parse_schema(parse_yaml(EVERYTHING.to_yaml(), "s.yaml"), "s.yaml") == EVERYTHING
    assert load_schema(EVERYTHING.to_pandera()) == EVERYTHING


def test_rules_about_lists_hold_in_pandera() -> None:
    import pandas as pd
    import pandera.pandas as pandera

    frame = pd.DataFrame(
        {"x": [[1.0, 2.0], [3.0, 9.0], np.array([2.0, 1.0]), [-9.0, 1.0]], "y": [[0, 0]] * 4, "image": [1] * 4}
    )
    with pytest.raises(pandera.errors.SchemaErrors) as error:
        EVERYTHING.to_pandera().validate(frame, lazy=True)
    cases = error.value.failure_cases
    assert sorted(
        {(str(one.check).removeprefix("datacheck: "), one.index) for one in cases.itertuples(index=False)}
    ) == [
        ("max(x) < 5 and x[0] <= x[1]", 1),
        ("max(x) < 5 and x[0] <= x[1]", 2),
        ('x["0"] > -9', 3),
    ]


def test_a_changed_column_or_dimension_is_a_difference() -> None:
    new = EVERYTHING.model_copy(update={"dimensions": {"T": "dataset"}, "fields": {**EVERYTHING.fields, "x": Field()}})
    lines = [str(change) for change in diff_schemas(EVERYTHING, new).changes]
    assert any("fields.x.columns" in line for line in lines)
    assert any("dimensions" in line for line in lines)


@pytest.mark.parametrize(("action", "num_kept"), [("quarantine", 2), ("drop_row", 2), ("clip", 3)])
def test_a_run_removes_or_repairs_rows_with_a_bad_column(tmp_path: Path, action: str, num_kept: int) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([[0.5, 0.5], [0.5, 7.0], [0.1, 0.2]]))
    rule = f"{{action: {action}, fields: x}}"
    lines = ["version: 1", "schema: s.yaml", "inputs: {train: d.npz}", "output: {path: out}", f"clean: [{rule}]"]
    (tmp_path / "p.yaml").write_text("\n".join(lines))
    (tmp_path / "s.yaml").write_text("fields:\n  x: {ge: 0, columns: {1: {le: 1}}}\n")
    (account,) = datacheck.run(tmp_path / "p.yaml").accounts
    assert account.num_kept == num_kept


@pytest.mark.torch
def test_the_rules_hold_for_samples() -> None:
    import torch

    from datacheck.torch import BadSampleError, SafeDataset

    schema = Schema(
        fields={
            "image": {"shape": [3, "H", "W"], "channels": {"0": {"le": 1}}},
            "mask": {"shape": ["H", "W"]},
            "boxes[].x": {"ge": 0},
            "size": {},
        },
        checks=["max(mask) < 4", "size[0] >= height(image)"],
    )

    def sample(**changes: Any) -> dict[str, Any]:
        plain = {"image": torch.zeros(3, 4, 5), "mask": torch.zeros(4, 5), "boxes": [{"x": 1.0}], "size": [4, 5]}
        return {**plain, **changes}

    tall = torch.zeros(3, 4, 5)
    tall[0, 2, 2] = 3
    bad = [
        sample(mask=torch.zeros(4, 6)),
        sample(image=tall),
        sample(mask=torch.full((4, 5), 4.0)),
        sample(boxes=[{"x": -1.0}]),
        sample(size=[3, 5]),
        sample(size=[]),
    ]
    dataset = SafeDataset([sample(), *bad], schema=schema, on_bad="raise")
    assert dataset[0]["size"] == [4, 5]
    codes = []
    for index in range(1, len(dataset)):
        with pytest.raises(BadSampleError) as error:
            dataset[index]
        codes.append(error.value.codes)
    assert codes == [("DC307",), ("DC202",), ("DC302",), ("DC201",), ("DC302",), ("DC302",)]


def test_a_field_is_found_by_its_name_without_a_look_at_the_others() -> None:
    class Unlisted(dict[str | None, int]):
        def __iter__(self) -> Iterator[str | None]:
            raise AssertionError("all names were looked at")

    assert find_field(Unlisted({"a": 1, "b.*": 2, "c[]": 3}), "a") == 1
    assert find_field(Unlisted({"a": 1, "b.*": 2, "c[]": 3}), "c[]") == 3
