"""DC104: nulls in fields that are not nullable. A null is no NaN, and a NaN is no null."""

from __future__ import annotations

import numpy as np

from datacheck.checks.rules import ValueRule
from datacheck.leaves import Leaf
from datacheck.schema.model import Field

__all__ = ["missing_rules"]


def missing_rules(leaf: Leaf, field: Field, forced: frozenset[str]) -> list[ValueRule]:
    """The rule against nulls, where the field is not nullable or ``forced`` asks for it."""
    if field.nullable and "DC104" not in forced:
        return []
    validity = leaf.validity
    if validity is None:
        validity = np.broadcast_to(np.True_, len(leaf))
    return [ValueRule("DC104", lambda part: ~validity[part], reported=not field.nullable, on_nulls=True)]
