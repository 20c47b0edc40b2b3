"""DC205 and DC206: values outside a list, and strings that do not match a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.checks.rules import ValueRule, uncheckable
from datacheck.leaves import BoolArray, Leaf, arrow_bits
from datacheck.numerics import nan_mask, to_float
from datacheck.schema.model import Field
from datacheck.schema.rounding import integer_of, round_float
from datacheck.schema.scalars import arrow_scalar
from datacheck.text import join_limited


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


def members_mask(leaf: Leaf, values: tuple[Any, ...]) -> BoolArray:
    """Where a flat leaf has one of ``values``; raises ``ValueError`` if they cannot be compared with its own."""
    if leaf.is_numeric:
        return np.isin(to_float(leaf.values, leaf.dtype), _members(leaf, values))
    return arrow_bits(pc.is_in(_comparable(leaf.values), _value_set(values, leaf.values.type)))


def _isin(leaf: Leaf, allowed: tuple[Any, ...]) -> Callable[[Leaf, slice], BoolArray]:
    if leaf.is_numeric:
        members = _members(leaf, allowed)

        def outside(leaf: Leaf, part: slice) -> BoolArray:
            values = leaf.values[part]
            mask = np.isin(to_float(values, leaf.dtype), members, invert=True)
            return mask & ~nan_mask(values, leaf.dtype) if leaf.may_be_nonfinite else mask

        return outside
    value_set = _value_set(allowed, leaf.values.type)

    def arrow_outside(leaf: Leaf, part: slice) -> BoolArray:
        known = pc.is_in(_comparable(leaf.values[part.start : part.stop]), value_set)
        mask: BoolArray = pc.invert(known).to_numpy(zero_copy_only=False)
        return mask

    return arrow_outside


def _value_set(allowed: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The members as an array of the values' own type; a decimal that the type cannot hold equals none of them."""
    members = [arrow_scalar(value, kind) for value in allowed]
    if not pa.types.is_decimal(kind):
        return pa.array(members).cast(kind)
    held: list[Any] = []
    for member in members:
        with suppress(pa.ArrowInvalid):
            held.append(pa.scalar(member.as_py(), kind).as_py())
    return _comparable(pa.array(held, kind))


def _comparable(values: pa.Array) -> pa.Array:
    """Short decimals as ones that Arrow can look up."""
    kind = values.type
    is_short = pa.types.is_decimal(kind) and kind.byte_width < 16
    return values.cast(pa.decimal128(kind.precision, kind.scale)) if is_short else values


def _members(leaf: Leaf, allowed: Sequence[Any]) -> np.ndarray[Any, Any]:
    """The members in a dtype that compares with the leaf's values; a number that the dtype cannot hold equals none."""
    if leaf.dtype == "bool":
        return np.array([arrow_scalar(value, pa.bool_()).as_py() for value in allowed])
    numbers = [arrow_scalar(value, pa.float64() if leaf.may_be_nonfinite else pa.int64()).as_py() for value in allowed]
    compared = to_float(leaf.values[:0], leaf.dtype).dtype
    if leaf.may_be_nonfinite:
        with np.errstate(over="ignore"):
            return np.array([round_float(number, leaf.dtype) for number in numbers]).astype(compared)
    limits = np.iinfo(compared)
    whole = [integer_of(number) for number in numbers]
    return np.array([n for n in whole if n is not None and limits.min <= n <= limits.max], compared)


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
