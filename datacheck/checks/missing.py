"""DC104: nulls in fields that are not nullable. A null is not a NaN, and a NaN is not a null."""

from __future__ import annotations

import numpy as np

from datacheck.checks.rules import ValueRule
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.model import Field

__all__ = ["missing_rules"]


def missing_rules(field: Field, requested: frozenset[str]) -> list[ValueRule]:
    """The rule against nulls, if the field is not nullable or ``requested`` asks for it."""
    if field.nullable and "DC104" not in requested:
        return []
    return [ValueRule("DC104", _mask, reported=not field.nullable, on_nulls=True)]


def _mask(leaf: Leaf, part: slice) -> BoolArray:
    return np.zeros(part.stop - part.start, np.bool_) if leaf.validity is None else ~leaf.validity[part]
