"""The checks that need whole rows or pandera, as a schema asks for them."""

from __future__ import annotations

from collections.abc import Sequence

from datacheck.checks.base import RowCheck
from datacheck.checks.expression import ExpressionCheck
from datacheck.schema.model import Schema

__all__ = ["build_row_checks"]


def build_row_checks(schema: Schema, names: Sequence[str]) -> list[RowCheck]:
    """The schema's expressions, its fields' pandera checks, and its pandera schema, for a file with columns ``names``.

    Batches must hold all columns. Raises ``SchemaError`` where the pandera schema cannot be imported.
    """
    checks: list[RowCheck] = [ExpressionCheck(expression, schema) for expression in schema.checks]
    present = set(names)
    if schema.pandera or schema.pandera_object is not None or any(field.checks for field in schema.fields.values()):
        from datacheck.checks.pandera_checks import PanderaFieldCheck, PanderaSchemaCheck

        checks += [
            PanderaFieldCheck(path, name, arguments)
            for path, field in schema.fields.items()
            if path is None or path.partition(".")[0] in present or path in present
            for name, arguments in field.checks.items()
        ]
        checks += PanderaSchemaCheck.of(schema)
    return checks
