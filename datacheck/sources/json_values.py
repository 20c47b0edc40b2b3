"""JSON that is parsed as a whole, if its values take little enough memory."""

from __future__ import annotations

import json
from typing import Any

from datacheck.errors import SourceError
from datacheck.sources.base import MAX_BYTES_AT_ONCE, REWRITE_FILE

#: What a value takes as a Python object in a list, and in the columns that are made of it.
_BYTES_OF_VALUE = 100


def bytes_of_values(text: bytes) -> int:
    """About how much memory the values of some JSON take: a list of empty lists takes many times its text."""
    return _BYTES_OF_VALUE * sum(map(text.count, (b",", b"[", b"{")))


def load_sample(text: bytes) -> Any:
    """The value of the JSON in a sample; raises ``ValueError`` for a bomb, and what ``json`` raises."""
    if problem := _problem(text):
        raise ValueError(problem)
    return json.loads(text)


def check_values(uri: str, text: bytes) -> None:
    """Raise ``SourceError`` (DC904) for JSON whose values would take more memory than any file may."""
    if problem := _problem(text):
        raise SourceError("DC904", uri, problem, REWRITE_FILE)


def load_values(uri: str, text: bytes) -> Any:
    """The value of the JSON in a file; raises ``SourceError`` (DC904) for a bomb, and what ``json`` raises."""
    check_values(uri, text)
    return json.loads(text)


def _problem(text: bytes) -> str:
    num_bytes = bytes_of_values(text)
    return f"its values would take about {num_bytes:,} bytes" if num_bytes > MAX_BYTES_AT_ONCE else ""
