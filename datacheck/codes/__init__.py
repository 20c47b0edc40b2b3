"""The table of codes: what each one finds, why that is bad, an example and how to mend it.

It is the one source of ``datacheck explain``, one family of codes a file. Codes are stable: a released code keeps its
number and its meaning.
"""

from __future__ import annotations

from datacheck.codes import bounds, guard, numbers, rows, structure, training, unreadable
from datacheck.codes.code import Code

__all__ = ["CODES", "Code"]

_FAMILIES = (structure.CODES, numbers.CODES, bounds.CODES, rows.CODES, training.CODES, guard.CODES, unreadable.CODES)

#: Every code by its number.
CODES: dict[str, Code] = {entry.code: entry for family in _FAMILIES for entry in family}
