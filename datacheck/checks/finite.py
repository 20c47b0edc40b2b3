"""DC101, DC102, DC103: NaN, +inf and -inf in floating-point and complex values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from datacheck import numerics
from datacheck.checks.rules import ValueRule
from datacheck.findings import Severity
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.model import Field

NONFINITE_MASKS: dict[str, Callable[[Any, str], BoolArray]] = {
    "DC101": numerics.nan_mask,
    "DC102": numerics.posinf_mask,
    "DC103": numerics.neginf_mask,
}


def finite_rules(leaf: Leaf, field: Field, requested: frozenset[str]) -> list[ValueRule]:
    """A rule for each kind of non-finite value that the field does not allow, or that ``requested`` asks for."""
    if not (leaf.is_numeric and leaf.may_be_nonfinite):
        return []
    allowed = {"DC101": field.allow_nan, "DC102": field.allow_inf, "DC103": field.allow_inf}
    return [
        ValueRule(
            code,
            partial(_mask, find),
            reported=not allowed[code],
            severity=Severity.INFO if code == "DC103" and is_mask(leaf) else None,
            is_absent=_ABSENT.get(code) if leaf.dtype in {"float32", "float64"} else None,
        )
        for code, find in NONFINITE_MASKS.items()
        if code in requested or not allowed[code]
    ]


def _has_no_posinf(leaf: Leaf, part: slice) -> bool:
    return bool(np.fmax.reduce(leaf.values[part], initial=0) != np.inf)


def _has_no_neginf(leaf: Leaf, part: slice) -> bool:
    return bool(np.fmin.reduce(leaf.values[part], initial=0) != -np.inf)


#: In a block with NaN, an extreme that ignores NaN proves at a fraction of a mask's cost that it has no infinity.
_ABSENT = {"DC102": _has_no_posinf, "DC103": _has_no_neginf}


def is_mask(leaf: Leaf) -> bool:
    """Whether a leaf is an attention mask that a model stores, in which -inf is no defect."""
    return leaf.is_parameter and "mask" in (leaf.path or "").rpartition(".")[2].lower()


def _mask(find: Callable[[Any, str], BoolArray], leaf: Leaf, part: slice) -> BoolArray:
    return find(leaf.values[part], leaf.dtype)
