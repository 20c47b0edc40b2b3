"""The configuration: the command line overrides the environment, then the configuration file, then defaults."""

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
from datacheck.jobs.reading import Reading
from datacheck.schema.references import REFERENCE
from datacheck.schema.validation import validate
from datacheck.storage.documents import exists, is_uri, join_path
from datacheck.storage.os_calls import local_uri, relative_uri
from datacheck.text import plain

#: The default baseline, next to the configuration file or in the current folder. It is used if it exists.
BASELINE_NAME = "datacheck-baseline.json"
DEFAULT = "default"

_KEYS = {name: info.alias or name for name, info in Settings.model_fields.items()}
#: Mappings that are merged entry by entry, so that each entry has its own origin.
_MERGED = ("severity", "reading")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings in effect. Their paths are absolute or relative to the current folder.

    The patterns of ``schemas`` are relative to ``root``, the patterns of ``exclude`` to ``exclude_root``. ``origins`` maps each
    key, or an entry such as ``severity.DC104``, to where it was set. A setting without an origin is a default.
    """

    settings: Settings
    root: Path
    origins: Mapping[str, str]
    exclude_root: Path

    def origin(self, key: str) -> str:
        """Where a setting was set."""
        return self.origins.get(key, DEFAULT)

    @property
    def baseline(self) -> str | None:
        """The baseline to compare with: the configured one, or the default one if it exists."""
        if self.settings.baseline is False:
            return None
        if self.settings.baseline is not None:
            return self.settings.baseline
        return self.default_baseline if Path(self.default_baseline).is_file() else None

    @property
    def default_baseline(self) -> str:
        return _shorten(self.root / BASELINE_NAME)


def configure(
    given: Mapping[str, Any] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    place_of: Callable[[str], str] = "--{}".format,
) -> Configuration:
    """The configuration for the current folder.

    Args:
        given: settings for this call, by key. None means not given.
        config: the configuration file. Default: ``DATACHECK_CONFIG``, or else the nearest one.
        environment: environment variables. Default: the variables of the process.
        place_of: how messages and origins name a key of ``given``.

    Raises:
        ConfigurationError: a setting is wrong; the message names its place.
    """
    variables = os.environ if environment is None else environment
    here = Path.cwd()
    file = _find_file(config, variables, here)
    stated = {key: value for key, value in (given or {}).items() if value is not None}
    layers = [_Layer(read_environment(variables), here, _variable_name), _Layer(stated, here, place_of)]
    if file is not None:
        layers.insert(0, _Layer(file.content, file.folder, file.place))

    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    folders: dict[str, Path | str] = {}
    for layer in layers:
        for key, value in layer.validate().items():
            _merge(merged, origins, key, _resolve_paths(key, value, layer.folder), layer.origin(key))
            folders[key] = layer.folder
    root = file.folder if file is not None and isinstance(file.folder, Path) else here
    exclude_root = folders.get("exclude", root)
    exclude_root = exclude_root if isinstance(exclude_root, Path) else root
    settings = Settings.model_validate(merged) if merged else Settings.model_construct()
    return Configuration(settings, root, origins, exclude_root)


@dataclass(frozen=True, slots=True)
class _Layer:
    """Settings from one place. ``place`` names the place of all of them, or of each one given its key."""

    content: Mapping[Any, Any]
    folder: Path | str
    place: str | Callable[[str], str]

    def origin(self, key: str) -> str:
        return self.place if isinstance(self.place, str) else self.place(key)

    def validate(self) -> dict[str, Any]:
        """The settings by key. Settings of one file are validated together, so that every mistake is reported."""
        if isinstance(self.place, str):
            parts = [validate(Settings, self.content, self.place, ConfigurationError)]
        else:
            parts = [
                validate(Settings, {key: value}, self.place(key), ConfigurationError)
                for key, value in self.content.items()
            ]
        return {_KEYS[name]: getattr(part, name) for part in parts for name in part.model_fields_set}


def _find_file(
    config: str | os.PathLike[str] | None, environment: Mapping[str, str], here: Path
) -> ConfigurationFile | None:
    named = environment.get(CONFIG) or None if config is None else config
    if named is None:
        return find_file(here)
    path = os.fspath(named) if is_uri(named) else here / named
    if isinstance(path, Path) and not os.path.isfile(path):  # noqa: PTH113 - no error for a name that is too long
        raise ConfigurationError(plain(os.fspath(named)), "no such configuration file; check the path")
    loaded = load_file(path)
    if loaded is None:
        raise ConfigurationError(plain(os.fspath(named)), "the table [tool.datacheck] is missing")
    return loaded


def _merge(merged: dict[str, Any], origins: dict[str, str], key: str, value: Any, origin: str) -> None:
    if key in _MERGED:
        value = value.model_dump(exclude_unset=True) if isinstance(value, Reading) else value
        merged[key] = {**merged.get(key, {}), **value}
        origins.update({f"{key}.{entry}": origin for entry in value})
        return
    merged[key], origins[key] = value, origin
    if key == "schema" and origins.get("schemas", origin) != origin:
        # A schema from a higher layer applies to all files, whatever the patterns of a lower one.
        merged["schemas"], origins["schemas"] = {}, origin


def _resolve_paths(key: str, value: Any, folder: Path | str) -> Any:
    """The value with its paths relative to the current folder."""
    if key in ("cache-dir", "baseline") and isinstance(value, str):
        return _located(value, folder)
    if key == "paths":
        return tuple(_located(path, folder) for path in value)
    if key == "schema":
        return _resolve_schema(value, folder)
    if key == "schemas":
        return {pattern: _resolve_schema(reference, folder) for pattern, reference in value.items()}
    return value


def _resolve_schema(reference: str, folder: Path | str) -> str:
    path = _located(reference, folder)
    return reference if REFERENCE.fullmatch(reference) and not exists(path) else path


def _located(path: str, folder: Path | str) -> str:
    """A path from a folder; a URI stays one."""
    if is_uri(path) or isinstance(folder, str):
        return join_path(os.fspath(folder), path)
    return _shorten(folder / Path(path).expanduser())


def _shorten(path: Path) -> str:
    """The path relative to the current folder if it is inside it, otherwise absolute."""
    relative = relative_uri(path)
    return local_uri(os.path.normpath(path)) if relative.startswith(os.pardir) else relative


def _variable_name(key: str) -> str:
    return PREFIX + key.replace("-", "_").upper()
