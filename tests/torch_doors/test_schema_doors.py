"""Every key of the schema is judged at every door, or the door says that it does not judge it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.errors
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from loader_sets import Listed, safe_of

import datacheck
from datacheck.schema.field import Field
from datacheck.schema.model import Schema
from datacheck.torch.diagnosis.batch_schema import BatchSchema

DAY = 86_400_000_000
ROWS = [
    {
        "x": float(i),
        "n": min(i, 4),
        "g": "a" if i < 3 else "A",
        "s": " \x07" if i == 2 else "word",
        "v": [0.5, float(i)],
        "ids": [-100, -100],
        "box": [[3.0, 0.0, 1.0, 1.0]],
        "t": i * DAY,
    }
    for i in range(6)
]
NAN, INF = {"x": float("nan")}, {"x": float("inf")}

#: For each key of a field, a field and a rule that the rows break; and what to change in the last row first.
FIELD_CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "dtype": ("x", {"dtype": "string"}, {}),
    "shape": ("v", {"shape": [3]}, {}),
    "nullable": ("x", {"nullable": False}, {"x": None}),
    "allow_nan": ("x", {"allow_nan": False}, NAN),
    "allow_inf": ("x", {"allow_inf": False}, INF),
    "required": ("y", {"required": True}, {}),
    "unique": ("n", {"unique": True}, {}),
    "ge": ("x", {"ge": 1}, {}),
    "le": ("x", {"le": 3}, {}),
    "gt": ("x", {"gt": 1}, {}),
    "lt": ("x", {"lt": 3}, {}),
    "isin": ("n", {"isin": [0, 1]}, {}),
    "str_matches": ("s", {"str_matches": "x"}, {}),
    "checks": ("x", {"checks": {"ne": 3}}, {}),
    "min_distinct": ("n", {"min_distinct": 9}, {}),
    "max_distinct": ("n", {"max_distinct": 2}, {}),
    "covers": ("n", {"covers": [0, 9]}, {}),
    "mean": ("x", {"mean": {"ge": 9}}, {}),
    "std": ("x", {"std": {"ge": 9}}, {}),
    "quantiles": ("x", {"quantiles": {0.5: {"ge": 9}}}, {}),
    "share": ("x", {"share": {"zero": "1%"}}, {}),
    "max_age": ("t", {"dtype": "timestamp[us]", "coerce": True, "max_age": "1d"}, {}),
    "columns": ("v", {"columns": {1: {"le": 2}}}, {}),
    "channels": ("v", {"channels": {1: {"le": 2}}}, {}),
    "missing": ("x", {"missing": [3]}, {}),
    "not_blank": ("s", {"not_blank": True}, {"s": "  "}),
    "stripped": ("s", {"stripped": True}, {}),
    "printable": ("s", {"printable": True}, {}),
    "no_variants": ("g", {"no_variants": True}, {}),
    "min_length": ("s", {"min_length": 3}, {}),
    "max_length": ("s", {"max_length": 3}, {}),
    "vocab_size": ("n", {"vocab_size": 2}, {}),
    "ignore_index": ("ids", {"ignore_index": -100}, {}),
    "format": ("box", {"format": "xyxy"}, {}),
    "within": ("box", {"format": "xyxy", "within": [2, 2]}, {}),
}
#: Keys of a field without a rule of their own, or whose code is the reader's.
NO_RULE = {"coerce", "own_checks", "title", "description", "metadata"}

SCHEMA_CASES: dict[str, Any] = {
    "strict": {"strict": True, "fields": {"x": {}}},
    "unique": {"unique": [["g", "n"]]},
    "fields": {"fields": {"x": {"le": 3}}},
    "checks": {"checks": ["x < 3"]},
    "dimensions": {"dimensions": {"N": "dataset"}, "fields": {"v": {"shape": ["N"]}}},
    "num_rows": {"num_rows": 7},
    "num_files": {"num_files": 2},
    "sequence": {"sequence": {"by": "g", "on": "n", "step": 1}},
    "determines": {"determines": {"g": "n"}},
    "references": {"references": [{"fields": "g", "file": "known.parquet", "keys": "g"}]},
    "splits": {"splits": {"apart": "g"}},
    "tolerances": {"fields": {"x": {"le": 1}}, "tolerances": {"x": {"DC202": "1%"}}},
    "missing": {"missing": [3]},
}
#: Keys of a schema without a rule of their own, or whose code is the reader's.
NO_RULE_OF_SCHEMA = {"version", "name", "description", "coerce", "own_checks", "pandera", "metadata"}


def test_every_key_has_a_case() -> None:
    assert {*FIELD_CASES, *NO_RULE} == set(Field.model_fields)
    assert {*SCHEMA_CASES, *NO_RULE_OF_SCHEMA} == set(Schema.model_fields)


EVERY_CASE = pytest.mark.parametrize(
    ("schema", "change"),
    [
        *(pytest.param({"fields": {name: rule}}, change, id=key) for key, (name, rule, change) in FIELD_CASES.items()),
        *(pytest.param(schema, {}, id=f"schema-{key}") for key, schema in SCHEMA_CASES.items()),
    ],
)


def rows_of(schema: Any, change: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows, of which the last breaks the rule."""
    rows = [*ROWS[:-1], {**ROWS[-1], **change}]
    if "dimensions" in schema:
        rows[-1] = {**rows[-1], "v": [0.0]}
    return rows


@EVERY_CASE
def test_no_door_passes_over_a_broken_rule(
    schema: Any, change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = rows_of(schema, change)
    pq.write_table(pa.table({"g": ["a"]}), "known.parquet")
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), "data/rows.parquet")
    loaded = datacheck.load_schema({"version": 1, **schema})
    assert datacheck.scan("data", loaded, workers=1).findings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        served, checked = (safe_of(Listed(rows), schema=loaded, max_bad_fraction=1.0, on_bad="skip") for _ in range(2))
        for index in range(len(rows)):
            served[index]
        checked.check()
    for safe in (served, checked):
        assert safe.report().findings

    collated = {name: [row[name] for row in rows] for name in rows[0]}
    numbers = {name: torch.tensor(values) for name, values in collated.items() if name in ("x", "n") and not change}
    for batch in (rows, {**collated, **numbers}):
        judge = BatchSchema(loaded)
        assert judge.judge(batch, "step 1") or judge.unchecked


#: Rules that pandera does not check: they need more than a data frame, or look into its cells.
LISTED = {"shape", "columns", "channels", "ignore_index", "format", "within", "own_checks"}
LISTED_OF_SCHEMA = {"dimensions", "num_files", "references", "splits", "missing", "tolerances", "own_checks"}


@EVERY_CASE
def test_pandera_checks_a_rule_or_it_is_listed(
    schema: Any, change: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    key = request.node.callspec.id
    rows = rows_of(schema, change)
    frame = pd.DataFrame(rows)
    if key == "max_age":
        frame["t"] = pd.to_datetime(frame["t"], unit="us")
    loaded = datacheck.load_schema({"version": 1, **schema})
    kind, _, name = key.rpartition("-")
    is_listed = name in (LISTED_OF_SCHEMA if kind else LISTED)
    assert bool(loaded.not_in_pandera) is is_listed
    made = loaded.to_pandera()
    assert datacheck.load_schema(made) == loaded
    if is_listed and name != "tolerances":
        made.validate(frame, lazy=True)
        return
    with pytest.raises(pandera.errors.SchemaErrors) as found:
        made.validate(frame, lazy=True)
    assert len(found.value.failure_cases.check.unique()) == 1
