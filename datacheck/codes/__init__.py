"""The table of codes, one family a file: the source of ``datacheck explain`` and of every decision that depends on a code.

Codes are stable: a released code keeps its number and its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from datacheck.codes import bounds, datasets, guard, media, notes, numbers, rows, structure, training, unreadable
from datacheck.codes.code import Code, Family, Level

__all__ = [
    "CODES",
    "DUPLICATE_ROW",
    "MALFORMED_ROW",
    "OWN_CODE",
    "UNCHECKABLE",
    "Code",
    "Family",
    "Level",
    "codes_with_prefix",
    "longest_prefix",
    "register_code",
]

_FILES = (structure, numbers, bounds, rows, datasets, training, guard, notes, media, unreadable)

#: Every code by its number.
CODES: dict[str, Code] = {entry.code: entry for file in _FILES for entry in file.CODES}

#: A code, or the beginning of one, of a check of the user's.
OWN_CODE = re.compile(r"X\d{1,6}", re.ASCII)

#: The codes of rows that are found outside the checks of a batch: by comparing keys, and by the parser.
DUPLICATE_ROW, MALFORMED_ROW = "DC301", "DC305"
#: The code of what could not be checked.
UNCHECKABLE = "DC005"
#: A key that a record lacks, of a field that must have a value, and of one that the schema does not mention.
MISSING_KEY, OTHER_MISSING_KEY = "DC107", "DC108"


def register_code(code: Code) -> bool:
    """Add the code of a check of the user's; False if another check has it."""
    known = CODES.setdefault(code.code, code)
    codes_with_prefix.cache_clear()
    return known == code


@lru_cache(maxsize=1024)
def codes_with_prefix(*prefixes: str) -> frozenset[str]:
    """The codes that a user selects with ``prefixes``, such as ``DC2`` or ``DC101``."""
    return frozenset(code for code in CODES if code.startswith(prefixes))


def longest_prefix(code: str, prefixes: Iterable[str]) -> str | None:
    """The most specific of ``prefixes`` that selects ``code``; None if none does."""
    return max((prefix for prefix in prefixes if code.startswith(prefix)), key=len, default=None)
