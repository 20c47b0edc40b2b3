"""DC004 for rows: lists with another length than the schema's ``shape``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.checks.rules import ValueRule
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.model import Field

__all__ = ["list_rules"]


def list_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """The rule for the lengths of a list column's rows, if ``shape`` gives one length."""
    if leaf.is_numeric or leaf.values is None or field.shape is None or len(field.shape) != 1:
        return []
    length = field.shape[0]
    kind = leaf.values.type
    if (
        not isinstance(length, int)
        or pa.types.is_fixed_size_list(kind)
        or not (pa.types.is_list(kind) or pa.types.is_large_list(kind))
    ):
        return []

    def wrong(leaf: Leaf, part: slice) -> BoolArray:
        lengths = pc.fill_null(pc.list_value_length(leaf.values[part.start : part.stop]), length)
        return np.asarray(lengths.to_numpy(zero_copy_only=False) != length)

    return [ValueRule("DC004", wrong, f"not of length {length}", screened=False)]
