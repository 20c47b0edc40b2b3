"""Find and read the configuration file: the nearest ``datacheck.yaml``, or ``pyproject.toml`` with ``[tool.datacheck]``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datacheck.errors import ConfigurationError
from datacheck.storage.documents import folder_of, load_yaml, read_document
from datacheck.storage.os_calls import relative_uri
from datacheck.text import plain

PYPROJECT = "pyproject.toml"
YAML = "datacheck.yaml"


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """The content of a configuration file, not yet validated. ``place`` names the file and its table in messages."""

    path: Path | str
    place: str
    content: Mapping[Any, Any]

    @property
    def folder(self) -> Path | str:
        """The folder of the file; a URI where the file is not of this machine."""
        return self.path.parent if isinstance(self.path, Path) else folder_of(self.path)


def find_file(start: Path) -> ConfigurationFile | None:
    """The configuration file for the folder ``start``: in it or in a folder above, up to the root of the repository.

    Raises ``ConfigurationError`` for a file that cannot be read, and for a folder with both kinds of file.
    """
    for folder in (start, *start.parents):
        yaml, pyproject = folder / YAML, folder / PYPROJECT
        table = load_file(pyproject) if pyproject.is_file() else None
        if yaml.is_file():
            if table is not None:
                raise ConfigurationError(table.place, f"{YAML} is in the same folder; keep one of the two")
            return load_file(yaml)
        if table is not None:
            return table
        if (folder / ".git").exists():
            return None
    return None


def load_file(path: Path | str) -> ConfigurationFile | None:
    """Read a file; None for a ``.toml`` file without ``[tool.datacheck]``. Raises ``ConfigurationError``."""
    place = plain(_display_path(path) if isinstance(path, Path) else path)
    if not str(path).endswith(".toml"):
        return ConfigurationFile(path, place, load_yaml(path, ConfigurationError))
    content = read_document(path, "a configuration file", error=ConfigurationError)
    if b"datacheck" not in content:
        return None
    table = _parse_table(content, place)
    return None if table is None else ConfigurationFile(path, f"{place}: tool.datacheck", table)


def _parse_table(content: bytes, place: str) -> Mapping[str, Any] | None:
    import tomllib

    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(place, f"is not valid TOML: {plain(str(error))}") from None
    tools = document.get("tool")
    table = tools.get("datacheck") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(f"{place}: tool.datacheck", "must be a table")
    return table


def _display_path(path: Path) -> str:
    relative = relative_uri(path)
    return str(path) if relative.startswith(os.pardir) else relative
