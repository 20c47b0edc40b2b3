"""Arrays stored in a file as in memory: where each one is, and how to read some of its rows."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from datacheck.batch import Column
from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE, TARGET_BATCH_BYTES, TARGET_UNIT_BYTES, RowsAre, split_rows
from datacheck.sources.error_translation import check_rows
from datacheck.storage.base import DataFile

Array = np.ndarray[Any, Any]

#: The longest ``.npy`` header that is parsed: room for thousands of named fields.
MAX_HEADER_BYTES = 1 << 18
#: Fewer bytes are copied: a map costs more, and a process can only have tens of thousands of maps.
MAP_FROM_BYTES = 1 << 16
_MAX_DIMENSIONS = 64
_NPY_MAGIC = b"\x93NUMPY"
#: Python 2 integers, in headers that it wrote.
_LONG = re.compile(r"(?<=\d)L\b")


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Where one array is in a file: at ``offset``, in C order, or in Fortran order if ``fortran`` is set.

    ``logical`` is the logical dtype if ``dtype`` only stores its bits; ``problem`` says why the values cannot be checked.
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
        """Whether rows must be copied together instead of mapped."""
        return self.fortran and len(self.shape) > 1

    def with_rows(self, rows: RowsAre | None) -> ArrayLayout:
        """The same array with the first axis as its rows or, for ``"file"``, as the one row of its file."""
        return replace(self, shape=(1, *self.shape)) if rows == "file" else self

    def column(self, data: Array) -> Column:
        return Column(self.name, data, self.logical)


def parse_npy_header(read: Callable[[int], bytes], uri: str, name: str | None = None) -> tuple[ArrayLayout, int]:
    """Parse an ``.npy`` header: the array that it describes and the header's length. Nothing is unpickled.

    ``read`` reads a number of bytes from the stream. The array's offset is the header's length. Raises
    ``SourceError``: DC903 for an array of Python objects, DC901 for an invalid header.
    """
    what = "the header" if name is None else f"the header of {name!r}"
    prefix = read(8)
    if len(prefix) < 8 or not prefix.startswith(_NPY_MAGIC):
        raise SourceError("DC901", uri, f"{what} does not begin like an .npy header", REWRITE_FILE)
    if prefix[6] not in (1, 2, 3):
        raise SourceError("DC901", uri, f"{what} has the unknown version {prefix[6]}.{prefix[7]}", REWRITE_FILE)
    width = 2 if prefix[6] == 1 else 4
    length = int.from_bytes(read(width), "little")
    if length > MAX_HEADER_BYTES:
        raise SourceError("DC901", uri, f"{what} claims {length:,} bytes, more than {MAX_HEADER_BYTES:,}", REWRITE_FILE)
    text = read(length)
    if len(text) < length:
        raise SourceError("DC901", uri, f"the file ends inside {what}", REWRITE_FILE)
    description = text.decode("utf-8" if prefix[6] == 3 else "latin-1")
    try:
        shape, fortran, dtype = _parse_description(description)
    except ValueError as error:
        raise SourceError("DC901", uri, f"{what} {error}", REWRITE_FILE) from None
    if dtype.hasobject:
        problem = (
            "it holds pickled Python objects" if name is None else f"the array {name!r} holds pickled Python objects"
        )
        raise SourceError(
            "DC903", uri, problem, "save it as numbers, or remove it from the inputs: datacheck never unpickles arrays"
        )
    return ArrayLayout(name, dtype, shape, 8 + width + length, fortran), 8 + width + length


def has_npy_header(head: bytes) -> bool:
    """Whether the first bytes of a file hold a whole ``.npy`` header."""
    if not head.startswith(_NPY_MAGIC) or len(head) < 12:
        return False
    width = 2 if head[6] == 1 else 4
    return 8 + width + int.from_bytes(head[8 : 8 + width], "little") <= len(head)


@lru_cache(maxsize=64)  # the arrays of a dataset have few different headers
def _parse_description(text: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether the order is Fortran's, and the dtype; raises ``ValueError`` with what is wrong."""
    try:
        try:
            header = ast.literal_eval(text)
        except SyntaxError:
            header = ast.literal_eval(_LONG.sub("", text))
        shape, fortran = header["shape"], header["fortran_order"]
        dtype = np.lib.format.descr_to_dtype(header["descr"])
    except (ValueError, TypeError, LookupError, SyntaxError, MemoryError, RecursionError, AttributeError) as error:
        raise ValueError(f"cannot be parsed ({type(error).__name__})") from None
    lengths_are_valid = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not lengths_are_valid or len(shape) > _MAX_DIMENSIONS or type(fortran) is not bool:
        raise ValueError("has an invalid shape or order")
    return shape, fortran, dtype


