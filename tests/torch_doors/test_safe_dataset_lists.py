"""Lists in samples: held to the schema's fields as the same lists in a file are."""

from __future__ import annotations

import datetime
import decimal
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_sets import Listed, safe_of

import datacheck
from datacheck.torch import open_dataset

pytestmark = pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")

NAN = float("nan")
BOXES = {"fields": {"boxes[].x": {"ge": 0}}}


def found(sample: Any, schema: Any) -> list[tuple[str, str | None]]:
    """What is wrong with a sample, as a loader meets it: by the screen first."""
    report = safe_of(Listed([sample]), schema=schema).check()
    return [(finding.code, finding.field) for finding in report.findings]


@pytest.mark.parametrize(
    ("good", "bad", "rules", "expected"),
    [
        (["a"], ["a", "b"], {"isin": ["a"]}, [("DC205", "x[]")]),
        (["a"], ["a", "B"], {"str_matches": "[a-z]"}, [("DC206", "x[]")]),
        (("a",), ("b",), {"isin": ["a"]}, [("DC205", "x[]")]),
        ((1, 2), (1, -2), {"ge": 0}, [("DC201", "x[]")]),
        ({1, 2}, {1, -2}, {"ge": 0}, [("DC201", "x[]")]),
        ([1.0, 2.0], [1.0, None, -1.0], {"ge": 0}, [("DC201", "x[]"), ("DC104", "x[]")]),
        ([1.0, 2.0], [1.0, -1.0], {"ge": 0}, [("DC201", "x")]),
        ([[1.0], [2.0, 3.0]], [[1.0], [2.0, -3.0]], {"ge": 0}, [("DC201", "x[][]")]),
        ([torch.ones(2), torch.ones(3)], [torch.ones(2), -torch.ones(3)], {"ge": 0}, [("DC201", "x[][]")]),
        ([np.ones(2), np.ones(2)], [np.ones(2), -np.ones(2)], {"ge": 0}, [("DC201", "x[][]")]),
        ([torch.ones(2)], [torch.full((2,), NAN)], {"ge": 0}, [("DC101", "x[][]")]),
        ([], ["a", 1.0], {"isin": ["a"]}, [("DC005", "x")]),
    ],
)
def test_every_entry_of_a_list_is_checked_against_its_field(good: Any, bad: Any, rules: Any, expected: Any) -> None:
    schema = {"fields": {"x": rules}}
    assert found({"x": good}, schema) == []
    assert found({"x": bad}, schema) == expected
    assert found({"in": {"x": bad}}, {"fields": {"in.x": rules}}) == [(code, f"in.{path}") for code, path in expected]


def test_fields_inside_the_entries_are_those_of_a_file() -> None:
    assert found({"boxes": [{"x": 1.0}, {"x": 2.0}]}, BOXES) == []
    assert found({"boxes": []}, BOXES) == []
    assert found({"boxes": None}, {"fields": {"boxes": {"nullable": True}, "boxes[].x": {"ge": 0}}}) == []
    assert found({"boxes": [{"x": 1.0}, {"x": -2.0}]}, BOXES) == [("DC201", "boxes[].x")]
    assert found({"boxes": [{"x": 1.0, "y": NAN}]}, BOXES) == [("DC101", "boxes[].y")]
    assert found({"boxes": [{"y": 1.0}]}, BOXES) == [("DC001", "boxes[].x")]
    assert found({"boxes": [{"x": 1.0}]}, {**BOXES, "strict": True}) == []
    assert found({"x": torch.tensor([[1.0], [-1.0]])}, {"fields": {"x[]": {"ge": 0}}}) == [("DC201", "x[][]")]


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_lists(layout: torch.layout) -> None:
    def nested(last: float) -> torch.Tensor:
        return torch.nested.nested_tensor([torch.ones(2), torch.tensor([1.0, 2.0, last])], layout=layout)

    assert found({"x": nested(3.0)}, {"fields": {"x": {"ge": 0}}}) == []
    assert found({"x": nested(-3.0)}, {"fields": {"x": {"ge": 0}}}) == [("DC201", "x[][]")]


