"""DC104 and DC105: nulls. A null is not a NaN, and a NaN is not a null.

A field that the schema names is ``nullable`` or not. In any other field, a null in a number or a boolean is an error,
since every reader that training uses makes it NaN. Other nulls are counted in a note.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from datacheck.checks.rules import ValueRule
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.model import Field, Schema

# Constructed, not validated: pydantic takes as long to build a validator as a small file takes to scan.
#: The field of numbers and booleans that the schema does not mention: no NaN, no infinity and no null.
_UNMENTIONED_NUMBERS = Field.model_construct()
#: The field of everything else that the schema does not mention.
UNMENTIONED = Field.model_construct(nullable=True)


def field_of(schema: Schema, leaf: Leaf) -> Field:
    """The field of a leaf in the schema, or the rules for a leaf that the schema does not mention."""
    field = schema.field_for(leaf.path)
    if field is not None:
        return field
    return _UNMENTIONED_NUMBERS if is_of_numbers(leaf) else UNMENTIONED


def is_of_numbers(leaf: Leaf) -> bool:
    """Whether a leaf has numbers or booleans, or only nulls, which readers take for numbers."""
    if leaf.is_numeric or leaf.values is None:
        return leaf.is_numeric
    return bool(pa.types.is_decimal(leaf.values.type) or pa.types.is_null(leaf.values.type))


def missing_rules(field: Field, requested: frozenset[str]) -> list[ValueRule]:
    """The rule against nulls, if the field is not nullable or ``requested`` asks for it; the note on unmentioned ones."""
    rules = []
    if not field.nullable or "DC104" in requested:
        rules.append(ValueRule("DC104", _mask, reported=not field.nullable, on_nulls=True))
    if field is UNMENTIONED:
        rules.append(ValueRule("DC105", _mask, on_nulls=True))
    return rules


def _mask(leaf: Leaf, part: slice) -> BoolArray:
    return np.zeros(part.stop - part.start, np.bool_) if leaf.validity is None else ~leaf.validity[part]
