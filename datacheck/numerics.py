"""Finds bad numbers: a screen at memory speed that never misses, and exact masks for the blocks that trip it.

The screen for float32, float64 and complex values is a sum of squares over rows of ``SCREEN_WIDTH`` values
(``np.vecdot``, a BLAS dot a row): a NaN stays NaN, an infinity squared is +inf and nothing can cancel it, and whatever
is added afterwards leaves the sum non-finite. So a finite sum proves that every value is finite. Finite values above
about 1e17 in float32 can overflow the sum: a false alarm, which the exact mask settles. For float16, bfloat16 and float8 the
screen is exact: two integer maxima over the bits, signed and unsigned, since non-finite values are the largest bit
patterns of either sign. With bounds, the screen is the minimum and the maximum, which propagate NaN.

Everything here takes one-dimensional arrays; a logical dtype names formats that NumPy does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datacheck.leaves import FLOAT_FORMATS, BoolArray, has_nonfinite

Array = np.ndarray[Any, Any]

#: Values in one row of the screen: a row fits the L1 cache, and is the smallest range of an exact mask.
SCREEN_WIDTH = 4096
#: Values in one block: large enough that the interpreter's share of a pass is below one percent.
BLOCK = 1 << 20
#: One row in this many is checked to tell whether a block after a dense one is dense too.
_SAMPLED_ROWS = 16
#: So few values are screened at once: their blocks are looked at one by one only if something is found.
_FEW = _SAMPLED_ROWS * SCREEN_WIDTH
#: Values whose one extreme is looked at, where only that can be out of bounds.
_ONE_SIDED_BLOCK = 1 << 24
#: Values in one block that is read twice: a block fits the L2 cache.
CACHED_BLOCK = 1 << 17


@dataclass(frozen=True, slots=True)
class BitFormat:
    """The non-finite bit patterns of a narrow format, as unsigned integers without the sign bit.

    ``inf`` is None if the format has no infinity. A pattern in ``[first_nan, last_nan]`` is NaN. ``sign`` is the sign
    bit, 0 for a format without one; with ``nan_at_negative_zero`` that pattern is the one NaN.
    """

    storage: type[np.unsignedinteger[Any]]
    sign: int
    inf: int | None
    first_nan: int | None
    last_nan: int | None
    nan_at_negative_zero: bool = False

    @property
    def first_nonfinite(self) -> int | None:
        return self.first_nan if self.inf is None else self.inf


#: IEEE 754 half, Google's bfloat16 and the OCP 8-bit formats (MX specification 1.0; the "fnuz" ones as in ONNX).
BIT_FORMATS: dict[str, BitFormat] = {
    "float16": BitFormat(np.uint16, 0x8000, 0x7C00, 0x7C01, 0x7FFF),
    "bfloat16": BitFormat(np.uint16, 0x8000, 0x7F80, 0x7F81, 0x7FFF),
    "float8_e5m2": BitFormat(np.uint8, 0x80, 0x7C, 0x7D, 0x7F),
    "float8_e4m3fn": BitFormat(np.uint8, 0x80, None, 0x7F, 0x7F),
    "float8_e4m3fnuz": BitFormat(np.uint8, 0x80, None, None, None, nan_at_negative_zero=True),
    "float8_e5m2fnuz": BitFormat(np.uint8, 0x80, None, None, None, nan_at_negative_zero=True),
    "float8_e8m0fnu": BitFormat(np.uint8, 0, None, 0xFF, 0xFF),
}


def keep_freed_memory(num_bytes: int = 4 << 20) -> None:
    """Let the C library keep up to twice ``num_bytes`` of what is freed, at most 32 MiB, for what is allocated next.

    Otherwise glibc returns larger arrays to the system, which clears every page before its next use: that can take as long as
    the work itself. It keeps as much as was once allocated, though never touched (``M_MMAP_THRESHOLD`` of mallopt(3)).
    """
    np.empty(num_bytes, np.uint8)


def _bits(values: Array, form: BitFormat) -> Array:
    return _native(values).view(form.storage)


def _native(values: Array) -> Array:
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def nan_mask(values: Array, dtype: str) -> BoolArray:
    """True where a value is NaN; of a complex value, where either part is."""
    form = BIT_FORMATS.get(dtype)
    if form is None:
        mask: BoolArray = np.isnan(values)
        return mask
    bits = _bits(values, form)
    if form.nan_at_negative_zero:
        return np.asarray(bits == form.sign)
    magnitude = bits & form.storage(~form.sign & np.iinfo(form.storage).max)
    assert form.first_nan is not None
    return np.asarray(magnitude >= form.first_nan)


def posinf_mask(values: Array, dtype: str) -> BoolArray:
    """True where a value is +inf; of a complex value, where either part is."""
    return _inf_mask(values, dtype, negative=False)


def neginf_mask(values: Array, dtype: str) -> BoolArray:
    """True where a value is -inf; of a complex value, where either part is."""
    return _inf_mask(values, dtype, negative=True)


def _inf_mask(values: Array, dtype: str, *, negative: bool) -> BoolArray:
    form = BIT_FORMATS.get(dtype)
    if form is not None:
        if form.inf is None:
            return np.zeros(len(values), np.bool_)
        return np.asarray(_bits(values, form) == (form.inf | (form.sign if negative else 0)))
    infinity = -np.inf if negative else np.inf
    if values.dtype.kind == "c":
        return np.asarray((values.real == infinity) | (values.imag == infinity))
    return np.asarray(values == infinity)


def is_finite(values: Array, dtype: str) -> bool:
    """Whether every value is finite; exact."""
    return not any(_holds_nonfinite(values[part], dtype) for part in suspicious(values, dtype))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lower and upper bounds, inclusive (``ge``, ``le``) and exclusive (``gt``, ``lt``); None for no bound."""

    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    lt: float | None = None

    @property
    def magnitude(self) -> float | None:
        """The limit of the absolute value, if that is what the bounds are."""
        is_magnitude = (
            self.le is not None and self.le >= 0 and self.ge == -self.le and self.gt is None and self.lt is None
        )
        return self.le if is_magnitude else None

    def hold(self, smallest: Any, largest: Any) -> bool:
        """Whether all values from ``smallest`` to ``largest`` are within the bounds; False for NaN."""
        return bool(
            smallest <= largest
            and (self.ge is None or smallest >= self.ge)
            and (self.gt is None or smallest > self.gt)
            and (self.le is None or largest <= self.le)
            and (self.lt is None or largest < self.lt)
        )


