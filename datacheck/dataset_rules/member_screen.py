"""Which numbers are among some others: a screen of a few instructions a value that never misses one that is not."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from datacheck.leaves import IntArray

Array = np.ndarray[Any, Any]

#: Odd numbers that spread the bits of a number over the highest bits of a product, by the size of the number.
_FACTORS: Final = {4: np.uint32(0x9E3779B1), 8: np.uint64(0x9E3779B97F4A7C15)}
#: Slots of the table for each member, so that few members share one.
_SLOTS: Final = 8


class MemberScreen:
    """A table with one member in each slot; members that share a slot with another one are not found.

    ``members`` are different numbers of one dtype of at most 64 bits, in the byte order of the machine, without NaN and -0.0.
    """

    def __init__(self, members: Array) -> None:
        self.dtype = members.dtype
        keys = _bits(members)
        self._is_member: Array | None = None
        if keys.dtype.itemsize <= 2:
            self._is_member = np.zeros(1 << 8 * keys.dtype.itemsize, np.bool_)
            self._is_member[keys] = True
            return
        width = max(8, (len(keys) * _SLOTS - 1).bit_length())
        self._factor = _FACTORS[keys.dtype.itemsize]
        self._shift = keys.dtype.type(8 * keys.dtype.itemsize - width)
        # The first member is never found in a slot that is not its own.
        self._table = np.full(1 << width, keys[0])
        self._table[self._slots(keys)] = keys

    def outside(self, values: Array) -> IntArray:
        """The positions of the values that may be no members: of all that are none, and of a few that are."""
        keys = _bits(values)
        is_found = self._is_member[keys] if self._is_member is not None else self._table[self._slots(keys)] == keys
        return np.flatnonzero(~is_found) if not is_found.all() else np.empty(0, np.int64)

    def _slots(self, keys: Array) -> IntArray:
        slots: IntArray = ((keys * self._factor) >> self._shift).astype(np.int64)
        return slots


def _bits(values: Array) -> Array:
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))
