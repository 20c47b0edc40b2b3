"""What only pandera can check of a pandera schema, because datacheck has no constraint for it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from datacheck.errors import SchemaError
from datacheck.schema.pandera_constraints import OWN_CHECK, column_constraints
from datacheck.schema.pandera_dtypes import pandas_value, plain_value
from datacheck.schema.protocols import FieldProtocol, SchemaProtocol
from datacheck.schema.references import import_reference
from datacheck.text import plain


def as_pandera_schema(found: Any, place: str) -> Any:
    """The ``DataFrameSchema`` of a pandera schema or model; raises ``SchemaError`` for what files cannot be checked for."""
    import pandera.pandas as pandera

    if isinstance(found, type) and hasattr(found, "to_schema"):
        try:
            found = found.to_schema()
        except Exception as error:  # whatever pandera finds wrong with the user's model
            raise SchemaError(place, f"pandera cannot build the schema: {plain(str(error))}") from error
    if not isinstance(found, pandera.DataFrameSchema):
        kind = f"{type(found).__module__}.{type(found).__name__}"
        raise SchemaError(place, f"expected a pandera.pandas DataFrameSchema or DataFrameModel, got {kind}")
    _refuse_unsupported(found, place)
    return found


def _refuse_unsupported(schema: Any, place: str) -> None:
    from pandera.api.hypotheses import Hypothesis

    if schema.index is not None:
        raise SchemaError(place, "has an index, which the rows of a file do not have; make it a column")
    checks: list[tuple[str | None, Any]] = [(None, check) for check in schema.checks]
    for name, column in schema.columns.items():
        if not isinstance(name, str):
            raise SchemaError(place, f"has a column {name!r}; column names must be strings")
        if column.regex and column.unique:
            raise SchemaError(place, f"'{name}' is a pattern and unique; name each unique column")
        checks += [(name, check) for check in column.checks]
    for name, check in checks:
        if isinstance(check, Hypothesis):
            where = "the data frame" if name is None else f"'{name}'"
            raise SchemaError(place, f"the check {check.name} of {where} is a statistical test; run it with pandera")


def left_to_pandera(schema: SchemaProtocol) -> Any:
    """The part of the schema's pandera object that only pandera can check; None if there is none."""
    found = schema.pandera_object
    if found is None and schema.pandera is not None:
        found = as_pandera_schema(import_reference(schema.pandera), schema.pandera)
    return None if found is None else remainder(found, schema)


def remainder(pandera_schema: Any, schema: SchemaProtocol) -> Any:
    """The part of a pandera schema that ``schema`` does not check already; None if nothing is left.

    Uniqueness is never part of it, since it needs the whole dataset.
    """
    import pandera.pandas as pandera

    if pandera_schema.parsers:
        columns = {name: _without_unique(column) for name, column in pandera_schema.columns.items()}
    else:
        columns = {
            name: left
            for name, column in pandera_schema.columns.items()
            if (left := _column_left(column, pandera_schema.dtype, schema.fields.get(name))) is not None
        }
    checks = [check for check in pandera_schema.checks if not (check.name or "").startswith(OWN_CHECK)]
    if pandera_schema.ordered:
        columns = {
            name: columns.get(name) or pandera.Column(nullable=True, required=False) for name in pandera_schema.columns
        }
    elif not columns and not checks and not pandera_schema.parsers:
        return None
    return pandera.DataFrameSchema(
        columns, checks, parsers=pandera_schema.parsers, ordered=pandera_schema.ordered, name=pandera_schema.name
    )


def _column_left(column: Any, frame_dtype: Any, field: FieldProtocol | None) -> Any:
    """The column without what the field checks already; None if nothing is left."""
    import pandera.pandas as pandera

    if column.regex or column.parsers:
        return _without_unique(column)
    found = column_constraints(column, frame_dtype)
    checks = [
        *found.checks,
        *(check for check, constraints in found.sources if field is None or not _says(field, constraints)),
    ]
    dtype = found.constraints.get("dtype")
    dtype_is_left = found.dtype_is_left or (dtype is not None and (field is None or field.dtype != dtype))
    nullable = bool(column.nullable or (field is not None and not field.nullable))
    required = bool(column.required and (field is None or not field.required))
    if not checks and not dtype_is_left and nullable and not required:
        return None
    return pandera.Column(
        (column.dtype or frame_dtype) if dtype_is_left else None,
        checks,
        nullable=nullable,
        required=required,
        coerce=column.coerce and dtype_is_left,
    )


def _says(field: FieldProtocol, constraints: Mapping[str, Any]) -> bool:
    """Whether a field states the same as the constraints of a check."""
    for constraint, value in constraints.items():
        stated = getattr(field, constraint)
        if constraint == "checks":
            if any(stated.get(name) != arguments for name, arguments in value.items()):
                return False
        elif stated is None or _as_pandera_stores(stated, field.dtype) != value:
            return False
    return True


def _as_pandera_stores(value: Any, dtype: str | None) -> Any:
    if isinstance(value, tuple):
        return [_as_pandera_stores(member, dtype) for member in value]
    return plain_value(pandas_value(value, dtype))


def _without_unique(column: Any) -> Any:
    copied = copy.copy(column)
    copied.unique = False
    return copied
