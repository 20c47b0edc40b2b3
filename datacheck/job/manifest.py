"""The manifest, the last file that a run writes: whoever finds one finds a whole output."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datacheck.errors import OutputError
from datacheck.reports.accounts import MANIFEST_VERSION
from datacheck.text import plain

__all__ = ["MANIFEST_NAME", "read_manifest", "sum_counts"]

MANIFEST_NAME = "manifest.json"


def read_manifest(output: Path) -> dict[str, Any] | None:
    """The manifest of an output folder; None where there is none. Raises ``OutputError`` for one that is broken."""
    path = output / MANIFEST_NAME
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        if record["version"] != MANIFEST_VERSION:
            raise OutputError(f"{plain(str(path))}: is of version {record['version']}; remove the folder and run again")
        return record
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{plain(str(path))}: is no manifest of datacheck ({error}); choose another output") from None


def sum_counts(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Counts by name, added."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items()))
