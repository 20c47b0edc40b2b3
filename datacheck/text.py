"""Formats names, counts and values for people, in the same way in every report.

File and field names come from data and may be hostile: control characters, terminal escapes and bidirectional
overrides are escaped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = ["count", "join_limited", "ordinal_list", "plain", "quantity"]

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str, limit: int = 200) -> str:
    """``text`` with every control, format and surrogate character escaped, and cut in the middle beyond ``limit``."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(_escape(character) for character in text)
    if len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text


def _escape(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    return character.encode("unicode_escape").decode("ascii")


def count(number: int) -> str:
    """``4096`` as ``4,096``."""
    return f"{number:,}"


def quantity(number: int, singular: str, plural: str | None = None) -> str:
    """``1 row``, ``4,096 rows``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def ordinal_list(label: str, numbers: Sequence[int], more: bool = False) -> str:
    """``row 7`` or ``rows 7, 8, 9, …``; an empty string for no numbers."""
    if not numbers:
        return ""
    joined = ", ".join(str(number) for number in numbers)
    plural = "" if len(numbers) == 1 and not more else "s"
    return f"{label}{plural} {joined}{', …' if more else ''}"


def join_limited(names: Sequence[str], limit: int = 8) -> str:
    """Quoted names joined by commas, with a count of the rest: ``'a', 'b' and 3 more``."""
    shown = ", ".join(f"'{plain(name)}'" for name in names[:limit])
    hidden = len(names) - limit
    return f"{shown} and {hidden:,} more" if hidden > 0 else shown
