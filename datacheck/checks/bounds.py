"""DC201 to DC204: values beyond ``ge``, ``le``, ``gt`` and ``lt``.

A NaN is not checked against bounds (``allow_nan`` decides about it); an infinity is, unless the field allows
infinities. A bound is rounded to the dtype of the values first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.checks.rules import ValueRule, uncheckable
from datacheck.leaves import BoolArray, Leaf
from datacheck.numerics import Bounds, to_float
from datacheck.schema.model import Field
from datacheck.schema.rounding import integer_limit, round_float, scaled_limit
from datacheck.schema.scalars import arrow_scalar

BOUND_CODES = {"DC201": "ge", "DC202": "le", "DC203": "gt", "DC204": "lt"}
_UNORDERED = ("complex64", "complex128", "clongdouble")
_SYMBOLS = {"ge": ">=", "le": "<=", "gt": ">", "lt": "<"}
_BREAKS: dict[str, Callable[[Any, Any], Any]] = {
    "ge": np.less,
    "le": np.greater,
    "gt": np.less_equal,
    "lt": np.greater_equal,
}
_ARROW_BREAKS = {"ge": "less", "le": "greater", "gt": "less_equal", "lt": "greater_equal"}


def bound_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """A rule for each bound of the field."""
    if leaf.values is None or _is_container(leaf):
        return []
    rules = []
    for code, word in BOUND_CODES.items():
        bound = getattr(field, word)
        if bound is None:
            continue
        try:
            mask = _mask_of(leaf, word, field)
        except ValueError as error:
            rules.append(uncheckable(code, f"{word}: {error}"))
        else:
            rules.append(ValueRule(code, mask, f"{_SYMBOLS[word]} {bound}", screened=leaf.is_numeric))
    return rules


def numeric_bounds(leaf: Leaf, field: Field) -> Bounds | None:
    """The field's bounds for the screen; None if the screen can use none of them."""
    if not leaf.is_numeric or leaf.dtype in ("bool", *_UNORDERED):
        return None
    limits: list[Any] = []
    for word in _SYMBOLS:
        try:
            limits.append(_limit(getattr(field, word), word, leaf))
        except ValueError:
            limits.append(None)
    if field.vocab_size is not None and not leaf.may_be_nonfinite:
        ge, le, gt, lt = limits
        limits = [max(ge or 0, 0), le, gt, field.vocab_size if lt is None else min(lt, field.vocab_size)]
    return Bounds(*limits) if any(limit is not None for limit in limits) else None


def violation_mask(leaf: Leaf, code: str, field: Field) -> BoolArray:
    """True for each of the leaf's values that is present and breaks the bound of ``code``."""
    word = BOUND_CODES[code]
    if getattr(field, word) is None:
        return np.zeros(len(leaf), np.bool_)
    mask = _mask_of(leaf, word, field)(leaf, slice(0, len(leaf)))
    return mask if leaf.validity is None else mask & leaf.validity


def _mask_of(leaf: Leaf, word: str, field: Field) -> Callable[[Leaf, slice], BoolArray]:
    """The mask for a bound; raises ``ValueError`` if the bound cannot be compared with the values."""
    bound = getattr(field, word)
    if not leaf.is_numeric:
        return _arrow_mask_of(bound, word, leaf.values.type)
    limit = _limit(bound, word, leaf)

    def mask(leaf: Leaf, part: slice) -> BoolArray:
        values = to_float(leaf.values[part], leaf.dtype)
        with np.errstate(invalid="ignore"):
            broken: BoolArray = _BREAKS[word](values, limit)
            if field.allow_inf and leaf.may_be_nonfinite:
                broken &= ~np.isinf(values)
        return broken

    return mask


def _arrow_mask_of(bound: Any, word: str, kind: pa.DataType) -> Callable[[Leaf, slice], BoolArray]:
    scalar = arrow_scalar(bound, kind)
    if pa.types.is_decimal(kind):
        limit = scaled_limit(scalar.as_py(), word, kind.scale)
        try:
            scalar = pa.scalar(limit, kind)
        except pa.ArrowInvalid:  # beyond every value of the type
            is_broken = (limit > 0) is (word in ("ge", "gt"))
            return lambda _, part: np.full(part.stop - part.start, is_broken)

    def mask(leaf: Leaf, part: slice) -> BoolArray:
        broken = getattr(pc, _ARROW_BREAKS[word])(leaf.values[part.start : part.stop], scalar)
        found: BoolArray = pc.fill_null(broken, False).to_numpy(zero_copy_only=False)
        return found

    return mask


def _limit(bound: Any, word: str, leaf: Leaf) -> Any:
    """The bound in the dtype of the values, or for narrow formats in float32, in which they are compared."""
    if bound is None:
        return None
    if leaf.dtype in _UNORDERED:
        raise ValueError("the values are complex, which have no order")
    if leaf.dtype == "bool":
        raise ValueError("the values are booleans, which have no bounds")
    if isinstance(bound, str | bool):
        bound = arrow_scalar(bound, pa.float64() if leaf.may_be_nonfinite else pa.int64()).as_py()
    if not leaf.may_be_nonfinite:
        return integer_limit(bound, word)
    # A bound beyond the range of float32 becomes infinite, so that all values satisfy it.
    with np.errstate(over="ignore"):
        if leaf.dtype in ("float64", "longdouble"):
            return leaf.values.dtype.type(bound)
        return np.float32(round_float(bound, leaf.dtype))


def _is_container(leaf: Leaf) -> bool:
    return not leaf.is_numeric and pa.types.is_nested(leaf.values.type)
