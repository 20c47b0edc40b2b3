"""What a profile collects beyond counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datacheck.schema.model import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """What a profile collects beyond counts.

    Attributes:
        max_distinct: distinct values to count per field; fields with more have no vocabulary. 0 counts none.
        code_fields: paths of integers that have a vocabulary; None for all.
        count_codes: also count the integers of columns with one integer a row.
        with_extremes: find the least and greatest values.
        with_samples: keep samples of numbers.
        with_notes: collect what the notes on suspicious values need.
        find_unique: hash columns whose values may all be different.
        hash_rows: hash whole rows.
        keys: the columns of each key to hash.
        quick_rows: hash long rows by a few of their values. Equal rows still have equal hashes.
        slotwise: see :func:`~datacheck.hashing.rows.add_leaf`.
        num_words: words of 64 bits in the hash of a row or key; a second one confirms matches of very many rows.
        known: vocabularies by path; other values are collected as new.
        stored_as: floating-point formats that unsigned integers store, by path.
        casts: dtypes to cast to before hashing, or "exact" to hash equal values alike, by path.
        row_columns: columns that whole rows consist of; None for all.
        row_exclude: columns that are not part of whole rows.
        missing_in: the schema whose ``missing`` values count as nulls.
    """

    max_distinct: int = 0
    code_fields: frozenset[str | None] | None = None
    count_codes: bool = False
    with_extremes: bool = True
    with_samples: bool = False
    with_notes: bool = False
    find_unique: bool = False
    hash_rows: bool = False
    keys: tuple[tuple[str, ...], ...] = ()
    quick_rows: bool = False
    slotwise: bool = False
    num_words: int = 1
    known: Mapping[str | None, frozenset[Any]] = field(default_factory=dict)
    stored_as: Mapping[str, str] = field(default_factory=dict)
    casts: Mapping[str | None, str] = field(default_factory=dict)
    row_columns: frozenset[str | None] | None = None
    row_exclude: frozenset[str] = frozenset()
    missing_in: Schema | None = None

    def is_in_rows(self, name: str | None) -> bool:
        """Whether a column is part of whole rows."""
        return (self.row_columns is None or name in self.row_columns) and name not in self.row_exclude
