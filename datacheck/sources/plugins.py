"""Sources that other packages register under the entry points ``datacheck.sources``."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

from datacheck.sources.base import Source

__all__ = ["plugin_format", "plugin_sources"]


@functools.cache
def plugin_sources() -> dict[str, Source]:
    """The registered sources by format; looked up once, and only where a built-in one does not serve."""
    return {point.name: point.load()() for point in importlib.metadata.entry_points(group="datacheck.sources")}


def plugin_format(uri: str) -> str | None:
    """The format of a registered source that a file's name stands for; None where it stands for none."""
    name = Path(uri).name.lower()
    return next((known for known, source in plugin_sources().items() if name.endswith(tuple(source.suffixes))), None)
