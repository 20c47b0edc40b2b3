"""DC201 to DC204: values beyond ``ge``, ``le``, ``gt`` and ``lt``.

A NaN is not judged by a bound (``allow_nan`` judges it); an infinity is, unless the field allows infinities. Numbers
compare as NumPy compares an array with a Python number: in the dtype of the array.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.checks.rules import ValueRule
from datacheck.leaves import BoolArray, Leaf
from datacheck.numerics import Bounds, to_float
from datacheck.schema.model import Field

__all__ = ["BOUND_CODES", "bound_rules", "numeric_bounds", "violation_mask"]

BOUND_CODES = {"DC201": "ge", "DC202": "le", "DC203": "gt", "DC204": "lt"}
_SYMBOLS = {"ge": ">=", "le": "<=", "gt": ">", "lt": "<"}
_BREAKS: dict[str, Callable[[Any, Any], Any]] = {
    "ge": np.less,
    "le": np.greater,
    "gt": np.less_equal,
    "lt": np.greater_equal,
}
_ARROW_BREAKS: dict[str, Callable[[Any, Any], Any]] = {
    "ge": pc.less,
    "le": pc.greater,
    "gt": pc.less_equal,
    "lt": pc.greater_equal,
}


def bound_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """A rule for each bound of the field."""
    if leaf.values is None or leaf.dtype == "bool" or _is_container(leaf):
        return []
    rules = []
    for code, word in BOUND_CODES.items():
        bound = getattr(field, word)
        if bound is not None:
            rules.append(
                ValueRule(code, _mask_of(leaf, word, field), f"{_SYMBOLS[word]} {bound}", screened=leaf.is_numeric)
            )
    return rules


def numeric_bounds(leaf: Leaf, field: Field) -> Bounds | None:
    """The field's bounds for the screen, or None where there is none that the screen can use."""
    if not leaf.is_numeric or leaf.dtype in ("bool", "complex64", "complex128"):
        return None
    values = [getattr(field, word) for word in _SYMBOLS]
    if all(value is None for value in values):
        return None
    return Bounds(*(_in_dtype(value, leaf) for value in values))


def violation_mask(leaf: Leaf, code: str, field: Field) -> BoolArray:
    """True for each of the leaf's values that is present and breaks the bound of ``code``."""
    word = BOUND_CODES[code]
    if getattr(field, word) is None:
        return np.zeros(len(leaf), np.bool_)
    mask = _mask_of(leaf, word, field)(leaf, slice(0, len(leaf)))
    return mask if leaf.validity is None else mask & leaf.validity


def _mask_of(leaf: Leaf, word: str, field: Field) -> Callable[[Leaf, slice], BoolArray]:
    bound = getattr(field, word)
    if not leaf.is_numeric:
        scalar = _arrow_scalar(bound, leaf.values.type)

        def arrow_mask(leaf: Leaf, part: slice) -> BoolArray:
            broken = _ARROW_BREAKS[word](leaf.values[part.start : part.stop], scalar)
            mask: BoolArray = pc.fill_null(broken, False).to_numpy(zero_copy_only=False)
            return mask

        return arrow_mask
    limit = _in_dtype(bound, leaf)

    def mask(leaf: Leaf, part: slice) -> BoolArray:
        values = to_float(leaf.values[part], leaf.dtype)
        with np.errstate(invalid="ignore"):
            broken: BoolArray = _BREAKS[word](values, limit)
            if field.allow_inf and leaf.may_be_nonfinite:
                broken &= ~np.isinf(values)
        return broken

    return mask


def _in_dtype(bound: Any, leaf: Leaf) -> Any:
    """The bound as the array's own dtype compares it; bfloat16 and 8-bit formats compare as float32."""
    if bound is None or not leaf.may_be_nonfinite:
        return bound
    if leaf.dtype in ("float32", "float64", "longdouble"):
        return leaf.values.dtype.type(bound)
    with np.errstate(over="ignore"):
        half = np.float16(bound) if leaf.dtype == "float16" else np.float16(np.inf)
    return np.float32(half if np.isfinite(half) else bound)


def _is_container(leaf: Leaf) -> bool:
    return not leaf.is_numeric and pa.types.is_nested(leaf.values.type)


def _arrow_scalar(bound: Any, arrow_type: pa.DataType) -> pa.Scalar:
    types = pa.types
    if types.is_temporal(arrow_type) and isinstance(bound, str):
        return (
            pa.scalar(bound).cast(arrow_type)
            if not types.is_duration(arrow_type)
            else pa.scalar(int(bound), arrow_type)
        )
    if types.is_decimal(arrow_type):
        return pa.scalar(Decimal(str(bound)))
    if types.is_temporal(arrow_type) and isinstance(bound, datetime.date):
        return pa.scalar(bound).cast(arrow_type)
    return pa.scalar(bound)
