"""Named dimensions: the fields of a schema whose shapes share the name of a size, as in jaxtyping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NamedAxis:
    """One axis with a named size: its position in the shape of a field."""

    name: str
    path: str | None
    field: Any
    position: int


def named_axes(schema: Any) -> Iterator[NamedAxis]:
    """Every named axis of a schema's shapes, in order."""
    for path, field in schema.fields.items():
        for position, size in enumerate(field.shape or ()):
            if isinstance(size, str):
                yield NamedAxis(size, path, field, position)


def row_dimensions(schema: Any) -> dict[str, list[NamedAxis]]:
    """The dimensions that are one size within a row, with their axes; without those that have only one axis."""
    found: dict[str, list[NamedAxis]] = {}
    for axis in named_axes(schema):
        found.setdefault(axis.name, []).append(axis)
    return {name: axes for name, axes in found.items() if len(axes) > 1}


def needs_whole_files(schema: Any) -> bool:
    """Whether a dimension is more than the sizes within a row: it is one in a file, or arrays of a file share it."""
    paths: dict[str, set[str | None]] = {}
    for axis in named_axes(schema):
        paths.setdefault(axis.name, set()).add(axis.path)
    return any(scope != "row" for scope in schema.dimensions.values()) or any(len(some) > 1 for some in paths.values())
