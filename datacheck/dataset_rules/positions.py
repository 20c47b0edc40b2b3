"""The values of a field that neighbouring rows are compared by: integers, floats and times, and differences of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import decode, is_encoded
from datacheck.batch import Column
from datacheck.leaves import FLOAT_FORMATS, BoolArray, arrow_validity
from datacheck.numerics import to_float
from datacheck.schema.intervals import Interval
from datacheck.schema.times import NANOSECONDS

Array = np.ndarray[Any, Any]

_UNITS = ("D", "s", "ms", "us", "ns")
_ORDERS = {
    "increasing": np.greater_equal,
    "strictly_increasing": np.greater,
    "decreasing": np.less_equal,
    "strictly_decreasing": np.less,
}
_DURATIONS = (
    (86_400 * 10**9, "d"),
    (3600 * 10**9, "h"),
    (60 * 10**9, "min"),
    (10**9, "s"),
    (10**6, "ms"),
    (10**3, "us"),
)
_ROUNDINGS = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """What positions are: times in a ``unit`` of Arrow, or numbers; ``epsilon`` is the precision of floats, 0 of others."""

    unit: str = ""
    epsilon: float = 0.0

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64 if self.epsilon else np.int64)

    def joined(self, other: Scale) -> Scale | None:
        """The scale that both can be converted to; None for times and numbers."""
        if bool(self.unit) is not bool(other.unit):
            return None
        unit = max(self.unit, other.unit, key=_UNITS.index) if self.unit else ""
        return Scale(unit, max(self.epsilon, other.epsilon))

    def convert(self, values: Array, target: Scale) -> Array | None:
        """The values in another scale; None if a time does not fit it."""
        if not self.unit or self.unit == target.unit:
            return values.astype(target.dtype, copy=False)
        factor = NANOSECONDS[self.unit] // NANOSECONDS[target.unit]
        limit = np.iinfo(np.int64).max // factor
        return None if len(values) and max(values.max(), -values.min()) > limit else values * factor

    def format(self, value: Any) -> str:
        """A position as people write it."""
        if self.unit:
            day, _, clock = str(np.array(int(value), f"datetime64[{self.unit}]")).partition("T")
            whole, _, fraction = clock.partition(".")
            return " ".join(filter(None, (day, whole + (f".{fraction}" if fraction.strip("0") else ""))))
        return repr(float(value)) if self.epsilon else str(int(value))


@dataclass(frozen=True, slots=True)
class Positions:
    """The value of each row, and whether it has one that is finite; or a ``problem``."""

    values: Array
    valid: BoolArray
    scale: Scale
    problem: str = ""


def positions_of(column: Column) -> Positions:
    """The positions that a column gives to its rows."""
    found = _of_array(column) if isinstance(column.data, np.ndarray) else _of_arrow(column.data)
    if column.unconvertible is not None and not found.problem:
        found.valid[column.unconvertible.reshape(-1)] = False
    return found


def _problem(problem: str) -> Positions:
    return Positions(np.empty(0, np.int64), np.empty(0, np.bool_), Scale(), problem)


def _of_array(column: Column) -> Positions:
    data: Any = column.data
    if data.ndim != 1:
        return _problem(f"it has {data.ndim} axes, not one value per row")
    valid = ~np.ma.getmaskarray(data) if isinstance(data, np.ma.MaskedArray) else np.ones(len(data), np.bool_)
    values = np.ma.getdata(data)
    if column.dtype in FLOAT_FORMATS:
        return _of_numbers(to_float(values, column.dtype), valid)
    if values.dtype.kind in "mM":
        unit, step = np.datetime_data(values.dtype)
        if (unit, step) not in {(one, 1) for one in _UNITS}:
            return _problem(f"times in units of {step} {unit} are not supported")
        valid &= ~np.isnat(values)
        return Positions(values.astype(values.dtype.newbyteorder("=")).view(np.int64), valid, Scale(unit))
    return _of_numbers(values, valid)


def _of_numbers(values: Array, valid: BoolArray) -> Positions:
    kind = values.dtype.kind
    if kind == "f" and values.dtype.itemsize <= 8:
        with np.errstate(invalid="ignore"):
            valid = valid & np.isfinite(values)
        epsilon = float(np.finfo(values.dtype).eps)
        return Positions(values.astype(np.float64, copy=False), valid, Scale("", epsilon))
    if kind in "iu":
        if kind == "u" and len(values) and values.max() > np.iinfo(np.int64).max:
            return _problem("it has integers beyond int64")
        return Positions(values.astype(np.int64, copy=False), valid, Scale())
    return _problem(f"values of {values.dtype} have no order")


def _of_arrow(data: pa.Array) -> Positions:
    array = decode(data) if is_encoded(data.type) else data
    kind, types = array.type, pa.types
    validity = arrow_validity(array)
    valid = np.ones(len(array), np.bool_) if validity is None else validity.copy()
    if types.is_integer(kind) or types.is_floating(kind):
        return _of_numbers(array.fill_null(0).to_numpy(zero_copy_only=False), valid)
    if types.is_temporal(kind) and not types.is_interval(kind):
        ticks = array.view(pa.int32() if kind.bit_width == 32 else pa.int64())
        values = ticks.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return Positions(values, valid, Scale(unit_of(kind)))
    return _problem(f"values of {kind} cannot be ordered")


def unit_of(kind: pa.DataType) -> str:
    """The unit of a type of times or dates."""
    return "D" if pa.types.is_date32(kind) else "ms" if pa.types.is_date64(kind) else str(kind.unit)


def is_in_order(order: str, before: Array, after: Array) -> BoolArray:
    """Whether each value follows the one before it in an order."""
    mask: BoolArray = _ORDERS[order](after, before)
    return mask


def within(step: Interval, scale: Scale, before: Array, after: Array) -> BoolArray:
    """Whether the differences are within bounds: exactly for integers and times, up to rounding for floats."""
    unit = Fraction(NANOSECONDS[scale.unit]) if scale.unit else Fraction(1)
    bounds = {name: step.number(name) / unit for name in step.stated}
    if scale.epsilon:
        return _floats_within(bounds, scale.epsilon, before, after)
    difference = after - before
    lowest, highest = _integers_within(bounds)
    mask = (difference >= lowest) & (difference <= highest)
    # Where a difference needs 65 bits, it has wrapped around.
    for row in np.flatnonzero((after >= before) != (difference >= 0)).tolist():
        mask[row] = lowest <= int(after[row]) - int(before[row]) <= highest
    return mask


def _integers_within(bounds: Mapping[str, Fraction]) -> tuple[int, int]:
    """The least and the greatest difference of two int64 within bounds."""
    at_least, at_most = [-(2**64)], [2**64]
    for name, bound in bounds.items():
        if name in ("ge", "gt"):
            at_least.append(math.ceil(bound) if name == "ge" else math.floor(bound) + 1)
        else:
            at_most.append(math.floor(bound) if name == "le" else math.ceil(bound) - 1)
    return max(at_least), min(at_most)


def _floats_within(bounds: dict[str, Fraction], epsilon: float, before: Array, after: Array) -> BoolArray:
    with np.errstate(over="ignore"):
        difference = after - before
    slack = _ROUNDINGS * epsilon * np.maximum(np.abs(before), np.abs(after))
    mask = np.ones(len(after), np.bool_)
    for name, bound in bounds.items():
        limit = float(bound)
        if name in ("ge", "gt"):
            mask &= difference >= limit - slack if name == "ge" else difference > limit
        else:
            mask &= difference <= limit + slack if name == "le" else difference < limit
    return mask


def describe_difference(scale: Scale, before: Any, after: Any) -> str:
    """The difference of two positions: ``6``, ``0.5``, ``1d 2h``."""
    if scale.epsilon:
        return repr(float(after) - float(before))
    difference = int(after) - int(before)
    return _duration(difference * NANOSECONDS[scale.unit]) if scale.unit else str(difference)


def _duration(nanoseconds: int) -> str:
    parts, left = [], abs(nanoseconds)
    for size, unit in _DURATIONS:
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    if left or not parts:
        parts.append(f"{left}ns" if left else "0s")
    return ("-" if nanoseconds < 0 else "") + " ".join(parts)
