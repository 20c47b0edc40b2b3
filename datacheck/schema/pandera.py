"""Schemas and pandera, both ways.

What pandera has no word for (``allow_nan``, ``allow_inf``, ``shape``) travels in pandera's ``metadata`` under the key
``datacheck``, and comes back from there.
"""

from __future__ import annotations

from typing import Any

from datacheck.errors import SchemaError
from datacheck.schema.loading import import_reference
from datacheck.schema.model import Field, Schema
from datacheck.schema.pandera_reading import as_pandera_schema, from_pandera, remainder, words_of_schema
from datacheck.schema.pandera_writing import build_schema
from datacheck.schema.validation import validate

__all__ = ["fold_pandera", "from_pandera", "left_to_pandera", "to_pandera"]


def to_pandera(schema: Schema) -> Any:
    """The schema as a pandera ``DataFrameSchema``.

    It refuses NaN and infinities where the schema does, as far as pandas can tell: in a NumPy column a NaN and a null
    are the same, so a field that allows either lets both through. Values inside lists and structs have no column in a
    data frame, and are not checked there. What the schema's own ``pandera`` asks for is part of it.
    """
    made = build_schema(schema)
    left = left_to_pandera(schema)
    if left is None:
        return made
    for name, column in left.columns.items():
        if name in made.columns and not column.regex:
            made.columns[name].checks = [*made.columns[name].checks, *column.checks]
            made.columns[name].parsers = [*made.columns[name].parsers, *column.parsers]
        else:
            made = made.add_columns({name: column})
    made.checks = [*made.checks, *left.checks]
    made.parsers = [*made.parsers, *left.parsers]
    made.ordered = left.ordered
    return made


def left_to_pandera(schema: Schema) -> Any:
    """The part of the schema's pandera object that only pandera can check; None where there is none."""
    found = schema.pandera_object
    if found is None and schema.pandera is not None:
        found = as_pandera_schema(import_reference(schema.pandera), schema.pandera)
    return None if found is None else remainder(found, schema)


def fold_pandera(schema: Schema, place: str) -> Schema:
    """The schema with what its ``pandera:`` says in our words: wherever the schema itself is silent.

    A dtype that both name must be the same. Of two bounds both hold: pandera checks its own.
    """
    if schema.pandera is None:
        return schema
    words = words_of_schema(as_pandera_schema(import_reference(schema.pandera), f"{place}: pandera"))
    stated = {name: field.model_dump(exclude_unset=True) for name, field in schema.fields.items()}
    fields: dict[str | None, Any] = dict(stated)
    for name, said in words["fields"].items():
        own = stated.get(name, {})
        dtype = Field.model_validate({"dtype": said.get("dtype")}).dtype
        if own.get("dtype") is not None and dtype is not None and own["dtype"] != dtype:
            problem = f"the schema says {own['dtype']}, and {schema.pandera} says {dtype}"
            raise SchemaError(f"{place}: fields.{name}.dtype", problem)
        fields[name] = {**said, **own}
    keys = [list(key) for key in schema.unique]
    merged = {
        **schema.model_dump(exclude_unset=True),
        "fields": fields,
        "strict": schema.strict or words["strict"],
        "coerce": schema.coerce or words["coerce"],
        "unique": [*keys, *(key for key in words["unique"] if key not in keys)],
    }
    return validate(Schema, merged, place, SchemaError)
