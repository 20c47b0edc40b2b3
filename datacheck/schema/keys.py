"""The keys of a schema that must be unique over the whole dataset."""

from __future__ import annotations

from datacheck.schema.model import Schema

__all__ = ["key_columns", "key_field", "unique_keys"]


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
    found: dict[str, None] = {}
    for key in unique_keys(schema):
        for name in key:
            found[name] = None
            found.update({name[:place]: None for place, letter in enumerate(name) if letter == "."})
    return tuple(found)