def suspicious(values: Array, dtype: str, bounds: Bounds | None = None) -> Iterator[slice]:
    """Slices that may hold a non-finite value or, if bounds are given, a value out of bounds.

    Everything outside the slices is proven clean: the screen never misses. A slice may be a false alarm. Slices are in
    order, do not overlap, and have at most two blocks each.
    """
    if len(values) == 0:
        return
    if bounds is not None and dtype == "bfloat16" and bounds.magnitude is not None:
        # The bits of a magnitude are in its order: those of the limit, rounded down, stand in for those of infinity.
        limit = int(np.float32(bounds.magnitude).view(np.uint32)) >> 16
        found = _suspicious_by_bits(values, replace(BIT_FORMATS[dtype], inf=limit))
    elif bounds is not None:
        found = _suspicious_by_range(values, dtype, bounds)
    elif dtype in BIT_FORMATS:
        found = _suspicious_by_bits(values, BIT_FORMATS[dtype])
    elif not has_nonfinite(dtype):
        return
    elif values.dtype.type in (np.float32, np.float64, np.complex64, np.complex128):
        found = _suspicious_by_squares(values)
    else:
        found = _suspicious_by_value(values)
    yield from _merged(found)


def _holds_nonfinite(values: Array, dtype: str) -> bool:
    return dtype in BIT_FORMATS or not bool(np.isfinite(values).all())


