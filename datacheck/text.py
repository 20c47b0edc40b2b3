"""Formats names, counts and values for people, in the same way in every report.

File and field names come from data and may be hostile: control characters, terminal escapes and bidirectional
overrides are escaped.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

#: What a password or a signature in a URL is replaced by.
HIDDEN = "REDACTED"
_USER = re.compile(r"(?<=://)[^/@?#\s]+(?=@)")
#: The value of a query parameter that gives access: the signatures of S3, Google, Azure and CloudFront, and tokens.
_SECRET = re.compile(
    r"(?i)(?<=[?&])([\w.-]*(?:signature|credential|secret|password|passwd|token|api-?key|access-?key|key-pair-id|policy)"
    r"|sig|key|auth)=(?!REDACTED\b)[^&#\s'\"]+"
)
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def redacted(text: str) -> str:
    """A text without the passwords and signatures of the URLs in it."""
    if "://" not in text:
        return text
    return _SECRET.sub(rf"\1={HIDDEN}", _USER.sub(HIDDEN, text))


def plain(text: str, limit: int = 200) -> str:
    """``text`` with every control, format and surrogate character escaped, and cut in the middle beyond ``limit``.

    Passwords and signatures in URLs are left out.
    """
    text = redacted(text)
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


def join_fitting(words: Sequence[str], width: int = 160) -> str:
    """Words side by side as far as they fit, with a count of the rest: ``.arrow .avro and 72 more``."""
    shown = list(words[:1])
    for word in words[1:]:
        if len(" ".join(shown)) + 1 + len(word) > width:
            break
        shown.append(word)
    hidden = len(words) - len(shown)
    return " ".join(shown) + (f" and {hidden:,} more" if hidden else "")


def find_variants(counts: Mapping[str, int]) -> dict[str, str]:
    """Texts that differ from a more frequent one only in case or in blanks, with that one; the most frequent first."""
    groups: dict[str, list[str]] = {}
    for text in counts:
        groups.setdefault(" ".join(text.split()).casefold(), []).append(text)
    found: dict[str, str] = {}
    for group in groups.values():
        usual, *others = sorted(group, key=lambda text: (-counts[text], text))
        found |= dict.fromkeys(others, usual)
    return dict(sorted(found.items(), key=lambda item: (-counts[item[0]], item[0])))


def describe_variants(variants: Mapping[str, str], counts: Mapping[str, int], limit: int = 3) -> str:
    """``'fridge ' (1) of 'fridge' (1,204), …``."""
    listed = [
        f"{plain(repr(text), 40)} ({count(counts[text])}) of {plain(repr(usual), 40)} ({count(counts[usual])})"
        for text, usual in list(variants.items())[:limit]
    ]
    return ", ".join(listed) + (", …" if len(variants) > limit else "")


def finite_json(value: Any) -> Any:
    """A value for strict JSON, which has no NaN: non-finite numbers as text, keys as text, tuples as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): finite_json(item) for key, item in value.items()}
    return [finite_json(item) for item in value] if isinstance(value, list | tuple) else value


def valid_text(text: str) -> str:
    """Text that Arrow can hold: surrogates, which stand for bytes that are not UTF-8, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
