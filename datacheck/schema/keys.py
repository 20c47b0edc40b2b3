"""Which keys of a schema must be unique over the whole data set."""

from __future__ import annotations

from datacheck.schema.model import Schema

__all__ = ["key_columns", "key_field", "unique_keys"]


def unique_keys(schema: Schema) -> list[tuple[str, ...]]:
    """The keys that must be unique over the data set: fields of their own, and combinations.

    The key of the field ``null``, which is the array of an ``.npy``, has no name in it.
    """
    fields = [() if path is None else (path,) for path, field in schema.fields.items() if field.unique]
    return list(dict.fromkeys([*fields, *schema.unique]))


def key_field(key: tuple[str, ...]) -> str | None:
    """A key as findings name it."""
    return ", ".join(key) if key else None


def key_columns(schema: Schema) -> tuple[str, ...]:
    """The columns that keys are read from: a field inside a struct lies in the column that its path begins with."""
    found: dict[str, None] = {}
    for key in unique_keys(schema):
        for name in key:
            found[name] = None
            found.update({name[:place]: None for place, letter in enumerate(name) if letter == "."})
    return tuple(found)
