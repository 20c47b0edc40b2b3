"""Keys that occur twice in one object of JSON. Parsers keep one of the values: the last, or the first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from datacheck.batch import Fault
from datacheck.findings import MAX_EXAMPLES
from datacheck.text import plain

_END_OF_KEY = int.from_bytes(b'":', "little")
_BLOCK = 1 << 17


def may_have_duplicates(data: bytes, num_keys: int) -> bool:
    """Whether JSON has another number of keys than its parsed objects: then one may have been lost. Cheap."""
    found = 0
    # Pairs of bytes, those that begin at even places and those at odd ones.
    for first in (0, 1):
        pairs = np.frombuffer(data, "<u2", (len(data) - first) // 2, first) if len(data) > first else np.empty(0, "<u2")
        for start in range(0, len(pairs), _BLOCK):
            found += int(np.count_nonzero(pairs[start : start + _BLOCK] == _END_OF_KEY))
    if found == num_keys:
        return False
    # Quotes in strings are no ends of keys, and blanks may follow one.
    return found - data.count(b'\\":') + data.count(b'" :') != num_keys


def duplicate_keys(lines: Sequence[bytes]) -> Iterator[Fault]:
    """A fault for each key that occurs twice in an object of a record; each line is one record."""
    found: dict[str, list[int]] = {}
    twice: dict[str, None] = {}

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    twice[key] = None
                seen.add(key)
        return keys

    for row, line in enumerate(lines):
        twice.clear()
        try:
            json.loads(line, object_pairs_hook=collect)
        except (ValueError, RecursionError):
            continue
        for key in twice:
            found.setdefault(key, []).append(row)
    for key, rows in found.items():
        detail = "most readers keep the last value, some the first"
        examples = tuple((row, "") for row in rows[:MAX_EXAMPLES])
        yield Fault("DC016", plain(key, 120), len(lines), np.array(rows, np.int64), examples, detail)
