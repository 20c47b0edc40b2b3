"""Settings from the environment: ``DATACHECK_SELECT=DC1,DC9``. Mappings of paths and fields are for the file alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from datacheck.errors import ConfigurationError, nearest_name
from datacheck.text import plain

__all__ = ["CONFIG", "PREFIX", "parse_pairs", "read_environment", "split_list", "unknown_variables"]

PREFIX = "DATACHECK_"
#: Names the configuration file itself.
CONFIG = f"{PREFIX}CONFIG"

#: What Kubernetes sets in every pod beside a service called datacheck.
_OF_A_SERVICE = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")

_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def split_list(text: str) -> list[str]:
    """``DC1, DC9`` as two texts."""
    return [part for part in (part.strip() for part in text.split(",")) if part]


def parse_pairs(texts: list[str], place: str) -> dict[str, str]:
    """``DC104=warning`` as a key and a value; raises ``ConfigurationError``."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigurationError(place, f"must be CODE=LEVEL, such as DC104=warning, and is {plain(text)!r}")
        pairs[key.strip()] = value.strip()
    return pairs


def _to_bool(text: str) -> bool | str:
    return _WORDS.get(text.strip().lower(), text)


def _to_baseline(text: str) -> bool | str:
    return False if _WORDS.get(text.strip().lower()) is False else text


def _to_whole(text: str) -> int | str:
    return int(text) if text.strip().isdecimal() else text


def _to_severity(text: str) -> dict[str, str]:
    return parse_pairs(split_list(text), f"{PREFIX}SEVERITY")


#: Variable, without its prefix, to the setting and how its text is read.
_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "PATHS": ("paths", split_list),
    "SCHEMA": ("schema", str),
    "EXCLUDE": ("exclude", split_list),
    "SELECT": ("select", split_list),
    "IGNORE": ("ignore", split_list),
    "SEVERITY": ("severity", _to_severity),
    "BASELINE": ("baseline", _to_baseline),
    "CACHE": ("cache", _to_bool),
    "CACHE_DIR": ("cache-dir", str),
    "FORMAT": ("format", str),
    "COLOR": ("color", str),
    "WORKERS": ("workers", _to_whole),
}


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the environment makes; an empty variable makes none."""
    return {
        setting: read(environment[PREFIX + name])
        for name, (setting, read) in _VARIABLES.items()
        if environment.get(PREFIX + name)
    }


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for each variable that looks like ours and says nothing, such as a misspelt one."""
    known = [CONFIG, *(PREFIX + name for name in _VARIABLES)]
    return [
        f"{plain(name)} is not a variable that is known{nearest_name(name, known)}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and not _OF_A_SERVICE.fullmatch(name)
    ]
