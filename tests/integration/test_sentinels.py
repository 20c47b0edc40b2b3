"""Sentinels (``missing`` in a schema): learned without them, repaired, replaced, made null, and seen by the loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from job_files import kept_table, quarantine_of, write_pipeline, write_table

import datacheck
from datacheck.batch import Batch, Column
from datacheck.cleaning.plan import parse_plan
from datacheck.cleaning.repairs import apply
from datacheck.errors import CleaningError, SchemaError
from datacheck.schema.model import Schema

VALUES = [1.0, -999.99, 3.0, None, 8.0, -999.99]
SCHEMA: dict[str, Any] = {
    "fields": {"x": {"dtype": "float32", "missing": [-999.99], "ge": 0, "le": 10}, "n": {"dtype": "int64"}}
}


def run(folder: Path, rules: list[dict[str, Any]], schema: dict[str, Any] = SCHEMA) -> Any:
    write_table(folder / "in" / "a.parquet", {"x": pa.array(VALUES, pa.float32()), "n": range(6)}, 2)
    return datacheck.run(write_pipeline(folder, {"train": "in"}, rules, schema=schema))


def test_a_mean_is_learned_without_sentinels_and_replaces_them(tmp_path: Path) -> None:
    run(tmp_path, [{"action": "impute", "strategy": "mean", "fields": "x"}])
    assert kept_table(tmp_path / "out")["x"].to_pylist() == [1, 4, 3, 4, 8, 4]


@pytest.mark.parametrize("nullable", [True, False])
def test_sentinels_become_null_where_the_field_allows_it(tmp_path: Path, nullable: bool) -> None:
    fields = {**SCHEMA["fields"], "x": {**SCHEMA["fields"]["x"], "nullable": nullable}}
    run(tmp_path, [{"action": "to_null", "fields": "x"}], {"fields": fields})
    kept = kept_table(tmp_path / "out")["x"].to_pylist()
    assert kept == ([1, None, 3, None, 8, None] if nullable else [1, 3, 8])


def test_a_nullable_field_keeps_its_sentinels_with_a_note(tmp_path: Path) -> None:
    fields = {**SCHEMA["fields"], "x": {**SCHEMA["fields"]["x"], "nullable": True}}
    report = run(tmp_path, [], {"fields": fields})
    assert kept_table(tmp_path / "out")["x"].equals(pa.chunked_array([pa.array(VALUES, pa.float32())]))
    assert [(finding.code, finding.severity, finding.num_violations) for finding in report.findings] == [
        ("DC110", "info", 2)
    ]


def test_rows_with_sentinels_are_quarantined_as_they_were(tmp_path: Path) -> None:
    run(tmp_path, [{"action": "drop_row", "codes": "DC104"}])
    assert kept_table(tmp_path / "out")["n"].to_pylist() == [0, 2, 4]
    bad = quarantine_of(tmp_path / "out")
    assert np.float32(bad["x"].to_pylist()[0]) == np.float32(-999.99)
    assert {reason.split(" ")[0] for reason in bad["reason"].to_pylist()} == {"DC110"}


def repaired(data: Any, rule: dict[str, Any], field: dict[str, Any]) -> Any:
    schema = Schema.model_validate({"fields": {"x": field}})
    batch, counts = apply(Batch((Column("x", data),), len(data)), parse_plan([rule]), schema)
    return batch.columns[0].data, {count.code: count.num_values for count in counts}


@pytest.mark.parametrize("kind", [pa.float32(), pa.int16(), pa.string(), "list"])
def test_values_are_replaced_or_made_null_in_every_kind_of_column(kind: Any) -> None:
    is_text = kind == pa.string()
    values: list[Any] = ["a", "n/a", None, "b"] if is_text else [1, -9, None, 2]
    word, other = ("n/a", "z") if is_text else (-9, 7)
    data = pa.array([[value] for value in values], pa.list_(pa.float32())) if kind == "list" else pa.array(values, kind)
    flat = lambda array: array.flatten().to_pylist() if kind == "list" else array.to_pylist()  # noqa: E731
    field = {"missing": [word], "nullable": True}
    after, counts = repaired(data, {"action": "to_null"}, field)
    assert flat(after) == [values[0], None, None, values[3]]
    assert counts == {"DC110": 1}
    after, counts = repaired(data, {"action": "replace", "to_replace": [word], "value": other}, field)
    assert flat(after) == [values[0], other, None, values[3]]
    assert counts == {None: 1}
    after, _ = repaired(data, {"action": "impute", "strategy": "constant", "value": other, "codes": "DC110"}, field)
    assert flat(after) == [values[0], other, None, values[3]]


def test_arrays_have_nan_for_null_and_integers_refuse() -> None:
    after, _ = repaired(np.array([1.0, -9.0]), {"action": "to_null"}, {"missing": [-9]})
    assert np.array_equal(after, [1.0, np.nan], equal_nan=True)
    with pytest.raises(CleaningError, match="neither nulls nor NaN; impute the values, or drop the rows"):
        repaired(np.array([1, -9]), {"action": "to_null"}, {"missing": [-9]})


def test_a_clip_leaves_sentinels_alone() -> None:
    after, _ = repaired(pa.array([1, -9, 50]), {"action": "clip", "ge": 0, "le": 10}, {"missing": [-9]})
    assert after.to_pylist() == [1, -9, 10]


def test_words_of_a_text_file_are_null(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,n.d.\n2,n.d.\n-9,4\n5,q\n6,3\n7,2\n8,1\n")
    for schema in (
        {"missing": ["n.d.", -9]},
        {"fields": {"a": {"missing": -9}, "b": {"dtype": "float64", "missing": "n.d."}}},
    ):
        found = {
            finding.code: finding.num_violations for finding in datacheck.scan(tmp_path / "a.csv", schema).findings
        }
        assert {code: found.get(code) for code in ("DC104", "DC110")} == {"DC104": 2, "DC110": 1}
        assert ("DC003" in found) is ("fields" in schema)


def test_expressions_and_pandera_checks_do_not_see_sentinels() -> None:
    table = pa.table({"a": [1.0, -9.0, 5.0], "b": [2, 2, 2]})
    schema = {
        "missing": [-9],
        "fields": {"a": {"nullable": True, "checks": {"ge": 0}}, "b": {}},
        "checks": ["a >= 0", "a < b"],
    }
    found = [(finding.code, finding.num_violations) for finding in datacheck.scan(table, schema).findings]
    assert sorted(found) == [("DC110", 1), ("DC302", 1)]


def test_expressions_do_not_see_sentinels_inside_lists() -> None:
    table = pa.table({"a": [[1.0, -9.0], [2.0], [-9.0, 50.0]], "s": [{"x": -9}, {"x": 3}, {"x": 50}]})
    schema = {"missing": [-9], "checks": ["all(a > 0)", "max(a) < 40", 'field("s.x") < 40']}
    found = [
        (finding.rule, finding.num_violations) for finding in datacheck.scan(table, schema).findings if finding.rule
    ]
    assert found == [("max(a) < 40", 1), ('field("s.x") < 40', 1)]


def test_rules_about_the_dataset_do_not_see_sentinels() -> None:
    schema = {"fields": {"a": {"nullable": True, "missing": -999, "mean": {"ge": 0}, "max_distinct": 2}}}
    found = [finding.code for finding in datacheck.scan(pa.table({"a": [1.0, -999.0, 5.0]}), schema).findings]
    assert found == ["DC110"]


@pytest.mark.torch
def test_the_loader_finds_what_a_scan_finds() -> None:
    import torch

    from datacheck.torch import SafeDataset

    schema = {
        "fields": {
            "x": {"missing": [-9.0]},
            "ids": {"vocab_size": 10, "ignore_index": -100},
            "text": {"not_blank": True},
            "boxes": {"format": "xyxy"},
            "chat": {"format": "chat"},
        }
    }
    good = {
        "x": torch.tensor([1.0]),
        "ids": torch.tensor([1, -100]),
        "text": "a",
        "boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
        "chat": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    }
    bad = {
        "DC110": {"x": torch.tensor([-9.0])},
        "DC215": {"ids": torch.tensor([10, 1])},
        "DC216": {"ids": torch.tensor([-100, -100])},
        "DC211": {"text": " "},
        "DC217": {"boxes": torch.tensor([[1.0, 0.0, 0.0, 1.0]])},
        "DC217 ": {"chat": [{"role": "user", "content": "a"}]},
    }
    samples = [good, *({**good, **change} for change in bad.values()), good]
    safe = SafeDataset(samples, schema=schema, on_bad="raise")
    assert safe[0] is not None
    for index, code in enumerate(bad, 1):
        with pytest.raises(Exception, match=code.strip()):
            safe[index]
    assert safe[len(samples) - 1] is not None


@pytest.mark.parametrize(
    ("dtype", "sentinel", "problem"),
    [
        ("uint8", -999, "uint8 cannot hold -999"),
        ("int8", 300, "int8 cannot hold 300"),
        ("int32", 1e20, "int32 cannot hold 1e\\+20"),
        ("int16", -0.5, "int16 cannot hold -0.5"),
        ("float16", 1e20, "float16 cannot hold"),
        ("string", -999, "put it in quotes"),
    ],
)
def test_a_sentinel_that_the_dtype_cannot_hold_is_an_error_or_a_note(dtype: str, sentinel: Any, problem: str) -> None:
    with pytest.raises(SchemaError, match=rf"fields.x.missing\[0\]: .*{problem}"):
        datacheck.load_schema({"fields": {"x": {"dtype": dtype, "missing": [sentinel]}}})
    datacheck.load_schema({"missing": [sentinel], "fields": {"x": {"dtype": dtype}}})
    values = ["a", "b"] if dtype == "string" else np.zeros(2, dtype)
    [note] = datacheck.scan(pa.table({"x": values}), {"fields": {"x": {"missing": [sentinel]}}}).findings
    assert (note.code, note.severity) == ("DC005", "info")
    assert f"which {dtype} cannot hold" in note.message
    assert datacheck.scan(pa.table({"x": values}), {"missing": [sentinel], "fields": {"x": {}}}).findings == ()


def test_words_stand_for_numbers_in_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\nn/a\n")
    schema = {"fields": {"x": {"dtype": "int64", "nullable": True, "missing": ["n/a"]}}}
    assert datacheck.scan(tmp_path / "a.csv", schema).findings == ()
    [note] = datacheck.scan(pa.table({"x": [1, 2]}), schema).findings
    assert "lists 'n/a', which int64 cannot hold" in note.message
