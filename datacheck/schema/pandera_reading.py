"""From pandera: the schema for a pandera ``DataFrameSchema`` or ``DataFrameModel``."""

from __future__ import annotations

from typing import Any

from datacheck.errors import SchemaError
from datacheck.schema.dtypes import canonical_dtype
from datacheck.schema.model import Schema
from datacheck.schema.pandera_constraints import schema_mapping
from datacheck.schema.pandera_remainder import as_pandera_schema, remainder
from datacheck.schema.references import import_reference
from datacheck.schema.validation import validate


def from_pandera(found: Any, reference: str | None = None) -> Schema:
    """Convert a pandera ``DataFrameSchema`` or ``DataFrameModel`` into a schema.

    Built-in checks become constraints of the fields, or entries of ``checks``. Everything else (custom checks, parsers,
    patterns of column names) is still checked: through ``pandera: reference`` if a reference is given, otherwise
    through the object itself, which the schema keeps. NaN and infinities are not allowed unless the metadata that
    :meth:`Schema.to_pandera` wrote allows them: pandera's ``nullable`` allows only nulls. Raises ``SchemaError`` for
    an index, statistical hypotheses and other checks that need the whole dataset.
    """
    place = reference or "pandera schema"
    pandera_schema = as_pandera_schema(found, place)
    mapping = schema_mapping(pandera_schema)
    schema = validate(Schema, mapping, place, SchemaError)
    if remainder(pandera_schema, schema) is None:
        return schema
    if reference is not None:
        return validate(Schema, {**mapping, "pandera": reference}, place, SchemaError)
    return schema.keep_pandera(pandera_schema)


def fold_pandera(schema: Schema, place: str) -> Schema:
    """Fill in what the schema does not state from its ``pandera:`` reference.

    A dtype that both state must be the same. Of two bounds both apply: pandera checks its own.
    """
    if schema.pandera is None:
        return schema
    mapping = schema_mapping(as_pandera_schema(import_reference(schema.pandera), f"{place}: pandera"))
    stated = {name: field.model_dump(exclude_unset=True) for name, field in schema.fields.items()}
    fields: dict[str | None, Any] = dict(stated)
    for name, said in mapping["fields"].items():
        own = stated.get(name, {})
        dtype = None if said.get("dtype") is None else canonical_dtype(said["dtype"])
        if own.get("dtype") is not None and dtype is not None and own["dtype"] != dtype:
            problem = f"the schema says {own['dtype']}, but {schema.pandera} says {dtype}"
            raise SchemaError(f"{place}: fields.{name}.dtype", problem)
        fields[name] = {**said, **own}
    keys = [list(key) for key in schema.unique]
    merged = {
        **schema.model_dump(exclude_unset=True),
        "fields": fields,
        "strict": schema.strict or mapping["strict"],
        "coerce": schema.coerce or mapping["coerce"],
        "unique": [*keys, *(key for key in mapping["unique"] if key not in keys)],
    }
    return validate(Schema, merged, place, SchemaError)
