"""Which values of a leaf violate a code, and which slices may hold such values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.checks.bounds import BOUND_CODES, numeric_bounds, violation_mask
from datacheck.checks.finite import NONFINITE_MASKS
from datacheck.checks.membership import membership_rules
from datacheck.checks.missing import field_of
from datacheck.checks.sentinels import mark_missing
from datacheck.checks.structure import dtype_matches
from datacheck.checks.text import text_rules
from datacheck.checks.tokens import token_rules
from datacheck.cleaning.rules import Scalar
from datacheck.cleaning.values import dtype_family, encode, storage_dtype
from datacheck.errors import CleaningError
from datacheck.leaves import BoolArray, IntArray, Leaf, Regular
from datacheck.numerics import BLOCK, suspicious
from datacheck.schema.model import Field, Schema
from datacheck.text import plain

Array = np.ndarray[Any, Any]

#: The codes of rules that have no screen: they look at every value.
_UNSCREENED = frozenset({"DC205", "DC206", "DC211", "DC212", "DC213", "DC214", "DC215"})


def describe_field(path: str | None) -> str:
    """A field as error messages name it."""
    return "the array" if path is None else f"'{plain(path)}'"


def resolve_leaf(leaf: Leaf, schema: Schema) -> tuple[Leaf, Field]:
    """A leaf in its logical dtype (bfloat16 stored as uint16), and its field in the schema.

    Text is converted to a layout that Arrow has kernels for.
    """
    field = field_of(schema, leaf)
    if not leaf.is_numeric and leaf.values.type == pa.string_view():
        leaf = replace(leaf, values=leaf.values.cast(pa.large_string()))
    if field.dtype is not None and leaf.is_numeric and dtype_matches(leaf.dtype, field.dtype):
        leaf = replace(leaf, dtype=field.dtype)
    return mark_missing(leaf, schema), field


def is_container(leaf: Leaf) -> bool:
    """Whether a leaf is a list or struct itself, rather than the values in it."""
    return not leaf.is_numeric and dtype_family(leaf.dtype) == "container"


def find_broken_rule(value: Scalar, dtype: str, field: Field) -> str | None:
    """The code of the first bound or membership rule of ``field`` that a value of ``dtype`` would break."""
    if dtype_family(dtype) == "string":
        leaf = Leaf(None, pa.array([value], pa.string()), dtype)
    else:
        leaf = Leaf(None, np.array([encode(value, dtype, "the value")], storage_dtype(dtype)), dtype)
    return next(
        (code for code in (*BOUND_CODES, *sorted(_UNSCREENED)) if code_mask(leaf, code, field, slice(0, 1))[0]), None
    )


def code_mask(leaf: Leaf, code: str, field: Field, part: slice) -> BoolArray:
    """True for each value of ``leaf`` in ``part`` that breaks ``code``, whatever the field allows."""
    if code == "DC104":
        return np.zeros(part.stop - part.start, np.bool_) if leaf.validity is None else ~leaf.validity[part]
    if code == "DC110":
        return np.zeros(part.stop - part.start, np.bool_) if leaf.missing is None else leaf.missing[part]
    mask = _rule_mask(leaf, code, field, part)
    return mask if leaf.missing is None else mask & ~leaf.missing[part]


def _rule_mask(leaf: Leaf, code: str, field: Field, part: slice) -> BoolArray:
    if code in NONFINITE_MASKS:
        if not (leaf.is_numeric and leaf.may_be_nonfinite):
            return np.zeros(part.stop - part.start, np.bool_)
        mask = NONFINITE_MASKS[code](leaf.values[part], leaf.dtype)
        return mask if leaf.validity is None else mask & leaf.validity[part]
    if code in BOUND_CODES:
        return violation_mask(_part_of(leaf, part), code, field)
    rules = (*membership_rules(leaf, field), *text_rules(leaf, field), *token_rules(leaf, field))
    rule = next((rule for rule in rules if rule.code == code), None)
    if rule is None or rule.problem:
        return np.zeros(part.stop - part.start, np.bool_)
    mask = rule.mask(leaf, part)
    return mask if leaf.validity is None else mask & leaf.validity[part]


def find_suspect_parts(leaf: Leaf, codes: Iterable[str], field: Field) -> Iterator[slice]:
    """Slices of ``leaf`` that may hold a violation of ``codes``. Outside them there is none."""
    asked = set(codes)
    whole = (
        ("DC104" in asked and leaf.validity is not None)
        or ("DC110" in asked and leaf.missing is not None)
        or (asked & _UNSCREENED and _has_unscreened(field))
    )
    bounds = numeric_bounds(leaf, field) if asked & BOUND_CODES.keys() else None
    if whole or (not leaf.is_numeric and (asked & BOUND_CODES.keys() or asked & _UNSCREENED)):
        yield from (slice(start, min(start + BLOCK, len(leaf))) for start in range(0, len(leaf), BLOCK))
    elif leaf.is_numeric and (bounds is not None or asked & NONFINITE_MASKS.keys()):
        yield from suspicious(leaf.values, leaf.dtype, bounds)


def find_unusable(leaf: Leaf, codes: Iterable[str], field: Field) -> Iterator[tuple[slice, BoolArray]]:
    """Slices of ``leaf`` with a mask of the values to exclude from learning: missing, non-finite, or violating ``codes``.

    The slices are in order. Outside them every value is usable.
    """
    asked = sorted({*NONFINITE_MASKS, "DC104", "DC110", *codes})
    by_numpy = leaf.is_numeric and leaf.values.dtype.kind == "f"
    for part in find_suspect_parts(leaf, asked, field):
        mask = ~np.isfinite(leaf.values[part]) if by_numpy else np.zeros(part.stop - part.start, np.bool_)
        for code in asked:
            if not (by_numpy and code in NONFINITE_MASKS):
                mask |= code_mask(leaf, code, field, part)
        if mask.any():
            yield part, mask


def num_features(leaf: Leaf) -> int | None:
    """The length of the last axis inside each row; None if the rows differ in shape."""
    if not leaf.levels or not isinstance(leaf.levels[0], Regular):
        return None
    level = leaf.levels[0]
    if level.axes is not None and list(level.axes) != sorted(level.axes):
        return None
    return level.shape[-1] if len(level.shape) > 1 and level.shape[-1] else None


def require_features(leaf: Leaf, place: str) -> int:
    """:func:`num_features`; raises ``CleaningError``, naming the rule at ``place``, if the rows differ in shape."""
    width = num_features(leaf)
    if width is None:
        raise CleaningError(
            f"{place}: per_feature needs rows of one shape, and rows of {describe_field(leaf.path)} differ"
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


def _has_unscreened(field: Field) -> bool:
    """Whether a field has a rule that looks at every value."""
    limits = (field.isin, field.str_matches, field.min_length, field.max_length, field.vocab_size)
    return any(limit is not None for limit in limits) or field.not_blank or field.stripped or field.printable
