"""DC004 for rows: lists with other sizes than the schema's ``shape``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from datacheck.checks.rules import ValueRule
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.axes import lengths_of
from datacheck.schema.model import Field
from datacheck.schema.operands import axes_of
from datacheck.text import plain


def list_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """The rule for the sizes of a list column's rows, if ``shape`` gives one and the type leaves it open."""
    if leaf.is_numeric or leaf.values is None or field.shape is None or not pa.types.is_nested(leaf.values.type):
        return []
    if leaf.path is None or leaf.path.endswith("[]"):
        return []
    shape = field.shape
    axes = axes_of(leaf.values[:0])
    if axes is None or axes.ndim != len(shape):
        return []
    open_axes = [
        place for place, size in enumerate(axes.sizes) if isinstance(shape[place], int) and not isinstance(size, int)
    ]

    def wrong(leaf: Leaf, part: slice) -> BoolArray:
        axes = axes_of(leaf.values[part.start : part.stop])
        assert axes is not None
        broken = np.zeros(axes.num_rows, np.bool_)
        for place in open_axes:
            size = axes.sizes[place]
            positions = np.flatnonzero(lengths_of(size, axes.count(place)) != shape[place])
            if place == 0 and axes.present is not None:
                positions = positions[axes.present[positions]]
            broken[axes.owners(positions, place)] = True
        return broken

    if len(shape) == 1:
        detail = f"not of length {shape[0]}"
    else:
        detail = f"not of shape ({', '.join('any' if size is None else plain(str(size)) for size in shape)})"
    return [ValueRule("DC004", wrong, detail, screened=False)] if open_axes else []
