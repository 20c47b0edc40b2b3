"""Libraries that are needed for one format only: imported when a file of it is read."""

from __future__ import annotations

import importlib
from typing import Any

from datacheck.errors import SourceError


class MissingLibraryError(SourceError):
    """A library that a format needs is not installed, which says nothing about the file."""


def import_library(uri: str, module: str, extra: str) -> Any:
    """Import a library that an extra installs; raises ``MissingLibraryError`` (DC901) that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        remedy = f"install it with: pip install 'datacheck-ml[{extra}]'"
        raise MissingLibraryError(
            "DC901", uri, f"{name} is required to read it, and is not installed", remedy
        ) from None
