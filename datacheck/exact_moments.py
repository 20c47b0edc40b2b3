"""The exact sum of values and of their squares, at a few passes over the processor's cache.

Each block of values is cut into parts of so few bits that their sum needs at most the 53 bits of a double. So it has
no rounding error, in whatever order the processor adds. Halves of a float32 are so short that their products add up in
doubles, too. A product of other parts has more bits. But the sum of products is known in two ways: as doubles, up to an
error far below 2**63 units, and as integers that wrap around, exactly up to a multiple of 2**64 units. Together they are
exact. Values so small beside the others that their last bits would be cut off have blocks of their own.
"""

from __future__ import annotations

import itertools
import math
import threading
from fractions import Fraction
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

#: Values in a block: sums of this many values of 38 bits are exact.
_BLOCK: Final = 1 << 15
#: Values in a dot product: BLAS does no more than that in one thread.
_WIDTH: Final = 4096
#: The bits of a part. Products of ``_BLOCK`` pairs add up to an error of 2**(2 * 38 + 15 + 15 - 53) units in doubles.
_BITS: Final = 38
#: The bits that the largest double of a block may have more than the smallest; they have two parts.
_SPREAD: Final = 19
#: The same of float32, whose values then are multiples of ``2**-_SINGLE_BITS`` of the largest; and the bits of their upper
#: half. The sums of the products of two halves have at most 2 * 19 + 15, 37 + 15 and 2 * 18 + 15 bits.
_SINGLE_SPREAD: Final = 15
_SINGLE_BITS, _UPPER_BITS = 38, 19
#: So few small values are added one by one.
_FEW: Final = 64
#: The bits of the parts of integers that are more than one part, and of those whose squares add up exactly in doubles.
_INTEGER_BITS: Final = 32
_SHORT_BITS: Final = 19
#: Everything is an integer in units of the smallest double, 2**-1074, or of its square.
_LOWEST: Final = 1074
#: Beyond this exponent the squares of doubles overflow or lose digits.
_SAFE_EXPONENT: Final = 300

_ONES: Final = np.ones(_WIDTH)

_local = threading.local()


class ExactMoments:
    """The sum of the finite ones of numbers and, with ``squares``, of their squares, exactly.

    Attributes:
        units: the sum in units of 2**-1074.
        square_units: the sum of the squares in units of 2**-2148.
    """

    __slots__ = ("_needs_squares", "square_units", "units")

    def __init__(self, *, squares: bool) -> None:
        self._needs_squares = squares
        self.units = self.square_units = 0

    @property
    def sum(self) -> Fraction:
        return Fraction(self.units, 1 << _LOWEST)

    def means(self, counts: list[int]) -> list[float]:
        """The mean, rounded once, as the only one of a list: of the finite values there are ``counts[0]``."""
        return [float(self.sum / counts[0])]

    @property
    def sum_of_squares(self) -> Fraction:
        return Fraction(self.square_units, 1 << 2 * _LOWEST)

    def merge(self, other: ExactMoments) -> None:
        """Add what another one has."""
        self.units += other.units
        self.square_units += other.square_units

    def add(self, values: Array) -> bool:
        """Add values of a boolean, integer or floating-point dtype in native byte order; whether all are finite."""
        if values.dtype.kind == "b":
            values = values.view(np.uint8)
        elif values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
            values = values.astype(np.float32 if values.dtype.itemsize < 4 else np.float64)
        blocks = (values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK))
        if values.dtype.kind != "f":
            for block in blocks:
                self._add_integers(block)
            return True
        is_single = values.dtype.itemsize == 4
        add, spread = (self._add_singles, _SINGLE_SPREAD) if is_single else (self._add_doubles, _SPREAD)
        left, are_finite = [], True
        for block in blocks:
            parts, exponent, small = _split_small(block, spread)
            if exponent is None:
                are_finite, small = False, block[np.isfinite(block)]
            else:
                add(parts, exponent)
            if len(small):
                left.append(small)
        if sum(map(len, left)) > _FEW:
            self.add(np.concatenate(left))
        else:
            for number in itertools.chain.from_iterable(small.tolist() for small in left):
                self._add_number(number)
        return are_finite

    def _add_number(self, number: float) -> None:
        whole, denominator = number.as_integer_ratio()
        unit = 1 - denominator.bit_length()
        self.units += _shifted(whole, unit + _LOWEST)
        self.square_units += _shifted(whole * whole, 2 * (unit + _LOWEST))

    def _add_singles(self, parts: Array, exponent: int) -> None:
        upper, lower = parts
        unit, upper_unit = exponent - _SINGLE_BITS, exponent - _UPPER_BITS
        first, second = parts.reshape(2, -1, min(_WIDTH, parts.shape[1]))
        # BLAS adds faster than NumPy, in an order that makes no difference here.
        self.units += _shifted(_whole(_dot(second, _ONES[: second.shape[1]]), unit), unit + _LOWEST)
        if not self._needs_squares:
            return
        _split(lower, upper_unit, upper)
        for one, other, product_unit, times in (
            (first, first, 2 * upper_unit, 0),
            (first, second, upper_unit + unit, 1),
            (second, second, 2 * unit, 0),
        ):
            self.square_units += _shifted(_whole(_dot(one, other), product_unit), product_unit + times + 2 * _LOWEST)

    def _add_doubles(self, parts: Array, exponent: int) -> None:
        scale = 0 if abs(exponent) < _SAFE_EXPONENT else max(-900, min(exponent, 900))
        if scale:
            parts[1] *= math.ldexp(1.0, -scale)
        units = [exponent - _BITS, exponent - 2 * _BITS]
        _split(parts[1], units[0] - scale, parts[0])
        self._add_parts(parts, units, scale)

    def _add_integers(self, values: Array) -> None:
        bits = max(int(values.max()).bit_length(), int(values.min()).bit_length())
        count = 1 if bits <= _BITS else 2
        parts, _ = _scratch(values)
        if bits <= _SHORT_BITS and self._needs_squares:
            parts[0, : len(values)] = values
            self.units += _shifted(_whole(np.add.reduce(parts[0]), 0), _LOWEST)
            rows = parts[0].reshape(-1, min(_WIDTH, parts.shape[1]))
            self.square_units += _shifted(_whole(np.add.reduce(np.vecdot(rows, rows)), 0), 2 * _LOWEST)
            return
        units = [_INTEGER_BITS * (count - 1 - index) for index in range(count)]
        for index, unit in enumerate(units):
            # The first part has all bits from its unit on, and so the sign.
            first = -1 << unit if values.dtype.kind == "i" else np.iinfo(values.dtype).max >> unit << unit
            parts[index, : len(values)] = values & values.dtype.type(0xFFFFFFFF if index else first)
        self._add_parts(parts[:count], units, 0)

    def _add_parts(self, parts: Array, units: list[int], scale: int) -> None:
        """Add the values that are the sums of some parts, multiples of ``2**unit``, which are scaled by ``2**-scale``.

        The parts are overwritten.
        """
        if not self._needs_squares:
            for part, unit in zip(parts, units, strict=True):
                self.units += _shifted(_whole(np.add.reduce(part), unit - scale), unit + _LOWEST)
            return
        number, width = parts.shape[1], min(_WIDTH, parts.shape[1])
        rows = parts.reshape(len(parts), -1, width)
        pairs = [(first, second) for first in range(len(parts)) for second in range(first, len(parts))]
        nearly = [np.add.reduce(np.vecdot(rows[first], rows[second])) for first, second in pairs]
        # The bits of a multiple of the unit and of this number are an integer: that multiple, and the bits of the number.
        magnets = [math.ldexp(1.5, unit - scale + 52) for unit in units]
        offsets = np.array(magnets).view(np.int64).tolist()
        parts += np.array(magnets)[:, None]
        integers = rows.view(np.int64)
        sums = [
            _wrapped(int(np.add.reduce(part, axis=None)) - number * at)
            for part, at in zip(integers, offsets, strict=True)
        ]
        for total, unit in zip(sums, units, strict=True):
            self.units += _shifted(total, unit + _LOWEST)
        for (first, second), product in zip(pairs, nearly, strict=True):
            one, other, unit = offsets[first], offsets[second], units[first] + units[second]
            wrapped = int(np.add.reduce(np.vecdot(integers[first], integers[second])))
            wrapped -= one * sums[second] + other * sums[first] + number * one * other
            near = _whole(product, unit - 2 * scale)
            self.square_units += _shifted(near + _wrapped(wrapped - near), unit + 2 * _LOWEST + (first != second))


