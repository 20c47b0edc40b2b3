"""Which keys of a schema must be unique over the whole data set."""

from __future__ import annotations

from datacheck.schema.model import Schema

__all__ = ["unique_keys"]


def unique_keys(schema: Schema) -> list[tuple[str, ...]]:
    """The keys that must be unique over the data set: fields of their own, and combinations."""
    fields = [(path,) for path, field in schema.fields.items() if field.unique and path is not None]
    return list(dict.fromkeys([*fields, *schema.unique]))
