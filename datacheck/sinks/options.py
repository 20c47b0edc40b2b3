"""Checks of sink options, which come from pipeline files and can be of any type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datacheck.errors import UsageError, nearest_name
from datacheck.text import plain


def check_compression(sink: str, given: object, known: Sequence[str]) -> None:
    """Raise ``UsageError`` for an unknown compression."""
    if given not in known:
        name = plain(str(given))
        raise UsageError(
            f"{sink}: unknown compression '{name}'{nearest_name(name, known)}; use one of {', '.join(known)}"
        )


def check_metadata(sink: str, given: object) -> None:
    """Raise ``UsageError`` if schema metadata is not a mapping of strings to strings."""
    if not isinstance(given, Mapping) or not all(
        isinstance(text, str | bytes) for pair in given.items() for text in pair
    ):
        raise UsageError(f"{sink}: metadata: expected strings by name, such as {{'origin': 'nycflights13'}}")
