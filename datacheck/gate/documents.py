"""YAML files of datacheck by their content: schemas, pipelines, configurations; each checked as what it is."""

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
from datacheck.schema.loading import load_schema
from datacheck.schema.model import Schema
from datacheck.schema.references import REFERENCE
from datacheck.schema.validation import validate
from datacheck.schema.yaml_file import MAX_FILE_BYTES, load_yaml
from datacheck.text import quantity

__all__ = ["check_document", "kind_of"]

_OURS = re.compile(rb"^(?:fields|inputs|pandera):", re.MULTILINE)
_YAML_SUFFIXES = (".yaml", ".yml")
#: Keys that no schema has, and every pipeline.
_OF_PIPELINES = frozenset({"inputs", "output"})
#: Keys of a schema, and what other tools call them, that no file of another kind is likely to have at its top.
_OF_SCHEMAS = frozenset({"fields", "pandera", *Schema.SYNONYMS})


def check_document(reference: str, *, skip_others: bool = False) -> str:
    """What a file holds, in a few words; a schema may also be named ``package.module:Model``.

    A file that is neither is checked as a schema, which says what is wrong with it; with ``skip_others`` it is passed over.
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
        if skip_others and Path(reference).is_file() and not _speaks_of_us(reference):
            return "no YAML of datacheck, passed over"
        raise
    kind = kind_of(content)
    if kind == "pipeline":
        return _check_pipeline(reference)
    if kind is None and skip_others:
        return "neither a schema nor a pipeline, passed over"
    return _describe(load_schema(reference))


def _speaks_of_us(path: str) -> bool:
    """Whether a file that is no valid YAML looks as if it was meant for datacheck."""
    with suppress(OSError), Path(path).open("rb") as file:
        return _OURS.search(file.read(MAX_FILE_BYTES)) is not None
    return False


def kind_of(content: Mapping[Any, Any]) -> str | None:
    """Whether the content of a YAML file is a ``schema`` or a ``pipeline``; None where it is neither."""
    if _OF_PIPELINES & content.keys():
        return "pipeline" if content.keys() >= _OF_PIPELINES or "clean" in content else None
    return "schema" if _OF_SCHEMAS & content.keys() else None


def _check_configuration(path: str) -> str:
    file = load_file(Path(path))
    if file is None:
        return "no table [tool.datacheck]"
    settings = validate(Settings, file.content, file.place, ConfigurationError)
    return f"a configuration of {quantity(len(settings.model_fields_set), 'setting')}"


def _check_pipeline(path: str) -> str:
    from datacheck.jobs.pipeline import load_pipeline

    pipeline = load_pipeline(path)
    return f"a pipeline of {quantity(len(pipeline.inputs), 'split')}, {quantity(len(pipeline.plan.rules), 'rule')}"


def _describe(schema: Schema) -> str:
    return f"{quantity(len(schema.fields), 'field')}, {quantity(len(schema.checks), 'check')}"
