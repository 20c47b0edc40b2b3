"""Leaves: flat arrays of values, the common input of all checks.

A nested Arrow column, a member of an archive, a sample of a dataset, the output of a module: a walker for each yields
leaves, and the checks need not know where a leaf came from. This file has the leaf and the walkers over NumPy arrays and
Python structures; the walker over Arrow arrays is in :mod:`datacheck.batch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from datacheck.distinct import distinct

if TYPE_CHECKING:
    import pyarrow as pa


IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

#: Floating-point formats without a NumPy dtype, and the unsigned integers that store them.
FLOAT_FORMATS: dict[str, np.dtype[Any]] = {
    "bfloat16": np.dtype(np.uint16),
    "float8_e4m3fn": np.dtype(np.uint8),
    "float8_e4m3fnuz": np.dtype(np.uint8),
    "float8_e5m2": np.dtype(np.uint8),
    "float8_e5m2fnuz": np.dtype(np.uint8),
    "float8_e8m0fnu": np.dtype(np.uint8),
}


class Level(Protocol):
    """One step from a flat position towards the row that holds it."""

    def parents(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        """The positions one step out, ``(n,)``, and the index digits that this step adds, ``(n, k)``."""
        ...


@dataclass(frozen=True, slots=True)
class Regular:
    """Positions in the memory of an array of ``shape``, whose first axis is the parent's.

    ``order`` is the memory order: ``"C"`` or ``"F"``. ``axes`` maps each axis of ``shape`` but the first to its axis in the
    reported index, if they differ.
    """

    shape: tuple[int, ...]
    order: str = "C"
    axes: tuple[int, ...] | None = None

    def parents(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        unravelled = np.unravel_index(positions, self.shape, order="F" if self.order == "F" else "C")
        first, *rest = (np.asarray(axis, np.int64) for axis in unravelled)
        digits = np.stack(rest, axis=1) if rest else np.empty((len(positions), 0), np.int64)
        if self.axes is not None:
            digits = digits[:, np.argsort(self.axes)]
        return first, digits


@dataclass(frozen=True, slots=True)
class Ragged:
    """Positions in the flattened values of lists: list ``i`` holds ``offsets[i]`` to ``offsets[i + 1]``."""

    offsets: IntArray

    def parents(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        owner = np.searchsorted(self.offsets, positions, side="right") - 1
        return owner, (positions - self.offsets[owner])[:, None]


@dataclass(frozen=True, slots=True)
class Picked:
    """Positions among selected parents: position ``i`` belongs to parent ``indices[i]``."""

    indices: IntArray

    def parents(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        return self.indices[positions], np.empty((len(positions), 0), np.int64)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One flat array of plain values, and the way back from a position in it to a row and an index.

    ``path`` names it (``struct.a``, ``lists[]``, ``encoder.3.mlp``; None for the array of an ``.npy``).

    ``values`` is a one-dimensional NumPy array for numbers and booleans, in memory order. For text, bytes, times,
    decimals, and for containers (a list or struct column, whose own nulls count), it is a flat Arrow array. It is None
    if the values cannot be checked, and ``problem`` then says why.

    ``dtype`` is the logical dtype: NumPy's name for numbers, ``bfloat16`` or ``float8_*`` for those formats (the values
    are then the unsigned integers that store them), Arrow's name for the rest.

    ``validity`` is True for a value and False for a null (whose bytes are arbitrary); None if there is no null.

    ``levels`` lead from a flat position outwards to the row; without levels, the position is the row.

    ``shape`` is the shape of the field's value: of the whole array for an array, of one row's value for a column.

    ``unconvertible`` is True where a value could not be converted to ``dtype``: it is not valid, but not a null either.

    ``is_parameter`` marks a weight of a model.

    ``absent`` is True where a record has neither a value nor a null at this path: the key is missing, or its value is of
    another type. It is not valid, but not a null either.

    ``missing`` is True where a value stands for a missing one (-999), as the schema says. It is valid, but only the rule on
    such values looks at it.

    ``codes``, only if the walker was asked for distinct values: ``values`` then holds each value once, and ``codes`` is the
    position in it of each flat position's value (arbitrary for a null). Everything else is by flat position.
    """

    path: str | None
    values: Any
    dtype: str
    validity: BoolArray | None = None
    levels: tuple[Level, ...] = ()
    shape: tuple[int | None, ...] | None = None
    problem: str = ""
    unconvertible: BoolArray | None = None
    missing: BoolArray | None = None
    codes: IntArray | None = None
    is_parameter: bool = False
    absent: BoolArray | None = None

    def __len__(self) -> int:
        if self.codes is not None:
            return len(self.codes)
        return 0 if self.values is None else len(self.values)

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers in a NumPy array."""
        return isinstance(self.values, np.ndarray)

    @property
    def may_be_nonfinite(self) -> bool:
        """Whether the dtype has NaN or infinities."""
        return has_nonfinite(self.dtype)

    @property
    def num_nulls(self) -> int:
        return 0 if self.validity is None else int(len(self.validity) - np.count_nonzero(self.validity))

    def locate(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        """Rows ``(n,)`` and the index inside each row's value ``(n, k)`` of flat positions."""
        digits: list[IntArray] = []
        current = np.asarray(positions, np.int64)
        for level in self.levels:
            current, found = level.parents(current)
            digits.insert(0, found)
        index = np.concatenate(digits, axis=1) if digits else np.empty((len(current), 0), np.int64)
        return current, index

    def rows(self, positions: IntArray) -> IntArray:
        """The rows of flat positions, sorted, without duplicates."""
        return distinct(self.locate(positions)[0]) if self.levels else np.asarray(positions, np.int64)


