"""Rules about a dataset in a schema: how they are written, what is refused, and what pandera and a diff make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pytest

import datacheck
from datacheck.errors import SchemaError
from datacheck.schema.diff import diff_schemas
from datacheck.schema.loading import parse_schema
from datacheck.schema.yaml_file import parse_yaml
from datacheck.storage.documents import load_schema

EVERYTHING = """
num_rows: {ge: 5}
num_files: 2
sequence:
- {by: series, on: time, step: 1h}
- {by: [a, b], num_rows: {ge: 3}, contiguous: true, name: groups}
determines: {"country, zip": city}
references: {fields: item, file: items.parquet, keys: id}
splits: {apart: patient, within: [[shop, item]], time: {on: day, gap: 7d}}
fields:
  x: {dtype: float32, min_distinct: 2, max_distinct: 9, mean: {ge: 0}, std: {gt: 0}, quantiles: {0.5: {le: 4}}}
  c: {covers: [a, b], share: {a: {ge: 10%}, null: 1%}}
  t: {max_age: 7d}
"""


def test_every_rule_can_be_written_and_read_again() -> None:
    schema = parse_schema(parse_yaml(EVERYTHING, "s.yaml"), "s.yaml")
    assert parse_schema(parse_yaml(schema.to_yaml(), "s.yaml"), "s.yaml") == schema
    assert schema.determines[0].fields == ("country", "zip")
    assert {"series", "time", "country", "city", "item", "patient", "day"} <= set(schema.names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sequence: {on: t, step: 1x}", "sequence.step: expected a number, or a duration such as '30min'"),
        ("sequence: {by: a}", "sequence.on: is required, unless the rule is about"),
        ("sequence: {on: a, by: a}", "sequence.on: 'a' must be a field with one value per row that is not in 'by'"),
        ("sequence: {on: a, max_gap: 1}", "sequence.max_gap: unknown key 'max_gap'; write 'step: {le: ...}'"),
        ("num_rows: {ge: 5, lt: 5}", "num_rows.ge: 5 and 'lt: 5' admit no value"),
        ("num_rows: -1", "num_rows: expected an integer of at least 0, got -1"),
        ("determines: {a: a}", "determines.determine: 'a' cannot determine itself"),
        ("references: {fields: a}", "references: needs either 'file' with the keys, or 'folder' with the files"),
        ("references: {fields: [a, b], file: x, keys: id}", "references.keys: must name as many fields"),
        ("splits: {}", "splits: has no rule; expected 'apart', 'within' or 'time'"),
        ("splits: {time: {on: t, gap: 7}}", "splits.time.gap: expected a duration such as"),
        ("fields: {x: {mean: 3}}", "fields.x.mean: expected bounds such as {ge: 1, le: 5}"),
        ("fields: {x: {dtype: string, mean: {ge: 0}}}", "fields.x.mean: values of string are not numbers"),
        ("fields: {x: {share: {nan: 300%}}}", "fields.x.share.nan: expected a share from 0 to 1"),
        ("fields: {x: {dtype: int32, share: {nan: 1%}}}", "fields.x.share.nan: only floating-point values can be nan"),
        ("fields: {x: {quantiles: {1.5: {le: 1}}}}", "fields.x.quantiles: expected a quantile from 0 to 1"),
        ("fields: {x: {min_distinct: 3, max_distinct: 2}}", "fields.x.min_distinct: 3 is more than 'max_distinct: 2'"),
        ("fields: {x: {isin: [a], covers: [b]}}", "fields.x.covers[0]: 'b' is not in 'isin', so it can never occur"),
        ("fields: {x: {max_age: soon}}", "fields.x.max_age: expected a duration such as '30min', '1h' or '7d'"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SchemaError) as told:
        parse_schema(parse_yaml(text, "s.yaml"), "s.yaml")
    assert f"s.yaml: {message}" in str(told.value)


def test_a_field_that_only_a_rule_names_must_exist() -> None:
    report = datacheck.scan(pd.DataFrame({"time": [1, 2]}), {"sequence": {"by": "serie", "on": "time"}})
    assert [(finding.code, finding.field) for finding in report.findings] == [("DC001", "serie")]


FRAME = pd.DataFrame(
    {
        "series": ["a"] * 5 + ["b"] * 5,
        "time": pd.to_datetime([*range(5), 0, 1, 3, 4, 5], unit="h"),
        "x": [0.0, 0.0, 1.0, 2.0, 3.0, np.inf, 5.0, 6.0, np.nan, 8.0],
        "label": [0, 0, 0, 0, 0, 1, 1, 1, 1, 0],
        "same": 1,
    }
)
LAX = {"x": {"allow_nan": True, "allow_inf": True}, "time": {}}
RULES: list[dict[str, Any]] = [
    {"num_rows": {"ge": 10}},
    {"num_rows": 9},
    {"sequence": {"by": "series", "on": "time", "step": "1h"}},
    {"sequence": {"by": "series", "on": "time", "step": {"gt": "0s", "le": "2h"}}},
    {"sequence": {"on": "time"}},
    {"sequence": {"by": "series", "on": "time", "order": "strictly_increasing", "contiguous": True, "num_rows": 5}},
    {"sequence": {"by": "label", "contiguous": True}},
    {"sequence": {"by": "label", "num_rows": {"le": 5}}},
    {"determines": {"series": "label"}},
    {"determines": {"series, label": "same"}},
    *({"fields": {**LAX, "x": {**LAX["x"], **rule}}} for rule in (
        {"mean": {"lt": 3.2}}, {"mean": {"lt": 3}}, {"std": {"ge": 2.9}}, {"std": {"lt": 2}}, {"quantiles": {0.5: {"le": 2}}},
        {"quantiles": {0.5: {"le": 1}}}, {"share": {"nan": 0.1, "zero": 0.2, "inf": 0.1}}, {"share": {"zero": 0.1}},
        {"min_distinct": 8}, {"max_distinct": 5}, {"covers": [0, 8]}, {"covers": [7]},
    )),
    {"fields": {**LAX, "same": {"min_distinct": 2}}},
    {"fields": {**LAX, "label": {"share": {"1": {"ge": 0.5}}}}},
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_pandera_has_the_same_verdict_on_the_frame(rule: dict[str, Any]) -> None:
    schema = parse_schema({"fields": LAX, **rule}, "schema")
    converted = schema.to_pandera()
    assert load_schema(converted) == schema
    try:
        converted.validate(FRAME, lazy=True)
        passes = True
    except pandera.errors.SchemaErrors:
        passes = False
    assert datacheck.scan(FRAME, schema).ok is passes


def test_a_diff_names_each_rule_about_the_dataset() -> None:
    old = {"num_rows": {"ge": 5}, "sequence": {"on": "t"}, "fields": {"x": {"min_distinct": 2}}}
    new = {"num_rows": {"ge": 6}, "determines": {"a": "b"}, "fields": {"x": {"share": {"nan": 0.1}}}}
    changes = diff_schemas(parse_schema(old, "old"), parse_schema(new, "new")).changes
    assert {(change.place, change.effect.description) for change in changes} == {
        ("num_rows", "stricter and looser"),
        ("sequence", "looser"),
        ("determines", "stricter"),
        ("fields.x.min_distinct", "looser"),
        ("fields.x.share", "stricter"),
    }


def test_tolerances_travel_through_pandera_and_show_in_a_diff() -> None:
    schema = parse_schema({"fields": {"x": {}}, "tolerances": {"x": {"DC101": "1%"}}}, "schema")
    assert load_schema(schema.to_pandera()) == schema
    (change,) = diff_schemas(parse_schema({"fields": {"x": {}}}, "old"), schema).changes
    assert (change.place, change.after) == ("tolerances", {"x": {"DC101": "1%"}})
