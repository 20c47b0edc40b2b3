"""How a file is read that is checked against a schema."""

from __future__ import annotations

import re
from dataclasses import replace

from datacheck.checks.checker import has_row_checks
from datacheck.dataset_rules.dataset_state import build_dataset_rules, reads_single_columns
from datacheck.formats import format_of_name
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Field, Schema
from datacheck.sources.base import ReadOptions

#: How a date or time in ISO format begins.
_TIME = re.compile(r"\d{4}-\d\d")


def read_options(options: ReadOptions, schema: Schema) -> ReadOptions:
    """The options for reading a file that is checked against ``schema`` and nothing else."""
    dtypes = text_dtypes(schema)
    by_columns = not has_row_checks(schema) and all(len(key) == 1 for key in unique_keys(schema))
    by_columns = by_columns and reads_single_columns(build_dataset_rules(schema))
    words = tuple(value for value in schema.missing if isinstance(value, str) and value not in options.csv_null_values)
    return replace(
        options,
        by_columns=by_columns,
        keep_going=True,
        dtypes=options.dtypes or dtypes,
        look_into=True,
        nan_fields=tuple(path for path, field in schema.fields.items() if path is not None and field.allow_nan),
        csv_null_values=(*options.csv_null_values, *words),
    )


def array_name(uri: str, schema: Schema) -> str | None:
    """The field that a file of one array holds: that with the name of the file, if the schema has several fields."""
    record = format_of_name(uri)
    if record is None or not record.is_one_array or None in schema.fields or len(schema.fields) < 2:
        return None
    stem = uri.rpartition("/")[2].partition(".")[0]
    return stem if stem in schema.fields else None


def text_dtypes(schema: Schema) -> tuple[tuple[str, str], ...]:
    """The dtypes of a schema's fields, for formats without dtypes. A field with constraints on text is text."""
    dtypes = ((path, field.dtype or ("string" if _is_text(field) else None)) for path, field in schema.fields.items())
    return tuple((path, dtype) for path, dtype in dtypes if path is not None and dtype is not None)


def _is_text(field: Field) -> bool:
    """Whether only text can satisfy the constraints of a field without a dtype."""
    members = [member for member in field.isin or () if isinstance(member, str) and not _TIME.match(member)]
    return bool(members) or field.str_matches is not None or any(name.startswith("str_") for name in field.checks)
