"""The JSON Schema for editors matches the model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from datacheck.errors import SchemaError
from datacheck.schema.json_schema import schema_json, schema_json_text
from datacheck.storage.documents import load_schema, load_yaml

SCHEMAS = Path(__file__).parent.parent.parent / "schemas"


def test_the_committed_file_matches_the_model() -> None:
    command = (
        "from datacheck.schema.json_schema import schema_json_text as t; "
        "open('schemas/datacheck.schema.json', 'w').write(t())"
    )
    assert (SCHEMAS / "datacheck.schema.json").read_text(encoding="utf-8") == schema_json_text(), f"run {command!r}"


def test_it_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema_json())


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_schemas_of_the_examples_are_valid(path: Path) -> None:
    jsonschema.validate(json.loads(json.dumps(load_yaml(path))), schema_json(), jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ({}, True),
        (
            {"fields": {"a": None, "null": {"shape": [None, 3]}}, "checks": ["a > 1", {"expr": "a < 3", "name": "x"}]},
            True,
        ),
        ({"fields": {"a": {"dtype": "timestamp[us, tz=UTC]", "ge": "2024-01-01T00:00Z"}}, "unique": ["a"]}, True),
        (
            {"fields": {"a": {"checks": {"notin": [1]}, "dtype": "decimal128(5, 2)"}}, "unique": [["a"], ["b", "c"]]},
            True,
        ),
        ({"determines": {"text": "label", "a": ["b"]}, "sequence": {"by": "s", "on": "t", "step": 1}}, True),
        ({"own_checks": "mine:check", "missing": -999, "fields": {"a": {"own_checks": ["x"], "missing": "n/a"}}}, True),
        ({"sequence": {"onn": "t"}}, False),
        ({"feilds": {}}, False),
        ({"fields": {"a": {"dtpye": "int8"}}}, False),
        ({"fields": {"a": {"dtype": "int7"}}}, False),
        ({"fields": {"a": {"nullable": "maybe"}}}, False),
        ({"fields": {"a": {"shape": [-1]}}}, False),
        ({"fields": {"a": {"isin": []}}}, False),
        ({"checks": [{"name": "x"}]}, False),
        ({"version": 2}, False),
    ],
)
def test_it_accepts_and_rejects_the_same_as_the_model(document: dict[str, Any], valid: bool) -> None:
    validator = jsonschema.Draft202012Validator(schema_json())
    assert validator.is_valid(document) is valid
    with nullcontext() if valid else pytest.raises(SchemaError):
        load_schema(document)
