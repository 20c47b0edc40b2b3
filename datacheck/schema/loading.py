"""Loads schemas from YAML files, Python references and pandera objects, and saves them as YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datacheck.errors import SchemaError, UsageError
from datacheck.schema.model import Schema
from datacheck.schema.references import REFERENCE, import_reference
from datacheck.schema.yaml_file import dump_yaml, load_yaml, validate
from datacheck.text import plain

__all__ = ["SchemaLike", "dump_schema", "load_schema", "parse_schema", "save_schema"]

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


def dump_schema(schema: Schema) -> str:
    """The schema as YAML that loads back as an equal one. Only what differs from the defaults is written.

    With a ``pandera`` reference, which fills in what the fields leave out, everything they state is written.
    """
    record = {"version": schema.version, **schema.model_dump(mode="json", exclude_defaults=True)}
    all_stated = schema.pandera is not None
    record["fields"] = {
        name: field.model_dump(mode="json", exclude_unset=all_stated, exclude_defaults=not all_stated)
        for name, field in schema.fields.items()
    }
    if not schema.fields:
        del record["fields"]
    return dump_yaml(record)


def save_schema(schema: Schema, path: str | os.PathLike[str]) -> None:
    """Write the schema as a YAML file."""
    Path(path).write_text(dump_schema(schema), encoding="utf-8")


def _from_path(path: str) -> Schema:
    if not os.path.exists(path):  # noqa: PTH110 (a path with a NUL is no error here)
        if match := _FILE_REFERENCE.fullmatch(path):
            module = match[1].replace("/", ".")
            raise SchemaError(path, f"is a Python file; give the module instead, as in '{module}:{match[2]}'")
        if REFERENCE.fullmatch(path):
            return _from_object(import_reference(path), path)
    schema = parse_schema(load_yaml(path), plain(path))
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
