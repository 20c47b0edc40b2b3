"""The manifest, the last file that a run writes: if it exists, the output is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from datacheck.errors import OutputError
from datacheck.reports.run_report import MANIFEST_VERSION
from datacheck.storage import read_bytes, storage_of
from datacheck.text import plain

__all__ = ["MANIFEST_NAME", "STATISTICS_NAME", "damage_of", "files_of", "read_manifest"]

MANIFEST_NAME = "manifest.json"
STATISTICS_NAME = "statistics.json"


def read_manifest(output: str) -> dict[str, Any] | None:
    """The manifest of an output folder; None if there is none. Raises ``OutputError`` if it is invalid."""
    uri = f"{output}/{MANIFEST_NAME}"
    try:
        record: dict[str, Any] = json.loads(read_bytes(uri))
        if record["version"] != MANIFEST_VERSION:
            raise OutputError(
                f"{plain(uri)}: manifest version {record['version']}, expected {MANIFEST_VERSION};"
                " remove the folder and run again"
            )
        if not isinstance(record["fingerprint"], str) or not all(isinstance(name, str) for name in files_of(record)):
            raise ValueError("incomplete manifest")
        return record
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = plain(f"{type(error).__name__}: {error}")
        raise OutputError(f"{plain(uri)}: not a datacheck manifest ({problem}); choose another output") from None


def files_of(manifest: Mapping[str, Any]) -> list[str]:
    """The files that a manifest lists, relative to its folder."""
    parts = [part["path"] for account in manifest["inputs"] for part in account["outputs"]]
    return parts if manifest["statistics"] is None else [*parts, manifest["statistics"]]


def damage_of(output: str, manifest: Mapping[str, Any]) -> str:
    """The first missing or truncated file of an output, as a message; empty if every file has its recorded size."""
    for account in manifest["inputs"]:
        for part in account["outputs"]:
            uri = f"{output}/{part['path']}"
            try:
                size = storage_of(uri).stat(uri).fingerprint.size
            except OSError as error:
                return f"{plain(uri)}: {error.strerror or error}"
            if size != part["num_bytes"]:
                return f"{plain(uri)}: expected {part['num_bytes']:,} bytes, got {size:,}"
    return ""