def check_layout(uri: str, layout: ArrayLayout, available: int) -> None:
    """Raise ``SourceError`` if an array claims more than the ``available`` bytes."""
    what = "the array" if layout.name is None else f"the array {layout.name!r}"
    if layout.num_bytes > available:
        problem = f"{what} claims {layout.num_bytes:,} bytes ({layout.shape} of {layout.dtype}), but the file has {available:,}"
        raise SourceError("DC901", uri, problem, "it is truncated: rewrite it")
    check_rows(uri, max(layout.num_rows, 0 if layout.num_bytes else math.prod(layout.shape)), layout.num_bytes, what)


def row_ranges(
    layouts: list[ArrayLayout], start: int, count: int, target: int = TARGET_BATCH_BYTES
) -> list[tuple[int, int]]:
    """Split a range of rows into ranges ``(start, count)`` for batches."""
    row_bytes = sum(layout.row_bytes for layout in layouts)
    return [(start + first, number) for first, number in split_rows(count, row_bytes, target)]


def rows_of(file: DataFile, layout: ArrayLayout, start: int, count: int) -> Array:
    """Some rows of an array: mapped where they are contiguous and many, else copied.

    Each call makes a map of its own, which goes when the last array over it goes: pages that have been checked do not
    stay in the process.
    """
    shape = (count, *layout.shape[1:]) if layout.shape else ()
    num_bytes = math.prod(shape) * layout.dtype.itemsize
    if num_bytes == 0:
        return np.zeros(shape, layout.dtype)
    if layout.is_copied:
        return _gather(file, layout, start, count)
    mapped = _map_rows(file, layout, start, count) if num_bytes >= MAP_FROM_BYTES or file.is_in_memory else None
    if mapped is not None:
        return mapped
    return np.ndarray(shape, layout.dtype, _read_range(file, layout.offset + start * layout.row_bytes, num_bytes))


def _read_range(file: DataFile, offset: int, num_bytes: int) -> bytes:
    data = file.read_at(offset, num_bytes)
    if len(data) < num_bytes:
        raise EOFError("the file ends inside the array")
    return data


def _map_rows(file: DataFile, layout: ArrayLayout, start: int, count: int) -> Array | None:
    """Contiguous rows as a view of the file's pages; None where the storage does not map."""
    shape = (count, *layout.shape[1:]) if layout.shape else ()
    view = file.map(layout.offset + start * layout.row_bytes, math.prod(shape) * layout.dtype.itemsize)
    return None if view is None else np.ndarray(shape, layout.dtype, view)


def _gather(file: DataFile, layout: ArrayLayout, start: int, count: int) -> Array:
    """Rows of an array in Fortran order: the same piece of each of its columns, gathered in that order."""
    num_columns, width = math.prod(layout.shape[1:]), layout.dtype.itemsize
    column_bytes = layout.num_rows * width
    step = max(1, TARGET_UNIT_BYTES // column_bytes)
    gathered = np.empty((num_columns, count), layout.dtype)
    for first in range(0, num_columns, step):
        shape = (min(step, num_columns - first), count)
        begin = layout.offset + first * column_bytes + start * width
        view = file.map(begin, (shape[0] - 1) * column_bytes + count * width)
        if view is None:
            pieces = [_read_range(file, begin + index * column_bytes, count * width) for index in range(shape[0])]
            gathered[first : first + step] = np.ndarray(shape, layout.dtype, b"".join(pieces))
        else:
            gathered[first : first + step] = np.ndarray(shape, layout.dtype, view, 0, (column_bytes, width))
    return gathered.reshape(*reversed(layout.shape[1:]), count).transpose()


def iter_rows(
    file: DataFile, layouts: list[ArrayLayout], start: int, count: int, target: int = TARGET_BATCH_BYTES
) -> Iterator[tuple[int, int, list[Column]]]:
    """``(row_start, num_rows, columns)`` over a range of rows of arrays of equal length."""
    whole = [_all_rows(file, layout, start, count) for layout in layouts]
    for first, number in row_ranges(layouts, start, count, target):
        # Batches share one map. The fingerprint is checked between two batches, since touching mapped pages that are no
        # longer there ends the process.
        columns = [
            layout.column(rows_of(file, layout, first, number) if rows is None else _part(rows, first - start, number))
            for layout, rows in zip(layouts, whole, strict=True)
        ]
        yield first, number, columns


def _all_rows(file: DataFile, layout: ArrayLayout, start: int, count: int) -> Array | None:
    """All rows at once where that takes little memory: they are few, or mapped. Else None."""
    if layout.is_copied:
        return None
    is_small = count * max(1, layout.row_bytes) < MAP_FROM_BYTES or layout.num_bytes == 0
    return rows_of(file, layout, start, count) if is_small else _map_rows(file, layout, start, count)


def _part(rows: Array, start: int, count: int) -> Array:
    return rows[start : start + count] if rows.ndim else rows
