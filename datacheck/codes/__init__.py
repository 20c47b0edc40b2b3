"""The table of codes, one family a file: the source of ``datacheck explain`` and of every decision that depends on a code.

Codes are stable: a released code keeps its number and its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

from datacheck.codes import bounds, datasets, guard, media, notes, numbers, rows, structure, training, unreadable
from datacheck.codes.code import Code, Family, Level
from datacheck.errors import nearest_name

__all__ = [
    "CODES",
    "DUPLICATE_ROW",
    "MALFORMED_ROW",
    "MISSING_FIELD",
    "OWN_CODE",
    "UNCHECKABLE",
    "UNDECODABLE",
    "Code",
    "Family",
    "Level",
    "code_named",
    "codes_with_prefix",
    "longest_prefix",
    "nearest_code",
    "register_code",
    "value_by_prefix",
]

T = TypeVar("T")

_FILES = (structure, numbers, bounds, rows, datasets, training, guard, notes, media, unreadable)

#: Every code by its number.
CODES: dict[str, Code] = {entry.code: entry for file in _FILES for entry in file.CODES}

#: A code, or the beginning of one, of a check of the user's.
OWN_CODE = re.compile(r"X\d{1,6}", re.ASCII)

#: The codes of rows that are found outside the checks of a batch: by comparing keys, and by the parser.
DUPLICATE_ROW, MALFORMED_ROW = "DC301", "DC305"
#: The code of a field of the schema that a file lacks.
MISSING_FIELD = "DC001"
#: The code of what could not be checked.
UNCHECKABLE = "DC005"
#: The code of a label file with errors, which are in no row.
WRONG_LABEL = "DC607"
#: The code of a value that is there, and cannot be decoded.
UNDECODABLE = "DC601"
#: A key that a record lacks, of a field that must have a value, and of one that the schema does not mention.
MISSING_KEY, OTHER_MISSING_KEY = "DC107", "DC108"


def register_code(code: Code) -> bool:
    """Add the code of a check of the user's; False if another check has it."""
    known = CODES.setdefault(code.code, code)
    codes_with_prefix.cache_clear()
    return known == code


def is_unread(code: str) -> bool:
    """Whether a code says that something could not be read or checked."""
    return code == UNCHECKABLE or CODES[code].family is Family.UNREADABLE


def code_named(text: str) -> str:
    """The code that a user means by its number or its name, in any case; what looks like none stays as it is."""
    other = text.upper() if text[-1:].isdigit() else text
    return next((code for code, known in CODES.items() if known.name == text.lower()), other)


def nearest_code(text: str) -> str:
    """A ``; did you mean 'nan'?`` with the name or the number nearest to a text, or an empty string."""
    return nearest_name(text.lower(), [code.name for code in CODES.values()]) or nearest_name(text.upper(), CODES)


@lru_cache(maxsize=1024)
def codes_with_prefix(*prefixes: str) -> frozenset[str]:
    """The codes that a user selects with ``prefixes``, such as ``DC2`` or ``DC101``."""
    return frozenset(code for code in CODES if longest_prefix(code, prefixes) is not None)


def value_by_prefix(code: str, values: Mapping[str, T]) -> T | None:
    """The value of the most specific prefix of ``code``; None if there is none."""
    prefix = longest_prefix(code, values)
    return None if prefix is None else values[prefix]


def longest_prefix(code: str, prefixes: Iterable[str]) -> str | None:
    """The most specific of ``prefixes`` that selects ``code``; None if none does. A whole code selects only itself."""
    selecting = (one for one in prefixes if code == one or (one not in CODES and code.startswith(one)))
    return max(selecting, key=len, default=None)
