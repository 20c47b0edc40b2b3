"""Reads and writes configuration files in YAML, with errors that give the file and the path inside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datacheck.errors import ConfigurationError, SchemaError, nearest_name
from datacheck.schema.validation import fault, validate
from datacheck.text import count, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_FILE_BYTES", "dump_yaml", "fault", "load_yaml", "parse_yaml", "validate"]

#: Configuration files are written by hand: a larger one is a mistake or an attack.
MAX_FILE_BYTES = 1 << 20


def load_yaml(path: str | os.PathLike[str], error_type: type[ConfigurationError] = SchemaError) -> dict[Any, Any]:
    """The mapping in a YAML file; raises ``error_type`` with the file, and the line if there is one."""
    place = plain(os.fspath(path))
    if not os.fspath(path):
        raise error_type("''", "expected the name of a file, got an empty string")
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise error_type(place, f"no such file{_nearest_file(Path(path))}") from None
    except (OSError, ValueError) as error:
        if os.path.isdir(path):  # noqa: PTH112  (of a name that is too long, is_dir raises)
            raise error_type(place, "is a folder; expected a YAML file") from None
        reason = getattr(error, "strerror", None) or str(error)
        raise error_type(place, f"cannot be opened: {reason}; check the path and its permissions") from None
    if len(content) > MAX_FILE_BYTES:
        raise error_type(place, f"is larger than {count(MAX_FILE_BYTES)} bytes; is it a configuration file?")
    return parse_yaml(content, place, error_type)


def parse_yaml(content: bytes | str, place: str, error_type: type[ConfigurationError] = SchemaError) -> dict[Any, Any]:
    """The mapping in YAML text; ``place`` is its name in errors."""
    # The parser takes 10 ms to import, and most scans read no YAML.
    from datacheck.schema import yaml_text

    return yaml_text.parse_yaml(content, place, error_type)


def dump_yaml(value: Mapping[Any, Any]) -> str:
    """YAML text that :func:`parse_yaml` reads back as an equal value, with keys in the same order."""
    from datacheck.schema import yaml_text

    return yaml_text.dump_yaml(value)


def _nearest_file(path: Path) -> str:
    folder = path.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return f"; the folder '{plain(str(folder))}' does not exist either"
    hint = nearest_name(path.name, names)
    if not hint:
        return f"; the folder '{plain(str(folder))}' has no file with a similar name"
    return plain(hint)
