"""Check schemas, pipelines and configuration files, and tell them apart by their content."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from datacheck.errors import ConfigurationError
from datacheck.gate.locate import PYPROJECT, YAML, load_file
from datacheck.gate.settings import Settings
from datacheck.schema.model import Schema
from datacheck.schema.references import REFERENCE
from datacheck.schema.validation import validate
from datacheck.schema.yaml_file import MAX_FILE_BYTES
from datacheck.storage.documents import is_uri, load_schema, load_yaml
from datacheck.text import quantity

_DATACHECK_KEY = re.compile(rb"^(?:fields|inputs|pandera):", re.MULTILINE)
_YAML_SUFFIXES = (".yaml", ".yml")
#: Keys of every pipeline, and of no schema.
_PIPELINE_KEYS = frozenset({"inputs", "output"})
#: Top-level keys of a schema, and their names in other tools. Other YAML files are unlikely to have them.
_SCHEMA_KEYS = frozenset({"fields", "pandera", *Schema.SYNONYMS})


def check_document(reference: str, *, skip_others: bool = False) -> str:
    """Check a file and describe it in a few words. A schema may also be named as ``package.module:Model``.

    A file of another kind is checked as a schema, so that the error lists its unknown keys. ``skip_others`` skips it.
    Raises ``ConfigurationError``.
    """
    name = os.path.basename(reference)  # noqa: PTH119 - a reference need not be a path
    if name in (YAML, PYPROJECT):
        return _check_configuration(reference)
    if not name.lower().endswith(_YAML_SUFFIXES) and REFERENCE.fullmatch(reference):
        return _describe(load_schema(reference))
    try:
        content = load_yaml(reference)
    except ConfigurationError:
        if skip_others and Path(reference).is_file() and not _mentions_datacheck_keys(reference):
            return "not a datacheck file, skipped"
        raise
    kind = kind_of(content)
    if kind == "pipeline":
        return _check_pipeline(reference)
    if kind is None and skip_others:
        return "neither a schema nor a pipeline, skipped"
    return _describe(load_schema(reference))


def _mentions_datacheck_keys(path: str) -> bool:
    """Whether a file with a YAML syntax error looks like a schema or a pipeline."""
    with suppress(OSError), Path(path).open("rb") as file:
        return _DATACHECK_KEY.search(file.read(MAX_FILE_BYTES)) is not None
    return False


def kind_of(content: Mapping[Any, Any]) -> str | None:
    """``"schema"`` or ``"pipeline"``; None for other YAML files."""
    if _PIPELINE_KEYS & content.keys():
        return "pipeline" if content.keys() >= _PIPELINE_KEYS or "clean" in content else None
    return "schema" if _SCHEMA_KEYS & content.keys() else None


def _check_configuration(path: str) -> str:
    file = load_file(path if is_uri(path) else Path(path))
    if file is None:
        return "no [tool.datacheck] table"
    settings = validate(Settings, file.content, file.place, ConfigurationError)
    return f"configuration with {quantity(len(settings.model_fields_set), 'setting')}"


def _check_pipeline(path: str) -> str:
    from datacheck.jobs.pipeline import load_pipeline

    pipeline = load_pipeline(path)
    return f"pipeline with {quantity(len(pipeline.inputs), 'split')}, {quantity(len(pipeline.plan.rules), 'rule')}"


def _describe(schema: Schema) -> str:
    if schema.own_checks or any(field.own_checks for field in schema.fields.values()):
        from datacheck.checks.own_checks import register_own_checks

        register_own_checks(schema)
    return schema.summary()
