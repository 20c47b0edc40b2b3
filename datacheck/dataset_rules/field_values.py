"""The values of one field in a batch, inside lists and structs too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.checks.columns import columns_of
from datacheck.leaves import FLOAT_FORMATS, IntArray, Leaf
from datacheck.schema.field_paths import is_pattern, pattern_of
from datacheck.schema.model import Field


@dataclass(frozen=True, slots=True)
class Source:
    """The field that a rule is about; ``is_only`` if it is the schema's only one, which a nameless array is then, too.

    A column of another field has that one's source as ``owner``.
    """

    path: str | None
    field: Field
    is_only: bool = False
    owner: Source | None = None

    @property
    def column(self) -> str | None:
        """The field to read; None for all fields, any of which a pattern may match."""
        path = self.path if self.owner is None else self.owner.path
        return None if path is None or is_pattern(path) else path

    def holds(self, path: str | None) -> bool:
        """Whether values at a leaf's path are values of the field."""
        if path is None or self.path is None:
            return path == self.path or (path is None and self.is_only)
        pattern = pattern_of(self.path)
        if pattern is not None and pattern.fullmatch(path.removesuffix("[]") if "[]" not in self.path else path):
            return True
        return path.startswith(self.path) and not path[len(self.path) :].replace("[]", "")


@dataclass(frozen=True, slots=True)
class FieldValues:
    """The values of a leaf that are no nulls: a NumPy array for numbers, an Arrow array for others.

    ``positions`` are their flat positions in the leaf; None if it has no null. ``codes``, if distinct values were asked for
    and the leaf has them: ``values`` are then different, and each position has that at its code.
    """

    leaf: Leaf
    values: Any
    positions: IntArray | None
    codes: IntArray | None = None

    @property
    def num_values(self) -> int:
        """The number of values that are not null."""
        return len(self.values if self.codes is None else self.codes)

    @property
    def num_slots(self) -> int:
        """The number of values and nulls."""
        return len(self.leaf) - (0 if self.leaf.unconvertible is None else int(self.leaf.unconvertible.sum()))

    def rows_of(self, indices: IntArray) -> IntArray:
        """The rows of the batch that hold some of the values."""
        positions = indices if self.positions is None else self.positions[indices]
        return self.leaf.locate(positions)[0]


def values_of(batch: Batch, source: Source, *, distinct: bool = False) -> Iterator[FieldValues]:
    """The values of a field, of a list the values inside it. With ``distinct``, values of a dictionary may come with codes."""
    for leaf in _leaves_of(batch, source, distinct):
        wanted = source.field.dtype
        if wanted in FLOAT_FORMATS and leaf.dtype == FLOAT_FORMATS[wanted].name:
            leaf = replace(leaf, dtype=wanted)
        yield _present(leaf)


def _leaves_of(batch: Batch, source: Source, distinct: bool = False) -> Iterator[Leaf]:
    """The leaves with the values of a field."""
    if source.owner is not None:
        for leaf in _leaves_of(batch, source.owner):
            if leaf.levels:
                yield from (part for part in columns_of(leaf, source.owner.field) if part.path == source.path)
        return
    path = source.column  # None where a pattern may match any
    for column in batch.columns:
        if path is not None and column.name is not None and not path.startswith(column.name):
            continue
        for leaf in column.leaves(distinct=distinct):
            if leaf.values is None or not source.holds(leaf.path):
                continue
            if not leaf.is_numeric and pa.types.is_nested(leaf.values.type):
                continue
            yield leaf


def _present(leaf: Leaf) -> FieldValues:
    present = leaf.validity
    if leaf.unconvertible is not None and leaf.is_numeric:
        present = ~leaf.unconvertible if present is None else present & ~leaf.unconvertible
    positions = None if present is None else np.flatnonzero(present)
    if leaf.codes is not None:
        return FieldValues(leaf, leaf.values, positions, leaf.codes if positions is None else leaf.codes[positions])
    if positions is None:
        return FieldValues(leaf, leaf.values, None)
    values = leaf.values[positions] if leaf.is_numeric else leaf.values.take(pa.array(positions))
    return FieldValues(leaf, values, positions)
