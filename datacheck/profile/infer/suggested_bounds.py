"""Suggest bounds: the observed range with a margin on either side, rounded outwards to simple numbers."""

from __future__ import annotations

import datetime
import math
import re
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from datacheck.schema.dtypes import integer_range
from datacheck.schema.times import NANOSECONDS
from datacheck.text import plain

#: The share of the range to add on either side; rounding adds at most as much again.
_MARGIN = Fraction(1, 10)

_Bounds = tuple[Any, Any]
_NOTHING: _Bounds = (None, None)
_DECIMAL = re.compile(r"decimal\d+\((\d+), (-?\d+)\)")
_UNIT = re.compile(r"\[(s|ms|us|ns)")
#: Steps to round times to, in nanoseconds, from coarse to fine.
_STEPS = tuple(seconds * 10**9 for seconds in (86_400, 3600, 60, 1))
_EPOCH = datetime.datetime(1970, 1, 1)


def suggest_bounds(low: Any, high: Any, kind: str, dtype: str) -> _Bounds:
    """Suggest a lower and an upper bound for values of ``dtype`` from ``low`` to ``high``, as a schema writes them.

    A bound is None if the dtype already implies it or a schema cannot express it. If no value is below zero, neither is
    the lower bound; likewise above.
    """
    if kind in ("date", "timestamp"):
        return _time_bounds(low, high, kind, dtype)
    if kind == "decimal":
        return _decimal_bounds(*_widen(_fraction(low), _fraction(high), whole=False), dtype)
    if kind not in ("integer", "duration"):
        return _NOTHING
    below, above = _widen(_fraction(low), _fraction(high), whole=True)
    first, last = integer_range(dtype if kind == "integer" else "int64")
    return (int(below) if below > first else None, int(above) if above < last else None)


def float_bounds(low: Any, high: Any, limit: float) -> _Bounds:
    """As :func:`suggest_bounds`, for floating-point values; ``limit`` is the largest value of their dtype."""
    least, greatest = _fraction(low), _fraction(high)
    below, above = _widen(least, greatest, whole=False)
    largest = Fraction(min(limit, sys.float_info.max))
    return (
        _write_float(below, least, -math.inf) if below > -largest else None,
        _write_float(above, greatest, math.inf) if above < largest else None,
    )


def _fraction(value: Any) -> Fraction:
    return Fraction(*value.as_integer_ratio())


def _widen(low: Fraction, high: Fraction, *, whole: bool) -> tuple[Fraction, Fraction]:
    pad = (high - low or abs(high) or 1 / _MARGIN) * _MARGIN
    pad = max(pad, Fraction(1)) if whole else pad
    step = _step(pad)
    below = math.floor((low - pad) / step) * step
    above = math.ceil((high + pad) / step) * step
    if low >= 0:
        below = max(below, Fraction(0))
    elif high <= 0:
        above = min(above, Fraction(0))
    return below, above


def _step(pad: Fraction) -> Fraction:
    """The largest of 1, 2 and 5 times a power of ten that does not exceed ``pad``."""
    exponent = math.floor(math.log10(pad.numerator) - math.log10(pad.denominator)) + 1
    while True:
        power = Fraction(10) ** exponent
        for digit in (5, 2, 1):
            if digit * power <= pad:
                return digit * power
        exponent -= 1


def _write_float(bound: Fraction, observed: Fraction, outwards: float) -> int | float | None:
    """Round a bound to a float that does not cut off the observed value."""
    try:
        number = float(bound)
    except OverflowError:
        # Long doubles have a wider range than a schema can express.
        return None
    if (Fraction(number) - observed) * (1 if outwards > 0 else -1) < 0:
        number = math.nextafter(number, outwards)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _decimal_bounds(below: Fraction, above: Fraction, dtype: str) -> _Bounds:
    """Bounds with no more digits than the dtype, because Arrow compares no others."""
    match = _DECIMAL.fullmatch(dtype)
    assert match is not None
    precision, scale = int(match[1]), int(match[2])
    if scale < 0:
        return _NOTHING
    unit, limit = Fraction(1, 10**scale), 10 ** (precision - scale)
    below, above = math.floor(below / unit) * unit, math.ceil(above / unit) * unit
    return (
        _write_decimal(below, scale) if abs(below) < limit else None,
        _write_decimal(above, scale) if abs(above) < limit else None,
    )


def _write_decimal(bound: Fraction, scale: int) -> int | str:
    if bound.denominator == 1 and abs(bound) < 10**15:
        return int(bound)
    digits = int(bound * 10**scale)
    return format(Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), -scale)), "f")


def _time_bounds(low: int, high: int, kind: str, dtype: str) -> _Bounds:
    unit = _UNIT.search(dtype)
    tick = NANOSECONDS[unit[1] if unit else "D"]
    least, greatest = low * tick, high * tick
    pad = (greatest - least) // 10 or _STEPS[0]
    step = _STEPS[0] if kind == "date" else next((step for step in _STEPS if step <= pad), tick)
    pad = max(pad, step)
    below = (least - pad) // step * step
    above = -(-(greatest + pad) // step) * step
    zone = "Z" if "tz=" in dtype else ""
    return _write_time(below, kind, zone, 1, low, tick), _write_time(above, kind, zone, -1, high, tick)


def _write_time(nanoseconds: int, kind: str, zone: str, inwards: int, observed: int, tick: int) -> str | None:
    """A time in ISO form; None outside the years 1 to 9999, beyond 64 bits, or if it would cut off the observed value."""
    text = _format_timestamp(nanoseconds, zone)
    if text is None or not -(2**63) <= nanoseconds // tick < 2**63:
        return None
    if (observed * tick - nanoseconds) * inwards < 0:
        return None
    return text[:10] if kind == "date" or (not zone and text.endswith("T00:00:00")) else text


def _format_timestamp(nanoseconds: int, zone: str = "") -> str | None:
    """Nanoseconds since 1970 in ISO form; None outside the years 1 to 9999."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    try:
        text = (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return None
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{text}{digits}{zone}"


def format_extreme(value: Any, dtype: str) -> str:
    """Format an extreme of a dtype: the shortest decimal that reads back, a time in ISO form."""
    if dtype in ("float16", "float32"):
        return str(np.dtype(dtype).type(value)).removesuffix(".0")
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    unit = re.match(r"(?:timestamp|date64)\[(s|ms|us|ns)", dtype)
    if unit or dtype == "date32[day]":
        return _format_timestamp(value * NANOSECONDS[unit[1] if unit else "D"]) or f"{value} in {dtype}"
    return plain(str(value), 60)
