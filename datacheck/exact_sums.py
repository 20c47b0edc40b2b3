"""Exact sums of the columns of floating-point matrices, at memory speed.

The method is the pre-rounded summation of Demmel and Nguyen (2015, "Parallel Reproducible Summation"), repeated until
nothing is left: adding and subtracting a large power of two rounds every value of a block to a multiple of a unit.
The unit is so large that the sum of the rounded values has no rounding error. What the rounding took away is exact,
too, and goes through the same again with a smaller unit. Sums of multiples of a unit are kept as integers. So a sum is
exact, and the same in whatever order and in however many parts it is taken.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Values in a block: the block and its two companions in float64 stay in the second-level cache.
_BLOCK = 1 << 15
#: Units are powers of two whose exponents are multiples of this, so that few of them are in use at once.
_UNIT_STEP = 8
_SMALLEST_EXPONENT = -1074
#: Beyond this exponent the large power of two would overflow.
_LARGEST_SAFE_EXPONENT = 900
#: Each addition is of at most 2**53 units, so this many fit an int64.
_ADDITIONS_BEFORE_CARRY = 1 << 9
#: Rows of fewer values than ``_WIDE`` are summed in groups of this many, for a longer innermost loop.
_SIDE_BY_SIDE, _WIDE = 64, 256


class ExactSum:
    """The exact sum of each column of what was added: ``(values,)`` for one column, ``(values, columns)`` for several.

    Everything that is added must be finite.
    """

    __slots__ = ("_additions_since_carry", "_by_unit", "_totals")

    def __init__(self, num_columns: int = 1) -> None:
        #: In units of 2**-1074, the smallest float64.
        self._totals = [0] * num_columns
        self._by_unit: dict[int, Array] = {}
        self._additions_since_carry = 0

    def __getstate__(self) -> list[int]:
        self._carry()
        return self._totals

    def __setstate__(self, totals: list[int]) -> None:
        self._totals, self._by_unit, self._additions_since_carry = totals, {}, 0

    @property
    def num_columns(self) -> int:
        return len(self._totals)

    def add(self, values: Array) -> None:
        """Add finite values of a floating-point dtype of at most 64 bits."""
        matrix = values.reshape(-1, self.num_columns)
        rows = max(1, _BLOCK // self.num_columns)
        if rows > _SIDE_BY_SIDE:
            rows -= rows % _SIDE_BY_SIDE
        scratch = np.empty((2, min(rows, len(matrix)), self.num_columns))
        for start in range(0, len(matrix), rows):
            chunk = matrix[start : start + rows]
            block, rounded = scratch[:, : len(chunk)]
            np.copyto(block, chunk)
            self._add_block(block, rounded)

    def merge(self, other: ExactSum) -> None:
        """Add another sum."""
        other._carry()
        self._totals = [mine + theirs for mine, theirs in zip(self._totals, other._totals, strict=True)]

    def means(self, counts: list[int]) -> list[float]:
        """The mean of each column, rounded once."""
        self._carry()
        unit = Fraction(1, 1 << -_SMALLEST_EXPONENT)
        return [float(Fraction(total, count) * unit) for total, count in zip(self._totals, counts, strict=True)]

    def _add_block(self, block: Array, rounded: Array) -> None:
        largest = max(float(block.max()), -float(block.min()))
        if largest == 0.0:
            return
        exponent = math.frexp(largest)[1]
        if exponent > _LARGEST_SAFE_EXPONENT:
            huge = np.abs(block) >= 1.0
            self._fold(np.where(huge, block * 2.0**-128, 0.0), rounded, exponent - 128, shift=128)
            block[huge] = 0.0
            exponent = 1
        self._fold(block, rounded, exponent, shift=0)

    def _fold(self, block: Array, rounded: Array, exponent: int, shift: int) -> None:
        """Add a block of values below ``2**exponent``, scaled by ``2**shift``. The block is overwritten."""
        headroom = max(1, (len(block) - 1).bit_length())
        while True:
            unit = -(-(exponent + headroom - 52) // _UNIT_STEP) * _UNIT_STEP
            unit = max(unit, _SMALLEST_EXPONENT)
            magnet = math.ldexp(1.5, unit + 52)
            np.add(block, magnet, out=rounded)
            np.subtract(rounded, magnet, out=rounded)
            np.subtract(block, rounded, out=block)
            self._add_units(unit + shift, np.ldexp(_column_sums(rounded), -unit).astype(np.int64))
            if not block.any():
                return
            exponent = unit - 1

    def _add_units(self, unit: int, sums: Array) -> None:
        if unit in self._by_unit:
            self._by_unit[unit] += sums
        else:
            self._by_unit[unit] = sums
        self._additions_since_carry += 1
        if self._additions_since_carry == _ADDITIONS_BEFORE_CARRY:
            self._carry()

    def _carry(self) -> None:
        for unit, sums in self._by_unit.items():
            shift = unit - _SMALLEST_EXPONENT
            for column, number in enumerate(sums.tolist()):
                self._totals[column] += number << shift
        self._by_unit = {}
        self._additions_since_carry = 0


def _column_sums(matrix: Array) -> Array:
    rows, columns = matrix.shape
    if columns == 1:
        return np.array([np.add.reduce(matrix, axis=None)])
    if columns < _WIDE and rows % _SIDE_BY_SIDE == 0:
        matrix = np.add.reduce(matrix.reshape(-1, _SIDE_BY_SIDE * columns), axis=0).reshape(_SIDE_BY_SIDE, columns)
    sums: Array = np.add.reduce(matrix, axis=0)
    return sums
