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

__all__ = ["FieldValues", "Source", "values_of"]


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
        """The field to read; None for all, of which a pattern may match any."""
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

    ``positions`` are their flat positions in the leaf; None if it has no null.
    """

    leaf: Leaf
    values: Any
    positions: IntArray | None

    @property
    def num_slots(self) -> int:
        """The number of values and nulls."""
        return len(self.leaf) - (0 if self.leaf.unconvertible is None else int(self.leaf.unconvertible.sum()))

    def row_of(self, index: int) -> int:
        """The row of the batch that holds a value."""
        position = index if self.positions is None else int(self.positions[index])
        return int(self.leaf.locate(np.array([position]))[0][0])


def values_of(batch: Batch, source: Source) -> Iterator[FieldValues]:
    """The values of a field: of a list those inside it."""
    for leaf in _leaves_of(batch, source):
        wanted = source.field.dtype
        if wanted in FLOAT_FORMATS and leaf.dtype == FLOAT_FORMATS[wanted].name:
            leaf = replace(leaf, dtype=wanted)
        yield _present(leaf)


def _leaves_of(batch: Batch, source: Source) -> Iterator[Leaf]:
    """The leaves with the values of a field."""
    if source.owner is not None:
        for leaf in _leaves_of(batch, source.owner):
            if leaf.levels:
                yield from (part for part in columns_of(leaf, source.owner.field) if part.path == source.path)
        return
    for column in batch.columns:
        is_elsewhere = (
            column.name is not None and source.column is not None and not source.column.startswith(column.name)
        )
        if is_elsewhere and pattern_of(source.column or "") is None:
            continue
        for leaf in column.leaves():
            if leaf.values is None or not source.holds(leaf.path):
                continue
            if not leaf.is_numeric and pa.types.is_nested(leaf.values.type):
                continue
            yield leaf


def _present(leaf: Leaf) -> FieldValues:
    present = leaf.validity
    if leaf.unconvertible is not None and leaf.is_numeric:
        present = ~leaf.unconvertible if present is None else present & ~leaf.unconvertible
    if present is None:
        return FieldValues(leaf, leaf.values, None)
    positions = np.flatnonzero(present)
    values = leaf.values[positions] if leaf.is_numeric else leaf.values.take(pa.array(positions))
    return FieldValues(leaf, values, positions)
