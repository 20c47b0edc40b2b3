"""What holds: the command line beats the environment, which beats the file, which beats the defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datacheck.errors import ConfigurationError
from datacheck.gate.environment import CONFIG, PREFIX, read_environment
from datacheck.gate.locate import ConfigurationFile, find_file, load_file
from datacheck.gate.settings import Settings
from datacheck.schema.references import REFERENCE
from datacheck.schema.validation import validate
from datacheck.text import plain

__all__ = ["BASELINE_NAME", "DEFAULT", "Configuration", "configure"]

#: The baseline that is used where one stands beside the configuration file, or else in the current folder.
BASELINE_NAME = "datacheck-baseline.json"
DEFAULT = "default"

_KEYS = {name: info.alias or name for name, info in Settings.model_fields.items()}
#: Settings of which every entry comes from its own place.
_BY_ENTRY = ("severity",)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings that hold. Paths in them are relative to the current folder, or absolute.

    ``root`` is the folder that the patterns of ``schemas`` are relative to, ``exclude_root`` that of ``exclude``.
    ``origins`` says where each setting comes from, by its key; an entry of ``severity`` is ``severity.DC104``. A
    setting without an origin is a default.
    """

    settings: Settings
    root: Path
    origins: Mapping[str, str]
    exclude_root: Path

    def origin(self, key: str) -> str:
        """Where a setting comes from."""
        return self.origins.get(key, DEFAULT)

    @property
    def baseline(self) -> str | None:
        """The baseline to judge by: the one that is set, or the one of the usual name if it is there."""
        if self.settings.baseline is False:
            return None
        if self.settings.baseline is not None:
            return self.settings.baseline
        usual = self.usual_baseline
        return usual if Path(usual).is_file() else None

    @property
    def usual_baseline(self) -> str:
        return _relative(self.root / BASELINE_NAME)


def configure(
    given: Mapping[str, Any] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    place: Callable[[str], str] = "--{}".format,
) -> Configuration:
    """The configuration that holds in the current folder.

    Args:
        given: settings that were given for this call, by key; those that are None are not.
        config: the configuration file; the nearest one unless set here or by ``DATACHECK_CONFIG``.
        environment: the variables; those of the process unless given.
        place: what a setting of ``given`` is called in messages and origins.

    Raises:
        ConfigurationError: a setting is wrong; the message says in which place.
    """
    variables = os.environ if environment is None else environment
    here = Path.cwd()
    file = _file(config, variables, here)
    stated = {key: value for key, value in (given or {}).items() if value is not None}
    layers = [_Layer(read_environment(variables), here, _variable), _Layer(stated, here, place)]
    if file is not None:
        layers.insert(0, _Layer(file.content, file.folder, file.place))

    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    folders: dict[str, Path] = {}
    for layer in layers:
        for key, value in layer.checked().items():
            _set(merged, origins, key, _resolved(key, value, layer.folder), layer.origin(key))
            folders[key] = layer.folder
    root = here if file is None else file.folder
    return Configuration(Settings.model_validate(merged), root, origins, folders.get("exclude", root))


@dataclass(frozen=True, slots=True)
class _Layer:
    """Settings that one place makes. Its name is that of the place, or is made of each setting's key."""

    content: Mapping[Any, Any]
    folder: Path
    place: str | Callable[[str], str]

    def origin(self, key: str) -> str:
        return self.place if isinstance(self.place, str) else self.place(key)

    def checked(self) -> dict[str, Any]:
        """The settings by key; those of a file are checked together, for then every problem is told."""
        if isinstance(self.place, str):
            parts = [validate(Settings, self.content, self.place, ConfigurationError)]
        else:
            parts = [
                validate(Settings, {key: value}, self.place(key), ConfigurationError)
                for key, value in self.content.items()
            ]
        return {_KEYS[name]: getattr(part, name) for part in parts for name in part.model_fields_set}


def _file(
    config: str | os.PathLike[str] | None, environment: Mapping[str, str], here: Path
) -> ConfigurationFile | None:
    named = environment.get(CONFIG) or None if config is None else config
    if named is None:
        return find_file(here)
    path = here / named
    if not os.path.isfile(path):  # noqa: PTH113 - no error for a name that is too long
        raise ConfigurationError(plain(os.fspath(named)), "there is no such configuration file; check the path")
    loaded = load_file(path)
    if loaded is None:
        raise ConfigurationError(plain(os.fspath(named)), "has no table [tool.datacheck]")
    return loaded


def _set(merged: dict[str, Any], origins: dict[str, str], key: str, value: Any, origin: str) -> None:
    if key in _BY_ENTRY:
        merged[key] = {**merged.get(key, {}), **value}
        origins.update({f"{key}.{entry}": origin for entry in value})
        return
    merged[key], origins[key] = value, origin
    if key == "schema" and origins.get("schemas", origin) != origin:
        # A schema that is named for this call is meant for all of its files.
        merged["schemas"], origins["schemas"] = {}, origin


def _resolved(key: str, value: Any, folder: Path) -> Any:
    """The value with its paths written from the current folder."""
    if key in ("cache-dir", "baseline") and isinstance(value, str):
        return _relative(folder / Path(value).expanduser())
    if key == "paths":
        return tuple(_relative(folder / Path(path).expanduser()) for path in value)
    if key == "schema":
        return _schema(value, folder)
    if key == "schemas":
        return {pattern: _schema(reference, folder) for pattern, reference in value.items()}
    return value


def _schema(reference: str, folder: Path) -> str:
    path = folder / Path(reference).expanduser()
    if REFERENCE.fullmatch(reference) and not os.path.exists(path):  # noqa: PTH110 - no error for a name that is too long
        return reference
    return _relative(path)


def _relative(path: Path) -> str:
    """A path as short as it can be written from the current folder; absolute where it lies elsewhere."""
    relative = os.path.relpath(path)
    return os.path.normpath(path) if relative.startswith(os.pardir) else relative


def _variable(key: str) -> str:
    return PREFIX + key.replace("-", "_").upper()
