"""Which values of a leaf a code is about, and where it is worth looking for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.checks.bounds import BOUND_CODES, numeric_bounds, violation_mask
from datacheck.checks.checker import UNMENTIONED
from datacheck.checks.finite import NONFINITE_MASKS
from datacheck.checks.membership import membership_rules
from datacheck.checks.structure import dtype_matches
from datacheck.cleaning.rules import Scalar
from datacheck.cleaning.values import encode, family_of, storage_of
from datacheck.errors import CleaningError
from datacheck.leaves import BoolArray, IntArray, Leaf, Regular
from datacheck.numerics import BLOCK, suspicious
from datacheck.schema.model import Field, Schema
from datacheck.text import plain

__all__ = [
    "as_features",
    "broken_rule",
    "code_mask",
    "feature_indices",
    "governed",
    "is_container",
    "name_of",
    "num_features",
    "parts_to_look_at",
    "require_features",
    "unusable",
]

Array = np.ndarray[Any, Any]

_MEMBERSHIP = frozenset({"DC205", "DC206"})


def name_of(path: str | None) -> str:
    """A field in words."""
    return "the array" if path is None else f"'{plain(path)}'"


def governed(leaf: Leaf, schema: Schema) -> tuple[Leaf, Field]:
    """A leaf with the dtype that the schema gives to the integers that store it, and the field that governs it.

    Text is in a layout that Arrow can compute with.
    """
    field = schema.field_for(leaf.path) or UNMENTIONED
    if not leaf.is_numeric and leaf.values.type == pa.string_view():
        leaf = replace(leaf, values=leaf.values.cast(pa.large_string()))
    if field.dtype is not None and leaf.is_numeric and dtype_matches(leaf.dtype, field.dtype):
        leaf = replace(leaf, dtype=field.dtype)
    return leaf, field


def is_container(leaf: Leaf) -> bool:
    """Whether a leaf stands for a list or a struct itself, not for the values in it."""
    return not leaf.is_numeric and family_of(leaf.dtype) == "container"


def broken_rule(value: Scalar, dtype: str, field: Field) -> str | None:
    """The code of the first bound or membership rule of ``field`` that a value of ``dtype`` would break."""
    if family_of(dtype) == "string":
        leaf = Leaf(None, pa.array([value], pa.string()), dtype)
    else:
        leaf = Leaf(None, np.array([encode(value, dtype, "the value")], storage_of(dtype)), dtype)
    return next(
        (code for code in (*BOUND_CODES, *sorted(_MEMBERSHIP)) if code_mask(leaf, code, field, slice(0, 1))[0]), None
    )


def code_mask(leaf: Leaf, code: str, field: Field, part: slice) -> BoolArray:
    """True for each value of ``leaf`` in ``part`` that breaks ``code``, whatever the field allows."""
    if code == "DC104":
        return np.zeros(part.stop - part.start, np.bool_) if leaf.validity is None else ~leaf.validity[part]
    if code in NONFINITE_MASKS:
        if not (leaf.is_numeric and leaf.may_be_nonfinite):
            return np.zeros(part.stop - part.start, np.bool_)
        mask = NONFINITE_MASKS[code](leaf.values[part], leaf.dtype)
        return mask if leaf.validity is None else mask & leaf.validity[part]
    if code in BOUND_CODES:
        return violation_mask(_part_of(leaf, part), code, field)
    rule = next((rule for rule in membership_rules(leaf, field) if rule.code == code), None)
    if rule is None:
        return np.zeros(part.stop - part.start, np.bool_)
    mask = rule.mask(leaf, part)
    return mask if leaf.validity is None else mask & leaf.validity[part]


def parts_to_look_at(leaf: Leaf, codes: Iterable[str], field: Field) -> Iterator[slice]:
    """Slices of ``leaf`` that may hold a value that breaks one of ``codes``; the others hold none."""
    asked = set(codes)
    whole = ("DC104" in asked and leaf.validity is not None) or (asked & _MEMBERSHIP and _has_membership(field))
    bounds = numeric_bounds(leaf, field) if asked & BOUND_CODES.keys() else None
    if whole or (not leaf.is_numeric and (asked & BOUND_CODES.keys() or asked & _MEMBERSHIP)):
        yield from (slice(start, min(start + BLOCK, len(leaf))) for start in range(0, len(leaf), BLOCK))
    elif leaf.is_numeric and (bounds is not None or asked & NONFINITE_MASKS.keys()):
        yield from suspicious(leaf.values, leaf.dtype, bounds)


def unusable(leaf: Leaf, codes: Iterable[str], field: Field) -> Iterator[tuple[slice, BoolArray]]:
    """Slices of ``leaf`` with the values in them that nothing is to be learned from.

    Those are missing, not finite, or break ``codes``. Slices are in order; outside them every value is usable.
    """
    asked = sorted({*NONFINITE_MASKS, "DC104", *codes})
    by_numpy = leaf.is_numeric and leaf.values.dtype.kind == "f"
    for part in parts_to_look_at(leaf, asked, field):
        mask = ~np.isfinite(leaf.values[part]) if by_numpy else np.zeros(part.stop - part.start, np.bool_)
        for code in asked:
            if not (by_numpy and code in NONFINITE_MASKS):
                mask |= code_mask(leaf, code, field, part)
        if mask.any():
            yield part, mask


def num_features(leaf: Leaf) -> int | None:
    """The length of the last axis inside each row, where every row's value has the same shape; None where not."""
    if not leaf.levels or not isinstance(leaf.levels[0], Regular):
        return None
    level = leaf.levels[0]
    if level.axes is not None and list(level.axes) != sorted(level.axes):
        return None
    return level.shape[-1] if len(level.shape) > 1 and level.shape[-1] else None


def require_features(leaf: Leaf, place: str) -> int:
    """:func:`num_features`; raises ``CleaningError``, naming the rule at ``place``, where rows differ in shape."""
    width = num_features(leaf)
    if width is None:
        raise CleaningError(
            f"{place}: per_feature needs values of one fixed shape in every row, which {name_of(leaf.path)} has not"
        )
    return width


def as_features(values: Array, leaf: Leaf) -> Array:
    """One-dimensional values (or a mask over them) of ``leaf`` as a view ``(values, features)``."""
    width = num_features(leaf)
    assert width is not None
    level = leaf.levels[0]
    if isinstance(level, Regular) and level.order == "F":
        return values.reshape(width, -1).T
    return values.reshape(-1, width)


def feature_indices(positions: IntArray, leaf: Leaf) -> IntArray:
    """The feature of each flat position, as in :func:`as_features`."""
    width = num_features(leaf)
    assert width is not None
    level = leaf.levels[0]
    is_fortran = isinstance(level, Regular) and level.order == "F"
    return positions // (len(leaf) // width) if is_fortran else positions % width


def _part_of(leaf: Leaf, part: slice) -> Leaf:
    values = leaf.values[part] if leaf.is_numeric else leaf.values.slice(part.start, part.stop - part.start)
    validity = None if leaf.validity is None else leaf.validity[part]
    return replace(leaf, values=values, validity=validity, levels=())


def _has_membership(field: Field) -> bool:
    return field.isin is not None or field.str_matches is not None