def has_nonfinite(dtype: str) -> bool:
    """Whether a logical dtype can hold NaN or an infinity."""
    return dtype.startswith(("float", "complex", "bfloat", "longdouble", "clongdouble"))


def walk_array(path: str | None, array: np.ndarray[Any, Any], dtype: str | None = None) -> Iterator[Leaf]:
    """The leaves of a NumPy array whose first axis is the rows.

    Any order, strides and byte order; structured dtypes field by field; masked arrays with their mask; ml_dtypes'
    formats by their bits. A 0-d array is one row. ``dtype`` is the logical dtype of an array of unsigned integers that
    store another format. What cannot be checked is a leaf with a ``problem``.
    """
    if array.dtype.names is not None:
        for name in array.dtype.names:
            yield from walk_array(f"{path}.{name}" if path else name, array[name])
        return
    validity = None
    # NumPy imports its masked arrays when they are first named.
    if type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray):
        validity = np.ascontiguousarray(~np.ma.getmaskarray(array)).reshape(-1)
        array = np.ascontiguousarray(array.data)
    dtype, kind, shape = dtype or _name_of(array.dtype), array.dtype.kind, array.shape
    if dtype in FLOAT_FORMATS:
        array, kind = array.view(FLOAT_FORMATS[dtype]), "u"
    if kind in "?biufc":
        flat, levels = _flatten(array)
        yield Leaf(path, flat, dtype, validity, levels, shape)
    elif kind in "SUTmM":
        flat, levels = _flatten(array)
        try:
            values = _to_arrow(flat, validity)
        except (ValueError, SystemError) as error:
            # Python refuses code points beyond U+10FFFF in one way or the other.
            reason = error.__cause__ or error
            yield Leaf(path, None, dtype, None, (), shape, f"its text is not valid Unicode ({reason})")
            return
        is_counted = kind in "mM" and np.datetime_data(array.dtype) not in _ARROW_UNITS
        yield Leaf(path, values, dtype if is_counted else str(values.type), arrow_validity(values), levels, shape)
    else:
        problem = "cannot check an array of Python objects" if kind == "O" else f"unknown dtype {dtype}"
        yield Leaf(path, None, dtype, None, (), shape, problem)


@lru_cache(maxsize=256)
def _name_of(dtype: np.dtype[Any]) -> str:
    """NumPy's name for a dtype, except for long doubles, whose name depends on the machine."""
    if dtype.type is np.longdouble and dtype.itemsize > 8:
        return "longdouble"
    if dtype.type is np.clongdouble and dtype.itemsize > 16:
        return "clongdouble"
    return str(dtype.name)


#: Arrow's units of time.
_ARROW_UNITS = {(unit, 1) for unit in ("s", "ms", "us", "ns")}


def _to_arrow(flat: np.ndarray[Any, Any], validity: BoolArray | None) -> pa.Array:
    """Text, bytes or times as a flat Arrow array. Times in a unit that Arrow lacks become integers, NaT becomes null."""
    import pyarrow as pa

    mask = None if validity is None else ~validity
    if flat.dtype.kind in "SUT":
        return pa.array(flat.astype(object), mask=mask)
    flat = flat if flat.dtype.isnative else flat.astype(flat.dtype.newbyteorder("="))
    if np.datetime_data(flat.dtype) in _ARROW_UNITS:
        return pa.array(flat, mask=mask)
    absent = np.isnat(flat) if mask is None else np.isnat(flat) | mask
    return pa.array(flat.view(np.int64), mask=absent)


def _flatten(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], tuple[Level, ...]]:
    """The array as one dimension in memory order, without a copy if possible."""
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    flat = (array.T if order == "F" else array).reshape(-1)
    return flat, (Regular(array.shape or (1,), order),) if array.ndim != 1 else ()


def arrow_validity(values: pa.Array) -> BoolArray | None:
    """True where an Arrow array has a value; None if it has no null."""
    if values.null_count == 0:
        return None
    return arrow_bits(values.is_valid())


def arrow_bits(values: pa.BooleanArray) -> BoolArray:
    """The bits of a boolean Arrow array; the bits of nulls are arbitrary.

    ``to_numpy`` would do, but makes pyarrow import pandas: 0.3 s, in whichever thread comes first.
    """
    data = values.buffers()[1]
    if data is None:
        return np.zeros(len(values), np.bool_)
    first, skip = divmod(values.offset, 8)
    packed = np.frombuffer(data, np.uint8, offset=first)
    return np.unpackbits(packed, count=skip + len(values), bitorder="little")[skip:].view(np.bool_)
