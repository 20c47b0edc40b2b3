"""The keys of a schema that must be unique over the whole dataset."""

from __future__ import annotations

from datacheck.schema.model import Schema


def unique_keys(schema: Schema) -> list[tuple[str, ...]]:
    """The unique keys: single fields and combinations of fields.

    The key of the field ``null`` (the array of an ``.npy``) is the empty tuple.
    """
    fields = [() if path is None else (path,) for path, field in schema.fields.items() if field.unique]
    return list(dict.fromkeys([*fields, *schema.unique]))


def key_field(key: tuple[str, ...]) -> str | None:
    """The name of a key in findings."""
    return ", ".join(key) if key else None


def key_columns(schema: Schema) -> tuple[str, ...]:
    """The columns that contain the keys: a field inside a struct is in the column that its path begins with."""
    return tuple(dict.fromkeys(outer for key in unique_keys(schema) for name in key for outer in outer_names(name)))


def outer_names(path: str) -> list[str]:
    """A path and the names of the columns that it may be inside of."""
    return [path, *(path[:place] for place, letter in enumerate(path) if letter in ".[" and place)]
