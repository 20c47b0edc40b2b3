"""JSON files of datacheck's own, with a checksum: one that was damaged is noticed, and never believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from datacheck.storage import storage_of
from datacheck.text import plain

_CHECKSUM = "checksum"
#: No file of ours is larger; a larger one is not read.
_MAX_BYTES = 1 << 30


class DamagedError(ValueError):
    """A file is not what datacheck wrote; the message says why."""


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of plain JSON values with its checksum."""
    return {**record, _CHECKSUM: _checksum(record)}


def read_json(uri: str) -> dict[str, Any]:
    """The JSON object in a file; raises ``OSError`` and ``DamagedError``."""
    with storage_of(uri).open(uri) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DamagedError(f"larger than {_MAX_BYTES:,} bytes")
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"not JSON: {plain(str(error), 100)}") from None
    if not isinstance(record, dict):
        raise DamagedError("not a JSON object")
    return record


def unsealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record that was :func:`sealed`; raises ``DamagedError`` if it has changed since."""
    rest = {name: value for name, value in record.items() if name != _CHECKSUM}
    if _CHECKSUM not in record:
        raise DamagedError("it has no checksum")
    if record[_CHECKSUM] != _checksum(rest):
        raise DamagedError("its checksum does not match its content")
    return rest


def _checksum(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
