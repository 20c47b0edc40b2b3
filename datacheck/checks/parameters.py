"""DC209: weights of a model that are finite and absurd, as memory is that was never written."""

from __future__ import annotations

import numpy as np

from datacheck.checks.rules import ValueRule
from datacheck.leaves import BoolArray, Leaf
from datacheck.numerics import Bounds, to_float

#: No trained weight, statistic or state of an optimizer is larger.
MAX_WEIGHT = 1e30
#: Dtypes that can hold a larger value; the others end below it.
_WIDE = ("float32", "float64", "bfloat16")


def parameter_rules(leaf: Leaf) -> list[ValueRule]:
    """The rule for the size of a weight; none for a leaf that is not one, or whose dtype ends below the limit."""
    if not (leaf.is_parameter and leaf.is_numeric and leaf.dtype in _WIDE):
        return []
    return [ValueRule("DC209", _mask)]


def parameter_bounds(leaf: Leaf) -> Bounds | None:
    """The bounds of the screen; none for float32, whose screen is tripped by squares of far smaller values."""
    return None if leaf.dtype == "float32" else Bounds(ge=-MAX_WEIGHT, le=MAX_WEIGHT)


def _mask(leaf: Leaf, part: slice) -> BoolArray:
    values = to_float(leaf.values[part], leaf.dtype)
    mask: BoolArray = np.isfinite(values) & (np.abs(values) > MAX_WEIGHT)
    return mask
