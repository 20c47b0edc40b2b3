"""Differences between two schemas, and whether their stated effect is right for data that passed the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from job_files import run_command

import datacheck
from datacheck import Schema
from datacheck.errors import SchemaError
from datacheck.schema.diff import diff_schemas

BOUND = st.integers(-2, 4)
WORDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["float32", "float64", "int64"]),
        **{word: st.booleans() for word in ("nullable", "allow_nan", "allow_inf", "required", "unique", "coerce")},
        **dict.fromkeys(("ge", "le", "gt", "lt"), BOUND),
        "isin": st.lists(BOUND, min_size=1, max_size=4),
        "shape": st.lists(st.none() | st.integers(1, 2), max_size=1),
    },
)
SCHEMAS = st.fixed_dictionaries(
    {"fields": st.dictionaries(st.sampled_from(["a", "b"]), WORDS, max_size=2)},
    optional={"strict": st.booleans(), "coerce": st.booleans()},
)
VALUES = {
    pa.float32(): st.sampled_from([None, np.nan, np.inf, -1.0, 0.0, 1.0, 2.0, 3.0]),
    pa.float64(): st.sampled_from([None, np.nan, -np.inf, -1.0, 0.0, 1.0, 2.0, 2.5]),
    pa.int64(): st.sampled_from([None, -1, 0, 1, 2, 3]),
}


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    try:
        return Schema.model_validate(draw(SCHEMAS))
    except (SchemaError, ValueError):
        assume(False)
        raise


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kinds = {
        name: draw(st.sampled_from(list(VALUES))) for name in draw(st.lists(st.sampled_from(["a", "b"]), unique=True))
    }
    columns = {
        name: pa.array(draw(st.lists(VALUES[kind], min_size=1, max_size=1)), kind) for name, kind in kinds.items()
    }
    return pa.table(columns or {"c": pa.array([1])})


@pytest.mark.slow
@given(schemas(), schemas(), st.lists(tables(), max_size=8))
@settings(max_examples=400)
def test_data_that_passed_passes_a_schema_that_is_not_stricter(
    first: Schema, second: Schema, data: list[pa.Table]
) -> None:
    found, back = diff_schemas(first, second), diff_schemas(second, first)
    assert found.is_stricter is back.is_looser
    assert found.is_looser is back.is_stricter
    assert bool(found.changes) is (first != second)
    assert json.loads(found.to_json())["same"] is (first == second)
    for table in data:
        passed, passes = datacheck.scan(table, first).ok, datacheck.scan(table, second).ok
        assert found.is_stricter or not passed or passes, str(found)
        assert found.is_looser or passed or not passes, str(found)


def changes(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return [str(change) for change in diff_schemas(Schema.model_validate(first), Schema.model_validate(second)).changes]


def field_changes(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return changes({"fields": {"x": first}}, {"fields": {"x": second}})


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"ge": 0}, {"ge": 1}, "fields.x.ge: 0 -> 1 (stricter)"),
        ({"ge": 0}, {"gt": 0}, 'fields.x.lower bound: {"ge": 0} -> {"gt": 0} (stricter)'),
        ({"le": 0}, {"lt": 1}, 'fields.x.upper bound: {"le": 0} -> {"lt": 1} (looser)'),
        ({"le": 0}, {}, "fields.x.le: removed, was 0 (looser)"),
        ({"dtype": "float32"}, {"dtype": "float64"}, 'fields.x.dtype: "float32" -> "float64" (stricter and looser)'),
        ({"isin": [1, 2]}, {"isin": [2, 1]}, "fields.x.isin: [1, 2] -> [2, 1] (no effect on data)"),
        ({"isin": [1]}, {"isin": [1, 2]}, "fields.x.isin: [1] -> [1, 2] (looser)"),
        ({"isin": [1]}, {"isin": [True]}, "fields.x.isin: [1] -> [true] (stricter and looser)"),
        ({"shape": [None, 3]}, {"shape": [2, 3]}, "fields.x.shape: [null, 3] -> [2, 3] (stricter)"),
        ({"description": "a"}, {"description": "b"}, 'fields.x.description: "a" -> "b" (no effect on data)'),
        ({"checks": {"ne": 1}}, {"checks": {"ne": 2}}, "fields.x.checks.ne: 1 -> 2 (stricter and looser)"),
        ({"str_matches": "a"}, {}, 'fields.x.str_matches: removed, was "a" (looser)'),
        (
            {"dtype": "timestamp[s]", "ge": "2024-01-31"},
            {"dtype": "timestamp[s]", "ge": "2024-01-31T00:00:01"},
            'fields.x.ge: "2024-01-31" -> "2024-01-31T00:00:01" (stricter)',
        ),
        (
            {"dtype": "decimal128(9, 2)", "le": "10"},
            {"dtype": "decimal128(9, 2)", "le": "9.99"},
            'fields.x.le: "10" -> "9.99" (stricter)',
        ),
        (
            {"dtype": "string", "le": "b"},
            {"dtype": "string", "lt": "b"},
            'fields.x.upper bound: {"le": "b"} -> {"lt": "b"} (stricter)',
        ),
    ],
)
def test_a_change_is_reported_with_its_effect_on_data(
    first: dict[str, Any], second: dict[str, Any], expected: str
) -> None:
    assert field_changes(first, second) == [expected]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {"fields": {"x": {"ge": 0}}}, 'fields.x: added {"ge": 0} (stricter)'),
        ({}, {"fields": {None: {}}}, "fields.null: added {} (stricter)"),
        ({}, {"fields": {"x": {"nullable": True, "required": False, "allow_nan": True}}}, "(looser)"),
        ({"fields": {"x": {}}}, {}, "fields.x: removed, was {} (looser)"),
        ({"strict": True}, {"strict": True, "fields": {"x": {}}}, "fields.x: added {} (stricter and looser)"),
        ({}, {"unique": [["a", "b"]]}, 'unique.a, b: added ["a", "b"] (stricter)'),
        ({"checks": ["a > b"]}, {"checks": ["a > c"]}, 'checks.a > b: removed, was "a > b" (looser)'),
        ({}, {"coerce": True}, "coerce: false -> true (looser)"),
        ({}, {"name": "\x1b[2J"}, r'name: added "\u001b[2J" (no effect on data)'),
    ],
)
def test_a_change_outside_the_fields_is_reported(first: dict[str, Any], second: dict[str, Any], expected: str) -> None:
    assert expected in changes(first, second)[0]


def test_the_exit_code_of_the_command_says_whether_the_schema_is_stricter(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("fields: {x: {ge: 0}}\n")
    second.write_text("fields: {x: {ge: 1}}\n")
    same = run_command("schema", "diff", first, first)
    assert (same.returncode, same.stdout) == (0, "the two schemas are the same\n")
    different = run_command("schema", "diff", first, second)
    assert different.returncode == 1
    assert different.stdout.splitlines() == [
        "fields.x.ge: 0 -> 1 (stricter)",
        "1 change: stricter; data that passed the first may fail the second",
    ]
    record = json.loads(run_command("schema", "diff", first, second, "--format", "json").stdout)
    assert record["changes"] == [
        {"path": ["fields", "x", "ge"], "before": 0, "after": 1, "stricter": True, "looser": False}
    ]
    missing = run_command("schema", "diff", first, tmp_path / "c.yaml")
    assert (missing.returncode, missing.stdout) == (2, "")
