"""The checks of a schema that need whole rows or pandera."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datacheck.checks.dimensions import DimensionCheck
from datacheck.checks.expression import ExpressionCheck
from datacheck.schema.builtin_checks import SET_CHECKS
from datacheck.schema.dimensions import row_dimensions
from datacheck.schema.field_paths import is_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datacheck.checks.base import FileCheck, RowCheck
    from datacheck.schema.model import Schema


def build_row_checks(schema: Schema, names: Sequence[str]) -> list[RowCheck]:
    """The checks of a file with columns ``names`` that judge each row by itself: expressions and pandera's.

    Batches must have all columns. Raises ``SchemaError`` if the pandera schema cannot be imported.
    """
    checks: list[RowCheck] = [ExpressionCheck(expression, schema) for expression in schema.row_rules]
    if row_dimensions(schema):
        checks.append(DimensionCheck(schema))
    return [*checks, *_pandera_checks(schema, names, whole_file=False)]


def is_across_fields(check: RowCheck) -> bool:
    """Whether a check compares fields of a row, and so cannot judge an array alone."""
    return isinstance(check, ExpressionCheck | DimensionCheck)


def build_file_checks(schema: Schema) -> list[FileCheck]:
    """The pandera checks that need all rows of a file at once. Raises ``SchemaError`` like :func:`build_row_checks`."""
    return _pandera_checks(schema, None, whole_file=True)


def _pandera_checks(schema: Schema, names: Sequence[str] | None, *, whole_file: bool) -> list[FileCheck]:
    """The pandera checks of a schema; checks of fields only where ``names`` may have the field."""
    fields = [(path, name) for path, field in schema.fields.items() for name in field.checks if name not in SET_CHECKS]
    if not fields and schema.pandera is None and schema.pandera_object is None:
        return []
    from datacheck.checks.pandera_checks import PanderaFieldCheck, PanderaSchemaCheck

    checks = [PanderaFieldCheck(schema, path, name) for path, name in fields if names is None or may_be_in(path, names)]
    return [
        *(check for check in checks if check.needs_whole_file == whole_file),
        *PanderaSchemaCheck.of(schema, whole_file=whole_file),
    ]


def may_be_in(path: str | None, names: Sequence[str]) -> bool:
    """Whether a path may lead to values of these columns; the nameless array is a column with an empty name."""
    if path is not None and is_pattern(path):
        return True
    return (
        path is None or "" in names or any(path == name or path.startswith((f"{name}.", f"{name}[]")) for name in names)
    )
