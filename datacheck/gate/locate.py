"""The configuration file: ``datacheck.yaml``, or ``[tool.datacheck]`` in ``pyproject.toml``, the nearest one upwards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datacheck.errors import ConfigurationError
from datacheck.schema.yaml_file import MAX_FILE_BYTES, load_yaml
from datacheck.text import plain

__all__ = ["PYPROJECT", "YAML", "ConfigurationFile", "find_file", "load_file"]

PYPROJECT = "pyproject.toml"
YAML = "datacheck.yaml"


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """What a configuration file says, unchecked. ``place`` names the file, and the table in it, in messages."""

    path: Path
    place: str
    content: Mapping[Any, Any]

    @property
    def folder(self) -> Path:
        return self.path.parent


def find_file(start: Path) -> ConfigurationFile | None:
    """The file that holds in ``start``: in it or above, no further up than the repository's root.

    Raises ``ConfigurationError`` for a file that cannot be read, and for a folder that holds both.
    """
    for folder in (start, *start.parents):
        yaml, pyproject = folder / YAML, folder / PYPROJECT
        table = load_file(pyproject) if pyproject.is_file() else None
        if yaml.is_file():
            if table is not None:
                problem = f"stands beside {YAML}, which sets the same; keep one of them"
                raise ConfigurationError(table.place, problem)
            return load_file(yaml)
        if table is not None:
            return table
        if (folder / ".git").exists():
            return None
    return None


def load_file(path: Path) -> ConfigurationFile | None:
    """What a file says; None for a ``.toml`` file without a table for datacheck. Raises ``ConfigurationError``."""
    place = plain(_shown(path))
    if path.suffix != ".toml":
        return ConfigurationFile(path, place, load_yaml(path, ConfigurationError))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(place, f"cannot be opened: {error.strerror}; check the path") from None
    if b"datacheck" not in content:
        return None
    table = _table(content, place)
    return None if table is None else ConfigurationFile(path, f"{place}: tool.datacheck", table)


def _table(content: bytes, place: str) -> Mapping[str, Any] | None:
    import tomllib

    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(place, f"is larger than {MAX_FILE_BYTES:,} bytes; is it a configuration file?")
    try:
        whole = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(place, f"is not valid TOML: {plain(str(error))}") from None
    tools = whole.get("tool")
    table = tools.get("datacheck") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(f"{place}: tool.datacheck", "must be a table")
    return table


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative
