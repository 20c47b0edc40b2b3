"""Loads schemas from YAML files, Python references and pandera objects."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from datacheck.errors import SchemaError, UsageError
from datacheck.schema.model import Schema
from datacheck.schema.references import REFERENCE, import_reference
from datacheck.schema.yaml_file import load_yaml, validate
from datacheck.text import plain

_FILE_REFERENCE = re.compile(r"((?:[A-Za-z_]\w*/)*[A-Za-z_]\w*)\.py:([A-Za-z_][\w.]*)")

#: The path of a YAML file, ``package.module:Model``, a schema or its mapping, a pandera schema or model, or None.
SchemaLike = str | os.PathLike[str] | Schema | Mapping[str, Any] | type | None


def load_schema(reference: SchemaLike = None) -> Schema:
    """Load a schema.

    A string is the path of a YAML file, or ``package.module:Model`` if it has that form and no such file exists. Only
    then is anything imported, with the current folder on the import path as for ``python -m``. None is the default
    schema: no NaN and no infinity. Raises ``SchemaError``.
    """
    if reference is None:
        return Schema()
    if isinstance(reference, Schema):
        return _with_pandera(reference, "schema")
    if isinstance(reference, str | os.PathLike):
        path = os.fspath(reference)
        return _from_path(os.fsdecode(path))
    if isinstance(reference, Mapping):
        return parse_schema(reference, "schema")
    return _from_object(reference, "schema")


def parse_schema(mapping: Mapping[Any, Any], place: str) -> Schema:
    """Build a schema from a mapping, as read from YAML; ``place`` is its name in errors."""
    return _with_pandera(validate(Schema, mapping, place, SchemaError), place)


def _from_path(path: str) -> Schema:
    if not os.path.exists(path):  # noqa: PTH110 (a path with a NUL is no error here)
        if match := _FILE_REFERENCE.fullmatch(path):
            module = match[1].replace("/", ".")
            raise SchemaError(path, f"is a Python file; give the module instead, as in '{module}:{match[2]}'")
        if REFERENCE.fullmatch(path):
            return _from_object(import_reference(path), path)
    mapping = load_yaml(path)
    if {"inputs", "output"} <= mapping.keys():
        raise SchemaError(
            plain(path), "is a pipeline, not a schema; give the schema that it names, or use 'datacheck run'"
        )
    schema = parse_schema(mapping, plain(path))
    # Only there it makes a difference: a schema is the same wherever its file is.
    return schema.keep_folder(os.path.dirname(path)) if schema.references else schema  # noqa: PTH120 - may be a URI


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
