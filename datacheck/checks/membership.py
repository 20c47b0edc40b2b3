"""DC205 and DC206: values outside a list, and strings that do not match a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.checks.rules import ValueRule, uncheckable
from datacheck.leaves import BoolArray, Leaf
from datacheck.numerics import nan_mask, to_float
from datacheck.schema.model import Field
from datacheck.schema.scalars import arrow_scalar
from datacheck.text import join_limited

__all__ = ["membership_rules"]


def membership_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """The rules for ``isin`` and ``str_matches``, if the field has them."""
    if leaf.values is None or (not leaf.is_numeric and pa.types.is_nested(leaf.values.type)):
        return []
    rules = []
    if field.isin is not None:
        detail = f"one of {join_limited([str(value) for value in field.isin])}"
        try:
            rules.append(ValueRule("DC205", _isin(leaf, field.isin), detail, screened=False))
        except ValueError as error:
            rules.append(uncheckable("DC205", f"isin: {error}"))
    if field.str_matches is not None:
        if leaf.dtype == "string":
            rules.append(ValueRule("DC206", _matches(field.str_matches), repr(field.str_matches), screened=False))
        else:
            rules.append(uncheckable("DC206", f"str_matches: the values are {leaf.dtype}, not strings"))
    return rules


def _isin(leaf: Leaf, allowed: tuple[Any, ...]) -> Callable[[Leaf, slice], BoolArray]:
    if leaf.is_numeric:
        members = _members(leaf, allowed)

        def outside(leaf: Leaf, part: slice) -> BoolArray:
            values = leaf.values[part]
            mask = np.isin(to_float(values, leaf.dtype), members, invert=True)
            return mask & ~nan_mask(values, leaf.dtype) if leaf.may_be_nonfinite else mask

        return outside
    value_set = pa.array([arrow_scalar(value, leaf.values.type) for value in allowed]).cast(leaf.values.type)

    def arrow_outside(leaf: Leaf, part: slice) -> BoolArray:
        known = pc.is_in(leaf.values[part.start : part.stop], value_set)
        mask: BoolArray = pc.invert(known).to_numpy(zero_copy_only=False)
        return mask

    return arrow_outside


def _members(leaf: Leaf, allowed: Sequence[Any]) -> np.ndarray[Any, Any]:
    """The members in a dtype that compares with the leaf's values."""
    if leaf.dtype == "bool":
        kind = pa.bool_()
    else:
        kind = pa.float64() if leaf.may_be_nonfinite else pa.int64()
    members = np.array([arrow_scalar(value, kind).as_py() for value in allowed])
    return members.astype(to_float(leaf.values[:0], leaf.dtype).dtype) if leaf.may_be_nonfinite else members


def _matches(pattern: str) -> Callable[[Leaf, slice], BoolArray]:
    def broken(leaf: Leaf, part: slice) -> BoolArray:
        values = leaf.values[part.start : part.stop]
        try:
            found = pc.match_substring_regex(values, f"^(?:{pattern})")
        except pa.ArrowInvalid:
            # RE2 has no look-around or back-references: use Python's engine, once per distinct value.
            encoded = values.dictionary_encode()
            verdicts = [
                value is not None and re.match(pattern, value) is not None for value in encoded.dictionary.to_pylist()
            ]
            found = pa.array(verdicts, pa.bool_()).take(encoded.indices)
        mask: BoolArray = pc.fill_null(pc.invert(found), False).to_numpy(zero_copy_only=False)
        return mask

    return broken
