"""Reads and writes YAML text, with errors that give the file and the path inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datacheck.errors import ConfigurationError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Configuration files are written by hand: a larger one is a mistake or an attack.
MAX_FILE_BYTES = 1 << 20


def parse_yaml(content: bytes | str, place: str, error_type: type[ConfigurationError] = SchemaError) -> dict[Any, Any]:
    """The mapping in YAML text; ``place`` is its name in errors."""
    # The parser takes 10 ms to import, and most scans read no YAML.
    from datacheck.schema import yaml_text

    return yaml_text.parse_yaml(content, place, error_type)


def dump_yaml(value: Mapping[Any, Any]) -> str:
    """YAML text that :func:`parse_yaml` reads back as an equal value, with keys in the same order."""
    from datacheck.schema import yaml_text

    return yaml_text.dump_yaml(value)
