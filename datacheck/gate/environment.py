"""Settings from environment variables such as ``DATACHECK_SELECT=DC1,DC9``. Only a file can set path and field mappings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from datacheck.errors import ConfigurationError, nearest_name
from datacheck.text import plain

PREFIX = "DATACHECK_"
#: The path of the configuration file.
CONFIG = f"{PREFIX}CONFIG"

#: Variables that Kubernetes sets in every pod next to a service called datacheck.
_KUBERNETES = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def split_list(text: str) -> list[str]:
    """``"DC1, DC9"`` as ``["DC1", "DC9"]``."""
    return [part for part in (part.strip() for part in text.split(",")) if part]


def parse_pairs(texts: Iterable[str], place: str, expected: str) -> dict[str, str]:
    """``["DC104=warning"]`` as ``{"DC104": "warning"}``. Raises ``ConfigurationError``, which says what was ``expected``."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigurationError(place, f"expected {expected}, got {plain(text)!r}")
        pairs[key.strip()] = value.strip()
    return pairs


def _to_bool(text: str) -> bool | str:
    return _BOOLEANS.get(text.strip().lower(), text)


def _to_baseline(text: str) -> bool | str:
    return False if _BOOLEANS.get(text.strip().lower()) is False else text


def _to_int(text: str) -> int | str:
    return int(text) if text.strip().isdecimal() else text


def _to_severity(text: str) -> dict[str, str]:
    return parse_pairs(split_list(text), f"{PREFIX}SEVERITY", "CODE=LEVEL such as DC104=warning")


#: Variable without its prefix -> the setting, and the parser of its text.
_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "PATHS": ("paths", split_list),
    "SCHEMA": ("schema", str),
    "EXCLUDE": ("exclude", split_list),
    "SELECT": ("select", split_list),
    "IGNORE": ("ignore", split_list),
    "SEVERITY": ("severity", _to_severity),
    "NOTES": ("notes", _to_bool),
    "BASELINE": ("baseline", _to_baseline),
    "CACHE": ("cache", _to_bool),
    "CACHE_DIR": ("cache-dir", str),
    "FORMAT": ("format", str),
    "COLOR": ("color", str),
    "WORKERS": ("workers", _to_int),
}

#: What switches guards off: a variable of the training door.
_GUARD = "DATACHECK_GUARD"


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings in the environment. An empty variable counts as unset."""
    return {
        setting: parse(environment[PREFIX + name])
        for name, (setting, parse) in _VARIABLES.items()
        if environment.get(PREFIX + name)
    }


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A message for each unknown ``DATACHECK_`` variable."""
    known = [CONFIG, _GUARD, *(PREFIX + name for name in _VARIABLES)]
    return [
        f"unknown variable {plain(name)}{nearest_name(name, known)}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and not _KUBERNETES.fullmatch(name)
    ]
