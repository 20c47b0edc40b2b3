"""The JSON Schema of a schema file, for editors: generated from the model."""

from __future__ import annotations

import json
from typing import Any, Final

from datacheck.schema.builtin_checks import BUILTIN_CHECKS
from datacheck.schema.dtypes import known_dtypes, parametric_patterns
from datacheck.schema.model import Schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_json() -> dict[str, Any]:
    """A JSON Schema of a schema file."""
    generated = Schema.model_json_schema()
    generated["title"] = "datacheck schema"
    _forget_titles(generated)
    field = generated["$defs"]["Field"]
    field["description"] = "What one field must be."
    generated["$defs"]["Expression"]["description"] = "A rule across fields that must hold in every row."
    generated["description"] = "What the data must be."
    generated["properties"]["version"] = {"const": 1, "default": 1, "description": "The version of this format."}
    field["properties"]["dtype"] |= {
        "anyOf": [
            {"enum": known_dtypes()},
            *({"type": "string", "pattern": f"^(?:{pattern})$"} for pattern in parametric_patterns()),
            {"type": "null"},
        ]
    }
    field["properties"]["isin"]["anyOf"][0]["minItems"] = 1
    field["properties"]["shares"] = field["properties"]["share"]
    field["properties"]["checks"]["properties"] = {name: {} for name in sorted(BUILTIN_CHECKS)}
    generated["properties"]["fields"]["additionalProperties"] = {"anyOf": [{"$ref": "#/$defs/Field"}, {"type": "null"}]}
    generated["properties"]["checks"]["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Expression"}]}
    return {"$schema": DIALECT, **generated}


def schema_json_text() -> str:
    """The JSON Schema as ``schemas/datacheck.schema.json`` holds it."""
    return json.dumps(schema_json(), indent=2) + "\n"


def _forget_titles(node: Any) -> None:
    """Drop pydantic's titles, which repeat the names of keys: editors show the descriptions."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str) and node["title"] != "datacheck schema":
            del node["title"]
        for inner in node.values():
            _forget_titles(inner)
    elif isinstance(node, list):
        for inner in node:
            _forget_titles(inner)