@pytest.mark.parametrize("rules", [{"ge": 0}, {"dtype": "float32"}, {"isin": [1]}])
def test_a_container_with_fields_is_not_a_value(rules: Any) -> None:
    schema = {"fields": {"x": rules}}
    assert found({"x": {"a": 1.0}}, schema) == [("DC003", "x")]
    assert found({"x": [{"a": 1.0}]}, schema) == [("DC003", "x[]")]
    for rows in ([{"a": 1.0}], [[{"a": 1.0}]]):
        (finding,) = datacheck.scan(pa.table({"x": rows}), schema=schema).findings
        assert finding.code == "DC003"


def test_fields_of_single_entries_do_not_affect_the_others() -> None:
    schema = {"fields": {"x.0": {"ge": 0}}}
    assert found({"x": [1, -1, "a"]}, schema) == []
    assert found({"x": [-1, -1, "a"]}, schema) == [("DC201", "x.0")]


@pytest.mark.parametrize(
    ("sample", "path"),
    [
        ([[1.0], [2.0, NAN]], "1"),
        (deque([NAN]), "0"),
        (np.array([1.0, "a", NAN], object), "2"),
        (np.array([np.ones(2), np.array([1, 2, NAN])], object), "1"),
    ],
)
def test_without_a_schema_a_nan_is_found_in_ragged_lists_and_arrays_of_objects(sample: Any, path: str) -> None:
    assert found(sample, None) == [("DC101", path)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), max_size=4), min_size=1, max_size=4), st.sampled_from([list, tuple, set]))
def test_a_list_of_lists_is_clean_where_every_number_in_it_is(values: list[list[int]], kind: type) -> None:
    sample = {"x": [kind(part) for part in values]}
    codes = {code for code, _ in found(sample, {"fields": {"x": {"ge": 0}}})}
    assert codes == ({"DC201"} if any(number < 0 for part in values for number in part) else set())


COLUMNS: dict[str, list[Any]] = {
    "lists of lists": [[[1.0], [2.0, 3.0]], [[]]],
    "structs": [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": None}],
    "lists of structs": [[{"a": 1.0}, {"a": 2.0}], []],
    "lists with nulls": [[1.0, None], None],
    "lists of texts": [["a", "b"], []],
    "decimals": [decimal.Decimal("1.5"), decimal.Decimal("20.25")],
    "times": [datetime.datetime(2020, 1, 1), None],
    "bytes": [b"x", b""],
    "nulls": [None, None],
}


@pytest.mark.parametrize("values", [*COLUMNS.values(), "map", "fixed"], ids=[*COLUMNS, "maps", "fixed lists of lists"])
def test_samples_of_a_file_pass_the_schema_that_was_inferred_from_it(tmp_path: Path, values: Any) -> None:
    if values == "map":
        array = pa.array([[("k", 1.0)], []], pa.map_(pa.string(), pa.float64()))
    elif values == "fixed":
        array = pa.array([[[1.0, 2.0], [3.0, 4.0]]] * 2, pa.list_(pa.list_(pa.float32(), 2), 2))
    else:
        array = pa.array(values)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"column": array}), path)
    schema = datacheck.infer(str(path))
    assert datacheck.scan(str(path), schema=schema).ok
    report = safe_of(open_dataset(path), schema=schema).check()
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([{"x": NAN, "n": "k"}, {"x": 1.0, "n": "l"}], [{"x": 9.0, "n": "k"}, {"x": 1.0, "n": "l"}]),
        ([1.0, None], [1.0, 9.0]),
        ((1.0, NAN), (1.0, 9.0)),
    ],
)
def test_lists_of_plain_values_are_repaired(before: Any, after: Any) -> None:
    rules = [{"action": "impute", "strategy": "constant", "value": 9.0}]
    fields = {"x": {}} if not isinstance(before[0], dict) else {"x[].x": {}, "x[].n": {}}
    safe = safe_of(Listed([{"x": before}]), schema={"fields": fields}, on_bad=("repair", "raise"), cleaning=rules)
    assert safe[0] == {"x": after}
    assert type(safe[0]["x"]) is type(before)
