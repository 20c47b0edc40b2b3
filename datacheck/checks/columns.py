"""The columns and channels of an array or of lists: the values at one index of an axis, as leaves of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datacheck.arrow_layouts import take_rows
from datacheck.checks.base import Outcome
from datacheck.leaves import IntArray, Leaf, Level, Picked, Ragged, Regular
from datacheck.schema.field_parts import index_of, part_path, parts_of
from datacheck.schema.model import Field, Schema


@dataclass(frozen=True, slots=True)
class _Strided:
    """Every ``step``-th position of another leaf, from ``start``."""

    start: int
    step: int

    def parents(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        return self.start + self.step * positions, np.empty((len(positions), 0), np.int64)


def split_columns(leaf: Leaf, schema: Schema) -> Iterator[Leaf]:
    """A leaf for each index of an axis that the schema has rules for."""
    field = _field_with_parts(leaf, schema)
    return iter(()) if field is None else columns_of(leaf, field)


def columns_of(leaf: Leaf, field: Field) -> Iterator[Leaf]:
    """A leaf for each column or channel of a field, given one with its values."""
    which, parts = parts_of(field)
    path = None if leaf.path is None else leaf.path.removesuffix("[]")
    for key in parts:
        found = _part(leaf, which, index_of(field, key) or 0)
        if found is not None:
            selected, level = found
            yield replace(
                leaf,
                path=part_path(path, key),
                values=leaf.values if leaf.codes is not None else _chosen(leaf.values, selected),
                codes=None if leaf.codes is None else leaf.codes[selected],
                validity=None if leaf.validity is None else leaf.validity[selected],
                unconvertible=None if leaf.unconvertible is None else leaf.unconvertible[selected],
                missing=None if leaf.missing is None else leaf.missing[selected],
                levels=(level, *leaf.levels),
                shape=None,
            )


def missing_columns(leaf: Leaf, schema: Schema) -> Iterator[Outcome]:
    """An outcome for each column that an array does not have, or that cannot be distinguished from the others."""
    field = _field_with_parts(leaf, schema)
    if field is None:
        return
    which, parts = parts_of(field)
    size = _size(leaf, which)
    for key in parts:
        index = index_of(field, key) or 0
        if size is None:
            problem = (
                f"the {which} of lists inside lists cannot be distinguished, so the rule for {key!r} was not checked"
            )
            yield Outcome("DC005", leaf.path, 1, 1, rule=problem, detail=problem)
        elif 0 <= size <= index:
            detail = f"it has {size:,} {which}, and the schema has a rule for {key!r}"
            yield Outcome("DC004", leaf.path, 1, 1, rule=detail, detail=detail)
    if size is not None and size > len(parts) and not any(key.isdecimal() for key in parts):
        detail = f"it has {size:,} {which}, and the schema names {len(parts)}; name all, or use their numbers"
        yield Outcome("DC004", leaf.path, 1, 1, rule=detail, detail=detail)


def _field_with_parts(leaf: Leaf, schema: Schema) -> Field | None:
    """The field of a leaf's values, if it has columns or channels."""
    if not leaf.levels or leaf.values is None:
        return None
    field = schema.field_for(leaf.path)
    return field if field is not None and (field.columns or field.channels) else None


def _axis_level(leaf: Leaf, which: str) -> Level | None:
    """The level that has the axis; None if it is not one axis of all values."""
    levels = [level for level in leaf.levels if not isinstance(level, Picked)]
    if which == "channels" and len(levels) > 1:
        return None
    return levels[0] if levels and isinstance(levels[0], Regular | Ragged) else None


def _size(leaf: Leaf, which: str) -> int | None:
    """The number of columns; -1 if it differs from list to list, None if they cannot be told apart."""
    level = _axis_level(leaf, which)
    if level is None or isinstance(level, Ragged):
        return None if level is None else -1
    shape = _logical_shape(level)
    if len(shape) < 2:
        return 0
    return shape[-1] if which == "columns" else shape[1]


def _logical_shape(level: Any) -> tuple[int, ...]:
    """The shape with its axes in the order of the index."""
    first, *rest = level.shape
    return tuple(level.shape) if level.axes is None else (first, *(rest[axis] for axis in np.argsort(level.axes)))


def _part(leaf: Leaf, which: str, index: int) -> tuple[Any, Level] | None:
    """What selects the values at an index of the axis, and the step from them to the leaf; None if there are none."""
    level = _axis_level(leaf, which)
    size = _size(leaf, which)
    if level is None or size is None or 0 <= size <= index:
        return None
    if isinstance(level, Ragged):
        starts, lengths = level.offsets[:-1], np.diff(level.offsets)
        positions = starts[lengths > index] + index
        return positions, Picked(positions)
    assert isinstance(level, Regular)
    axis = len(level.shape) - 1 if which == "columns" else 1
    if level.axes is not None:
        axis = 1 + int(np.argsort(level.axes)[axis - 1])
    if level.order == "C" and axis == len(level.shape) - 1:
        return slice(index, None, size), _Strided(index, size)
    if level.order == "F" and axis == len(level.shape) - 1:
        length = math.prod(level.shape[:-1])
        return slice(index * length, (index + 1) * length), _Strided(index * length, 1)
    order: Any = level.order
    grid = np.arange(math.prod(level.shape), dtype=np.int64).reshape(level.shape, order=order)
    positions = np.sort(np.take(grid, index, axis=axis).reshape(-1))
    return positions, Picked(positions)


def _chosen(values: Any, selected: Any) -> Any:
    """Some values of a leaf: a view of an array where they are a slice."""
    if isinstance(values, np.ndarray):
        return values[selected]
    return take_rows(values, np.arange(len(values))[selected])