def _merged(slices: Iterator[tuple[int, int]]) -> Iterator[slice]:
    """Join adjacent ranges up to a block, so that exact masks run over few long ranges in bounded memory."""
    start = stop = -1
    for begin, end in slices:
        if begin == stop and end - start <= BLOCK:
            stop = end
            continue
        if stop >= 0:
            yield slice(start, stop)
        start, stop = begin, end
    if stop >= 0:
        yield slice(start, stop)


def _suspicious_by_squares(values: Array) -> Iterator[tuple[int, int]]:
    parts = 2 if values.dtype.kind == "c" else 1
    if len(values) <= _FEW and not _tripped(_as_floats(values)[None])[0]:
        return
    block = BLOCK // parts
    is_dense = False
    for start in range(0, len(values), block):
        chunk = _as_floats(values[start : start + block])
        # What the first block is like is not known yet: its first rows say it.
        if (is_dense and _mostly_trips(chunk)) or (start == 0 and _mostly_trips(chunk[:_FEW])):
            is_dense = True
            yield start, start + len(chunk) // parts
            continue
        whole = len(chunk) // SCREEN_WIDTH * SCREEN_WIDTH
        tripped = _tripped(chunk[:whole].reshape(-1, SCREEN_WIDTH))
        num_tripped = int(np.count_nonzero(tripped))
        is_dense = 2 * num_tripped > len(tripped)
        for first, stop in _runs(tripped) if num_tripped else ():
            yield start + first * SCREEN_WIDTH // parts, start + stop * SCREEN_WIDTH // parts
        if _tripped(chunk[None, whole:])[0]:
            yield start + whole // parts, min(start + block, len(values))


def _as_floats(values: Array) -> Array:
    """Contiguous floats in the order of this machine; of a complex number, both parts."""
    values = np.ascontiguousarray(_native(values))
    return values.view(values.real.dtype) if values.dtype.kind == "c" else values


def _tripped(rows: Array) -> BoolArray:
    """True for each row whose sum of squares is non-finite."""
    with np.errstate(all="ignore"):
        return np.asarray(~np.isfinite(np.vecdot(rows, rows)))


def _mostly_trips(chunk: Array) -> bool:
    """Whether most of a sample of the rows of a block trip, so that the screen of all of them would prove little."""
    whole = len(chunk) // SCREEN_WIDTH * SCREEN_WIDTH
    tripped = _tripped(chunk[:whole].reshape(-1, SCREEN_WIDTH)[::_SAMPLED_ROWS])
    return 2 * int(np.count_nonzero(tripped)) > len(tripped)


