"""Arrays that lie in a file as they lie in memory: where each one is, and its rows without reading the rest."""

from __future__ import annotations

import ast
import math
import mmap
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from datacheck.batch import Column
from datacheck.errors import SourceError
from datacheck.sources.base import TARGET_BATCH_BYTES, TARGET_UNIT_BYTES, split_rows
from datacheck.sources.error_translation import check_rows

__all__ = ["Place", "check_place", "iter_rows", "parse_npy_header", "row_ranges", "rows_of"]

Array = np.ndarray[Any, Any]

#: The longest header of an ``.npy`` that is parsed: room for some thousand named fields.
MAX_HEADER_BYTES = 1 << 18
#: Fewer bytes are copied: a map costs more, and a process may have no more than some ten thousand.
MAP_FROM_BYTES = 1 << 16
_MAX_DIMENSIONS = 64
_NPY_MAGIC = b"\x93NUMPY"
#: Integers of Python 2 in headers that it wrote.
_LONG = re.compile(r"(?<=\d)L\b")
_BROKEN = "write the file again, or take it out of the inputs"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one array lies: from ``offset`` on, in C order, or in Fortran order where ``fortran``.

    ``logical`` is the logical dtype where ``dtype`` only stores it, ``problem`` why its values cannot be looked into.
    """

    name: str | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int = 0
    fortran: bool = False
    logical: str | None = None
    problem: str = ""

    @property
    def num_rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def is_copied(self) -> bool:
        """Whether rows have to be gathered instead of mapped."""
        return self.fortran and len(self.shape) > 1

    def column(self, data: Array) -> Column:
        return Column(self.name, data, self.logical)


def parse_npy_header(read: Callable[[int], bytes], uri: str, name: str | None = None) -> tuple[Place, int]:
    """The array that an ``.npy`` header describes, and the length of the header; nothing is unpickled.

    ``read`` reads a number of bytes of the stream. The offset of the place is the header's length. Raises
    ``SourceError``: DC903 for an array of Python objects, DC901 for anything that is no header.
    """
    what = "the header" if name is None else f"the header of {name!r}"
    prefix = read(8)
    if len(prefix) < 8 or not prefix.startswith(_NPY_MAGIC):
        raise SourceError("DC901", uri, f"{what} does not begin as that of an .npy", _BROKEN)
    if prefix[6] not in (1, 2, 3):
        raise SourceError("DC901", uri, f"{what} has version {prefix[6]}.{prefix[7]}, which is not known", _BROKEN)
    width = 2 if prefix[6] == 1 else 4
    length = int.from_bytes(read(width), "little")
    if length > MAX_HEADER_BYTES:
        raise SourceError("DC901", uri, f"{what} claims {length:,} bytes, more than {MAX_HEADER_BYTES:,}", _BROKEN)
    text = read(length)
    if len(text) < length:
        raise SourceError("DC901", uri, f"the file ends inside {what}", _BROKEN)
    shape, fortran, dtype = _parse_description(text.decode("utf-8" if prefix[6] == 3 else "latin-1"), uri, what)
    if dtype.hasobject:
        problem = (
            "it holds pickled Python objects" if name is None else f"the array {name!r} holds pickled Python objects"
        )
        raise SourceError(
            "DC903", uri, problem, "save it as numbers, or take it out of the inputs: it is never unpickled"
        )
    return Place(name, dtype, shape, 8 + width + length, fortran), 8 + width + length


def _parse_description(text: str, uri: str, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        try:
            header = ast.literal_eval(text)
        except SyntaxError:
            header = ast.literal_eval(_LONG.sub("", text))
        shape, fortran = header["shape"], header["fortran_order"]
        dtype = np.lib.format.descr_to_dtype(header["descr"])
    except (ValueError, TypeError, LookupError, SyntaxError, MemoryError, RecursionError, AttributeError) as error:
        problem = f"{what} cannot be parsed ({type(error).__name__})"
        raise SourceError("DC901", uri, problem, _BROKEN) from None
    lengths_are_valid = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not lengths_are_valid or len(shape) > _MAX_DIMENSIONS or type(fortran) is not bool:
        raise SourceError("DC901", uri, f"{what} gives no valid shape or order", _BROKEN)
    return shape, fortran, dtype


def check_place(uri: str, place: Place, available: int) -> None:
    """Raise ``SourceError`` where an array claims more than the ``available`` bytes can hold."""
    what = "the array" if place.name is None else f"the array {place.name!r}"
    if place.num_bytes > available:
        problem = (
            f"{what} claims {place.num_bytes:,} bytes ({place.shape} of {place.dtype}), and {available:,} are there"
        )
        raise SourceError("DC901", uri, problem, "it is cut short: write it again")
    check_rows(uri, max(place.num_rows, 0 if place.num_bytes else math.prod(place.shape)), place.num_bytes, what)


def row_ranges(places: list[Place], start: int, count: int) -> list[tuple[int, int]]:
    """Ranges ``(start, count)`` of rows for batches."""
    row_bytes = sum(place.row_bytes for place in places)
    return [(start + first, number) for first, number in split_rows(count, row_bytes, TARGET_BATCH_BYTES)]


def rows_of(file: BinaryIO, place: Place, start: int, count: int) -> Array:
    """Some rows of an array: mapped where they lie together, copied where they do not or where they are few.

    Each call has a map of its own, which goes when the last array over it goes: pages that have been checked do not
    stay in the process.
    """
    shape = (count, *place.shape[1:]) if place.shape else ()
    num_bytes = math.prod(shape) * place.dtype.itemsize
    if num_bytes == 0:
        return np.zeros(shape, place.dtype)
    if place.is_copied:
        return _gathered(file, place, start, count)
    begin = place.offset + start * place.row_bytes
    if num_bytes < MAP_FROM_BYTES:
        data = os.pread(file.fileno(), num_bytes, begin)
        if len(data) < num_bytes:
            raise EOFError("the file ends inside the array")
        return np.frombuffer(data, place.dtype).reshape(shape)
    return _mapped(file, place.dtype, begin, shape)


def _mapped(
    file: BinaryIO, dtype: np.dtype[Any], begin: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> Array:
    """An array over the bytes of a file from ``begin`` on."""
    page = begin - begin % mmap.ALLOCATIONGRANULARITY
    span = math.prod(shape) * dtype.itemsize if strides is None else (shape[0] - 1) * strides[0] + shape[1] * strides[1]
    window = mmap.mmap(file.fileno(), begin - page + span, access=mmap.ACCESS_READ, offset=page)
    return np.ndarray(shape, dtype, window, begin - page, strides)


def _gathered(file: BinaryIO, place: Place, start: int, count: int) -> Array:
    """Rows of an array in Fortran order: the same piece of each of its columns, gathered in that order."""
    num_columns, width = math.prod(place.shape[1:]), place.dtype.itemsize
    column_bytes = place.num_rows * width
    step = max(1, TARGET_UNIT_BYTES // column_bytes)
    gathered = np.empty((num_columns, count), place.dtype)
    for first in range(0, num_columns, step):
        shape = (min(step, num_columns - first), count)
        begin = place.offset + first * column_bytes + start * width
        gathered[first : first + step] = _mapped(file, place.dtype, begin, shape, (column_bytes, width))
    return gathered.reshape(*reversed(place.shape[1:]), count).transpose()


def iter_rows(file: BinaryIO, places: list[Place], start: int, count: int) -> Iterator[tuple[int, int, list[Column]]]:
    """``(row_start, num_rows, columns)`` over a range of rows of arrays of equal length."""
    mapped = [None if place.is_copied else rows_of(file, place, start, count) for place in places]
    for first, number in row_ranges(places, start, count):
        # Batches of one map: whoever reads them looks at the file again between two, since to touch pages that are no
        # longer there ends the process.
        columns = [
            place.column(rows_of(file, place, first, number) if rows is None else _part(rows, first - start, number))
            for place, rows in zip(places, mapped, strict=True)
        ]
        yield first, number, columns


def _part(rows: Array, start: int, count: int) -> Array:
    return rows[start : start + count] if rows.ndim else rows