def _split_small(values: Array, spread: int) -> tuple[Array, int | None, Array]:
    """Two parts, of which the second has the values, the exponent of the largest, and those that are too small beside it.

    The exponent is None where a value is non-finite.
    """
    parts, magnitudes = _scratch(values)
    np.abs(values, out=magnitudes)
    largest = float(magnitudes.max())
    if not math.isfinite(largest):
        return parts, None, values
    exponent = math.frexp(largest)[1]
    is_small = magnitudes < math.ldexp(1.0, exponent - spread)
    parts[1, : len(values)] = values
    (positions,) = is_small.nonzero()
    if len(positions) > len(values) // 16 and len(positions) == len(values) - np.count_nonzero(values):
        positions = positions[:0]  # Zeros are in every unit.
    small: Array = values[positions]
    small = small[small != 0]
    if len(small):
        parts[1, positions] = 0.0
    return parts, exponent, small


def _split(values: Array, unit: int, upper: Array) -> None:
    """Round values to multiples of ``2**unit`` in ``upper``, and keep what the rounding takes away."""
    magnet = math.ldexp(1.5, unit + 52)
    np.add(values, magnet, out=upper)
    np.subtract(upper, magnet, out=upper)
    np.subtract(values, upper, out=values)


def _dot(one: Array, other: Array) -> float:
    # Of a few rows, Python adds the sums faster than NumPy.
    sums: list[float] = np.vecdot(one, other).tolist()
    return sum(sums)


def _scratch(values: Array) -> tuple[Array, Array]:
    """Space for the parts of a block, in full rows of which the last values are 0, and for its magnitudes."""
    if not hasattr(_local, "parts"):
        _local.parts, _local.magnitudes = np.empty((2, _BLOCK)), np.empty(_BLOCK)
    size = len(values)
    filled = size if size <= _WIDTH else -(-size // _WIDTH) * _WIDTH
    parts = _local.parts[:, :filled]
    parts[:, size:] = 0.0
    return parts, _local.magnitudes.view(values.dtype)[:size]


def _whole(number: float, unit: int) -> int:
    return int(math.ldexp(number, -unit))


def _wrapped(number: int) -> int:
    """The integer of 64 bits that differs from a number by a multiple of 2**64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _shifted(number: int, bits: int) -> int:
    return number << bits if bits >= 0 else number >> -bits
