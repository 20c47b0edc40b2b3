"""Constants of a schema as values of a dtype: what a bound or a member is, is decided by the dtype it is compared in.

0.1 is no float32; the nearest float32 is 0.100000001. A value that was written as 0.1 must equal the constant 0.1, so every
constant is rounded to the dtype of the values before it is compared with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Final

from datacheck.schema.dtypes import largest_float

#: The bits of the significand and the exponent of the smallest normal value of each format narrower than float64.
_FORMATS: Final[dict[str, tuple[int, int]]] = {
    "float16": (11, -14),
    "float32": (24, -126),
    "bfloat16": (8, -126),
    "float8_e4m3fn": (4, -6),
    "float8_e4m3fnuz": (4, -7),
    "float8_e5m2": (3, -14),
    "float8_e5m2fnuz": (3, -15),
    "float8_e8m0fnu": (1, -127),
}
#: Enough digits for every decimal of Arrow and every float64.
_EXACT = Context(prec=2000)


def round_float(value: float, dtype: str) -> float:
    """The value of a floating-point dtype that is nearest to ``value``; ``value`` itself if it is beyond the largest."""
    try:
        number = float(value)
    except OverflowError:  # an integer
        return value
    if dtype not in _FORMATS or not math.isfinite(number):
        return number
    precision, smallest = _FORMATS[dtype]
    _, exponent = math.frexp(number)
    step = max(exponent, smallest + 1) - precision
    # Python rounds half to even, as IEEE 754 does, and both scalings are exact.
    try:
        nearest = math.ldexp(round(math.ldexp(number, -step)), step)
    except OverflowError:  # it would be rounded up to 2**1024
        return value
    return nearest if abs(nearest) <= largest_float(dtype) else number


def round_constant(value: Any, dtype: str) -> Any:
    """A number as a value of ``dtype`` that compares as the dtype does; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if dtype in _FORMATS:
        return round_float(value, dtype)
    if dtype.startswith("decimal"):
        return Decimal(str(value))
    if dtype.startswith(("int", "uint")):
        whole = integer_of(value)
        return value if whole is None else whole
    return value


def round_arguments(arguments: dict[str, Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
    """The arguments of a check, each constant and each member of a list converted."""
    return {
        name: [convert(member) for member in value] if isinstance(value, list | tuple) else convert(value)
        for name, value in arguments.items()
    }


def integer_of(value: float) -> int | None:
    """The integer that equals a number; None if none does."""
    return int(value) if math.isfinite(value) and value == math.floor(value) else None


def integer_limit(bound: float, word: str) -> int:
    """The integer bound that every integer satisfies exactly if it satisfies ``bound``."""
    return math.ceil(bound) if word in ("ge", "lt") else math.floor(bound)


def scaled_limit(bound: Decimal, word: str, scale: int) -> Decimal:
    """The same for decimals with ``scale`` digits after the point."""
    rounding = ROUND_CEILING if word in ("ge", "lt") else ROUND_FLOOR
    return bound.quantize(Decimal(1).scaleb(-scale), rounding, _EXACT)
