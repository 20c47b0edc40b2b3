"""Families of dtypes, and values encoded in a dtype."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from datacheck.cleaning.rules import Clip, Impute, NanToNum, Repair, Replace, Scalar, ToNull
from datacheck.errors import CleaningError
from datacheck.leaves import FLOAT_FORMATS
from datacheck.numerics import to_float
from datacheck.text import plain

Array = np.ndarray[Any, Any]
Family = Literal["float", "complex", "int", "bool", "string", "container", "other"]

_ARROW_NAMES = {
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
    "large_string": "string",
    "string_view": "string",
}
_CONTAINERS = ("list", "large_list", "fixed_size_list", "struct", "map", "fixed_shape_tensor")


def dtype_family(dtype: str) -> Family:
    """The family of a logical dtype."""
    dtype = _ARROW_NAMES.get(dtype, dtype)
    if dtype in FLOAT_FORMATS or dtype in ("float16", "float32", "float64"):
        return "float"
    if dtype in ("complex64", "complex128"):
        return "complex"
    if dtype in ("bool", "string"):
        return "bool" if dtype == "bool" else "string"
    if dtype.startswith(_CONTAINERS):
        return "container"
    return "int" if dtype.removeprefix("u").removeprefix("int") in ("8", "16", "32", "64") else "other"


def storage_dtype(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype that holds numbers of a logical dtype."""
    dtype = _ARROW_NAMES.get(dtype, dtype)
    return FLOAT_FORMATS.get(dtype) or np.dtype(dtype)


def find_incompatibility(rule: Repair, dtype: str) -> str | None:
    """Why a repair does not apply to a dtype; None if it does."""
    family = dtype_family(dtype)
    if isinstance(rule, NanToNum):
        return None if family in ("float", "complex") else f"{dtype} cannot hold NaN or infinity"
    if isinstance(rule, Clip):
        return None if family in ("float", "int") else f"{dtype} values cannot be clipped"
    if isinstance(rule, ToNull):
        return f"{dtype} values cannot be null" if family == "complex" else None
    if isinstance(rule, Replace):
        return _constant_incompatibility(rule.value, dtype, family)
    return _impute_incompatibility(rule, dtype, family)


def _impute_incompatibility(rule: Impute, dtype: str, family: Family) -> str | None:
    if rule.strategy == "constant":
        return _constant_incompatibility(rule.value, dtype, family)
    takers = {"mean": {"float"}, "median": {"float", "int"}, "most_frequent": {"float", "int", "bool", "string"}}
    if family in takers[rule.strategy]:
        return None
    if family == "int":
        return f"a mean would change its dtype, {dtype}; use median, most_frequent or a constant"
    others = [strategy for strategy, families in takers.items() if family in families]
    return f"{dtype} has no {rule.strategy.replace('_', ' ')}; use {' or '.join([*others, 'a constant'])}"


def _constant_incompatibility(value: Scalar | None, dtype: str, family: Family) -> str | None:
    fits = {"float": _is_number, "complex": _is_number, "int": _is_number, "bool": _is_bool, "string": _is_text}.get(
        family
    )
    if fits is None:
        return f"{dtype} cannot be filled"
    return (
        None
        if fits(value) and (family != "int" or _fits_int(value, dtype))
        else f"{value!r} would change its dtype, {dtype}"
    )


def _fits_int(value: Any, dtype: str) -> bool:
    info = np.iinfo(storage_dtype(dtype))
    return bool(int(value) == value and info.min <= value <= info.max)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def encode(value: Scalar, dtype: str, what: str) -> Any:
    """``value`` as a NumPy scalar of the dtype that stores ``dtype``; raises ``CleaningError`` if it does not fit.

    Floating-point values are rounded to the nearest; integers must be exact. ``what`` names the value in errors.
    """
    family, storage = dtype_family(dtype), storage_dtype(dtype)
    if isinstance(value, str) or isinstance(value, bool) != (family == "bool"):
        raise CleaningError(f"{what} is {plain(repr(value), 40)}, which {dtype} cannot hold")
    if family == "int":
        whole = int(value)
        info = np.iinfo(storage)
        if whole != value or not info.min <= whole <= info.max:
            raise CleaningError(f"{what} is {value!r}, which {dtype} cannot hold")
        return storage.type(whole)
    if family == "bool":
        return np.bool_(value)
    number = float(value)
    if dtype in FLOAT_FORMATS:
        return _nearest_pattern(number, dtype, what)
    with np.errstate(over="ignore"):
        encoded = storage.type(number)
    if not np.isfinite(encoded):
        raise CleaningError(f"{what} is {value!r}, which is beyond the largest {dtype}, {max_finite(dtype)}")
    return encoded


def next_value(value: float, dtype: str, *, up: bool) -> float:
    """The next value of ``dtype`` above or below ``value``; the next integer for integers."""
    if dtype_family(dtype) == "int":
        return math.floor(value) + 1 if up else math.ceil(value) - 1
    if dtype in FLOAT_FORMATS:
        finite, _ = _grid(dtype)
        bound = float(np.float32(value))
        index = np.searchsorted(finite, bound, "right") if up else np.searchsorted(finite, bound, "left") - 1
        return float(finite[min(max(int(index), 0), len(finite) - 1)])
    scalar = storage_dtype(dtype).type
    return float(np.nextafter(scalar(value), scalar(np.inf if up else -np.inf)))


def round_inward(value: float, dtype: str, *, up: bool) -> float:
    """Round a bound to a value of a narrow format (bfloat16, float8), up or down.

    The bound is rounded to float32 first, as in the checks. A bound beyond the largest value is returned unchanged.
    """
    finite, _ = _grid(dtype)
    if abs(value) > finite[-1]:
        return value
    bound = float(np.float32(value))
    index = np.searchsorted(finite, bound, "left") if up else np.searchsorted(finite, bound, "right") - 1
    return float(finite[index]) if 0 <= index < len(finite) else value


def max_finite(dtype: str) -> float:
    """The largest finite value of a floating-point or complex dtype."""
    if dtype in FLOAT_FORMATS:
        return float(_grid(dtype)[0][-1])
    return float(np.finfo(storage_dtype(dtype)).max)


def _nearest_pattern(number: float, dtype: str, what: str) -> Any:
    """The bit pattern nearest to a number; ties to even, as in IEEE 754."""
    finite, patterns = _grid(dtype)
    step = finite[-1] - finite[-2]
    if not finite[0] - step / 2 < number < finite[-1] + step / 2:
        raise CleaningError(f"{what} is {number!r}, which is beyond the largest {dtype}, {finite[-1]}")
    above = min(int(np.searchsorted(finite, number)), len(finite) - 1)
    below = max(above - 1, 0)
    to_above, to_below = finite[above] - number, number - finite[below]
    if to_above == to_below:
        return patterns[above] if patterns[above] % 2 == 0 else patterns[below]
    return patterns[above] if to_above < to_below else patterns[below]


@lru_cache(maxsize=16)
def _grid(dtype: str) -> tuple[Array, Array]:
    """All finite values of a narrow format as float64, ascending and unique, with their bit patterns."""
    patterns = np.arange(1 << (8 * FLOAT_FORMATS[dtype].itemsize), dtype=np.int64).astype(FLOAT_FORMATS[dtype])
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = to_float(patterns, dtype).astype(np.float64)
    finite = np.isfinite(values)
    rising, first = np.unique(values[finite], return_index=True)
    return rising, patterns[finite][first]
