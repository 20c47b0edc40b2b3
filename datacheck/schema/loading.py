"""Builds schemas from mappings, Python references and pandera objects."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from datacheck.errors import SchemaError, UsageError
from datacheck.schema.model import Schema
from datacheck.schema.references import REFERENCE, import_reference
from datacheck.schema.validation import validate

_FILE_REFERENCE = re.compile(r"((?:[A-Za-z_]\w*/)*[A-Za-z_]\w*)\.py:([A-Za-z_][\w.]*)")

#: The path of a YAML file, ``package.module:Model``, a schema or its mapping, a pandera schema or model, or None.
SchemaLike = str | os.PathLike[str] | Schema | Mapping[str, Any] | type | None


def schema_from_object(reference: object = None) -> Schema:
    """The schema that an object is, or stands for. None is the default schema: no NaN and no infinity."""
    if reference is None:
        return Schema.model_construct()
    return parse_schema(reference, "schema") if isinstance(reference, Mapping) else _from_object(reference, "schema")


def parse_schema(mapping: Mapping[Any, Any], place: str) -> Schema:
    """Build a schema from a mapping, as read from YAML; ``place`` is its name in errors."""
    return _with_pandera(validate(Schema, mapping, place, SchemaError), place)


def schema_from_python(name: str) -> Schema | None:
    """The schema that ``package.module:Model`` names; None for anything else. Raises ``SchemaError``."""
    if match := _FILE_REFERENCE.fullmatch(name):
        module = match[1].replace("/", ".")
        raise SchemaError(name, f"is a Python file; give the module instead, as in '{module}:{match[2]}'")
    return _from_object(import_reference(name), name) if REFERENCE.fullmatch(name) else None


def _from_object(found: object, place: str) -> Schema:
    if isinstance(found, Schema):
        return _with_pandera(found, place)
    if not _is_from_pandera(found if isinstance(found, type) else type(found)):
        raise UsageError(
            f"{place}: expected a YAML file, package.module:Model, a Schema, or a pandera schema or model, "
            f"got {type(found).__name__}"
        )
    from datacheck.schema.pandera_reading import from_pandera

    return from_pandera(found, reference=place if REFERENCE.fullmatch(place) else None)


def _is_from_pandera(kind: type) -> bool:
    """Whether a class is pandera's, or derives from one; told without importing pandera."""
    return any(base.__module__.partition(".")[0] == "pandera" for base in kind.__mro__)


def _with_pandera(schema: Schema, place: str) -> Schema:
    """Fill in what the schema does not state from its ``pandera:`` reference."""
    if schema.pandera is None:
        return schema
    from datacheck.schema.pandera_reading import fold_pandera

    return fold_pandera(schema, place)
