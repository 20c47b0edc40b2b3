"""The checks of a schema that need whole rows or pandera."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datacheck.checks.expression import ExpressionCheck

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datacheck.checks.base import RowCheck
    from datacheck.schema.model import Schema

__all__ = ["build_row_checks"]


def build_row_checks(schema: Schema, names: Sequence[str]) -> list[RowCheck]:
    """The schema's expressions, its fields' pandera checks, and its pandera schema, for a file with columns ``names``.

    Batches must have all columns. Raises ``SchemaError`` if the pandera schema cannot be imported.
    """
    checks: list[RowCheck] = [ExpressionCheck(expression, schema) for expression in schema.checks]
    fields = [(path, field) for path, field in schema.fields.items() if field.checks and _may_be_in(path, names)]
    if fields or schema.pandera is not None or schema.pandera_object is not None:
        from datacheck.checks.pandera_checks import PanderaFieldCheck, PanderaSchemaCheck

        checks += [PanderaFieldCheck(schema, path, name) for path, field in fields for name in field.checks]
        checks += PanderaSchemaCheck.of(schema)
    return checks


def _may_be_in(path: str | None, names: Sequence[str]) -> bool:
    """Whether a path may lead to values of these columns; the nameless array is a column with an empty name."""
    return (
        path is None or "" in names or any(path == name or path.startswith((f"{name}.", f"{name}[]")) for name in names)
    )