def _runs(mask: BoolArray) -> list[tuple[int, int]]:
    """The ranges of consecutive True values."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]


def _suspicious_by_bits(values: Array, form: BitFormat) -> Iterator[tuple[int, int]]:
    signed = np.dtype(f"i{np.dtype(form.storage).itemsize}")
    for start in range(0, len(values), CACHED_BLOCK):
        bits = np.ascontiguousarray(_bits(values[start : start + CACHED_BLOCK], form))
        if form.nan_at_negative_zero:
            # Negative zero is the smallest signed pattern.
            tripped = int(np.minimum.reduce(bits.view(signed))) == np.iinfo(signed).min
        else:
            first = form.first_nonfinite
            assert first is not None
            tripped = int(np.maximum.reduce(bits)) >= (first | form.sign)
            if form.sign:
                tripped = tripped or int(np.maximum.reduce(bits.view(signed))) >= first
        if tripped:
            yield start, start + len(bits)


def _suspicious_by_value(values: Array) -> Iterator[tuple[int, int]]:
    """For long doubles, which have neither a BLAS dot product nor a bit screen."""
    for start in range(0, len(values), CACHED_BLOCK):
        chunk = values[start : start + CACHED_BLOCK]
        if not np.isfinite(chunk).all():
            yield start, start + len(chunk)


def _suspicious_by_range(values: Array, dtype: str, bounds: Bounds) -> Iterator[tuple[int, int]]:
    is_one_sided = (bounds.ge is None and bounds.gt is None) or (bounds.le is None and bounds.lt is None)
    # One reduction is all that clean values cost then: where it trips is looked for only if it does.
    step = _ONE_SIDED_BLOCK if is_one_sided and not has_nonfinite(dtype) else BLOCK
    for first in range(0, len(values), step):
        chunk = values[first : first + step]
        if step > BLOCK:
            extreme = (np.maximum if bounds.ge is None and bounds.gt is None else np.minimum).reduce(chunk)
            if bounds.hold(extreme, extreme):
                continue
        for start in range(first, first + len(chunk), BLOCK):
            yield from _out_of_range(values[start : min(start + BLOCK, first + step)], dtype, bounds, start)


def _out_of_range(values: Array, dtype: str, bounds: Bounds, start: int) -> list[tuple[int, int]]:
    found = []
    nonfinite = has_nonfinite(dtype)
    # Of floats both extremes even for one bound, since an infinity may be at the other end; either reduction propagates NaN.
    needs_low = nonfinite or bounds.ge is not None or bounds.gt is not None
    needs_high = nonfinite or bounds.le is not None or bounds.lt is not None
    with np.errstate(all="ignore"):
        step = CACHED_BLOCK if needs_low and needs_high else BLOCK
        for begin in range(0, len(values), step):
            chunk = to_float(values[begin : begin + step], dtype)
            largest = np.maximum.reduce(chunk) if needs_high else np.minimum.reduce(chunk)
            smallest = np.minimum.reduce(chunk) if needs_low and needs_high else largest
            clean = bounds.hold(smallest, largest)
            if nonfinite:
                # A long double beyond float64 counts as infinite here: a false alarm.
                clean = clean and math.isfinite(smallest) and math.isfinite(largest)
            if not clean:
                found.append((start + begin, start + begin + len(chunk)))
    return found


def to_float(values: Array, dtype: str) -> Array:
    """Values in a dtype that NumPy can compare: bfloat16, float8 and float16 become float32."""
    if dtype == "bfloat16":
        return (_native(values).astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype in FLOAT_FORMATS:
        return _float8_table(dtype)[values]
    if dtype == "float16":
        return values.astype(np.float32)
    return _native(values)


_FLOAT8_TABLES: dict[str, Array] = {}


def _float8_table(dtype: str) -> Array:
    """The value of each of the 256 bit patterns of an 8-bit format, as float32."""
    if dtype not in _FLOAT8_TABLES:
        _FLOAT8_TABLES[dtype] = _make_float8_table(dtype)
    return _FLOAT8_TABLES[dtype]


def _make_float8_table(dtype: str) -> Array:
    bits = np.arange(256)
    form = BIT_FORMATS[dtype]
    if dtype == "float8_e8m0fnu":
        table = np.ldexp(1.0, bits - 127)
    else:
        exponent_bits = int(dtype[8])
        mantissa_bits = 7 - exponent_bits
        bias = (1 << (exponent_bits - 1)) - (0 if form.nan_at_negative_zero else 1)
        exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1)
        mantissa = bits & ((1 << mantissa_bits) - 1)
        normal = exponent > 0
        scaled = np.ldexp(
            mantissa + np.where(normal, 1 << mantissa_bits, 0), np.maximum(exponent, 1) - bias - mantissa_bits
        )
        table = np.where(bits & 0x80, -scaled, scaled)
    patterns = bits.astype(np.uint8)
    table = np.where(posinf_mask(patterns, dtype), np.inf, table)
    table = np.where(neginf_mask(patterns, dtype), -np.inf, table)
    table = np.where(nan_mask(patterns, dtype), np.nan, table)
    return table.astype(np.float32)
