"""Batches: named columns of equal length with the origin of their rows, and the walker over Arrow arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.leaves import (
    BoolArray,
    IntArray,
    Leaf,
    Level,
    Picked,
    Ragged,
    Regular,
    arrow_bits,
    arrow_validity,
    walk_array,
)

__all__ = ["Batch", "Column", "MalformedRow", "arrow_dtype", "walk_arrow"]

#: Arrow types whose buffers are plain numbers that NumPy can view.
_NUMPY_TYPES: dict[pa.DataType, np.dtype[Any]] = {
    getattr(pa, name)(): np.dtype(name)
    for name in (
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    )
}


#: Layouts that few Arrow functions support yet, and the equivalent ones that all support.
_WITH_KERNELS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
#: ``_NUMPY_TYPES`` by type ID, which is cheap to look up, with the name of each dtype.
_NUMBERS = {kind.id: (dtype, dtype.name) for kind, dtype in _NUMPY_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a batch: an Arrow array, or a NumPy array whose first axis is the rows.

    ``name`` is None for the one array of an ``.npy``. ``dtype`` is the logical dtype if the storage has another one
    (``bfloat16`` in unsigned integers). ``problem`` says why the values cannot be checked. ``untyped`` marks text that
    is text only because its format has no dtypes and nothing else gave one. ``unconvertible``, of the shape of ``data``, is
    True where a value could not be converted; it has no value then, but is not a null. ``words`` are the cells of a text
    file as they were read, for a column in which some do not convert. ``is_sample`` marks an array
    that is one sample: its first axis was added for the row, and is not part of its shape.
    """

    name: str | None
    data: pa.Array | np.ndarray[Any, Any]
    dtype: str | None = None
    problem: str = ""
    untyped: bool = False
    unconvertible: BoolArray | None = None
    is_sample: bool = False
    words: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.data) if not isinstance(self.data, np.ndarray) or self.data.ndim else 1

    def leaves(self) -> Iterator[Leaf]:
        """The column's leaves."""
        if self.problem:
            return iter([Leaf(self.name, None, self.dtype or "unknown", problem=self.problem)])
        if isinstance(self.data, np.ndarray):
            leaves = walk_array(self.name, self.data, self.dtype)
            return leaves if self.unconvertible is None else self._mark_unconvertible(leaves)
        leaves = walk_arrow(self.name or "", self.data)
        if self.unconvertible is not None:
            leaves = self._mark_unconvertible(leaves)
        return leaves if self.name else (replace(leaf, path=leaf.path or self.name) for leaf in leaves)

    def _mark_unconvertible(self, leaves: Iterator[Leaf]) -> Iterator[Leaf]:
        """Mark the one leaf of a converted column, whose values are in the order of the rows."""
        assert self.unconvertible is not None
        unconvertible = np.ascontiguousarray(self.unconvertible).reshape(-1)
        return (replace(leaf, unconvertible=unconvertible) for leaf in leaves)

    def take(self, rows: IntArray) -> Column:
        """The column with only ``rows``, in that order."""
        unconvertible = None if self.unconvertible is None else self.unconvertible[rows]
        if unconvertible is not None and not unconvertible.any():
            unconvertible = None
        if isinstance(self.data, np.ndarray):
            return replace(self, data=self.data[rows], unconvertible=unconvertible)
        kind = self.data.type
        if kind in _WITH_KERNELS:
            data = self.data.cast(_WITH_KERNELS[kind]).take(pa.array(rows)).cast(kind)
            return replace(self, data=data, unconvertible=unconvertible)
        words = None if self.words is None else self.words.take(pa.array(rows))
        return replace(self, data=self.data.take(pa.array(rows)), unconvertible=unconvertible, words=words)


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """A line that is not a valid row: its row number in the file, how it begins, and what is wrong with it."""

    row: int
    text: str
    problem: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of ``num_rows`` rows.

    Row ``i`` is row ``row_start + i`` of its file, or ``rows[i]`` if rows are not consecutive; all are in ``row_group`` if the
    format has row groups. ``counts_rows`` is False for more columns of rows that an earlier batch has counted.
    ``malformed`` are invalid lines since the previous batch, which are not in ``num_rows``.
    """

    columns: tuple[Column, ...]
    num_rows: int
    row_start: int = 0
    row_group: int | None = None
    rows: IntArray | None = None
    counts_rows: bool = True
    malformed: tuple[MalformedRow, ...] = ()
    line_start: int | None = None
    lines: IntArray | None = None

    @property
    def names(self) -> list[str | None]:
        return [column.name for column in self.columns]

    def file_rows(self, rows: IntArray) -> IntArray:
        """Convert row numbers of the batch to row numbers of the file."""
        return self.rows[rows] if self.rows is not None else rows + self.row_start

    @property
    def has_lines(self) -> bool:
        """Whether the lines of rows are known: those of a text file are."""
        return self.lines is not None or self.line_start is not None

    def line_of(self, file_row: int) -> int | None:
        """The line of a text file, from 1, on which a row of the file begins; None in other formats."""
        if not self.has_lines:
            return None
        row = file_row - self.row_start if self.rows is None else int(np.searchsorted(self.rows, file_row))
        if not 0 <= row < self.num_rows:
            return None
        return int(self.lines[row]) if self.lines is not None else (self.line_start or 0) + row

    def take(self, rows: IntArray) -> Batch:
        """The batch with only ``rows``, in that order, each with the origin it had."""
        columns = tuple(column.take(rows) for column in self.columns)
        lines = None if self.lines is None else self.lines[rows]
        if self.line_start is not None:
            lines = rows + self.line_start
        return Batch(columns, len(rows), self.row_start, self.row_group, self.file_rows(rows), lines=lines)

    def as_read(self) -> Batch:
        """The batch with the text of each column in which some cells do not convert."""
        if all(column.words is None for column in self.columns):
            return self
        return self.with_columns(
            tuple(
                column if column.words is None else replace(column, data=column.words, unconvertible=None, words=None)
                for column in self.columns
            )
        )

    @property
    def is_sample(self) -> bool:
        """Whether the batch is a whole file, which is one sample."""
        return any(column.is_sample for column in self.columns)

    def with_columns(self, columns: tuple[Column, ...]) -> Batch:
        return replace(self, columns=columns)

    @classmethod
    def from_arrow(
        cls, batch: pa.RecordBatch, row_start: int = 0, row_group: int | None = None, *, counts_rows: bool = True
    ) -> Batch:
        columns = tuple(map(Column, batch.schema.names, batch.columns))
        return cls(columns, batch.num_rows, row_start, row_group, counts_rows=counts_rows)


def arrow_dtype(arrow_type: pa.DataType) -> str:
    """The logical dtype of an Arrow type: NumPy's names for numbers, ``string`` and ``binary`` in any layout."""
    if pa.types.is_float16(arrow_type):
        return "float16"
    if arrow_type in _NUMPY_TYPES:
        return _NUMPY_TYPES[arrow_type].name
    if pa.types.is_boolean(arrow_type):
        return "bool"
    if pa.types.is_large_string(arrow_type) or pa.types.is_string(arrow_type) or arrow_type == pa.string_view():
        return "string"
    if pa.types.is_large_binary(arrow_type) or pa.types.is_binary(arrow_type) or arrow_type == pa.binary_view():
        return "binary"
    if isinstance(arrow_type, pa.BaseExtensionType):
        return arrow_dtype(arrow_type.storage_type)
    if pa.types.is_dictionary(arrow_type):
        return arrow_dtype(arrow_type.value_type)
    return str(arrow_type)


def walk_arrow(path: str, array: pa.Array, levels: tuple[Level, ...] = ()) -> Iterator[Leaf]:
    """The leaves of an Arrow array whose rows ``levels`` lead to.

    A list ``a`` yields ``a`` (its own nulls) and ``a[]`` (its values), a struct ``s`` yields ``s`` and ``s.x``, a map ``m``
    yields ``m[].key`` and ``m[].value``. A child of a null is neither a value nor a null: it is not counted.
    """
    kind = array.type
    if kind.id in _NUMBERS:
        storage, dtype = _NUMBERS[kind.id]
        yield Leaf(path, _view(array, storage), dtype, arrow_validity(array), levels, ())
    elif isinstance(kind, pa.FixedShapeTensorType):
        yield from _walk_list(path, array.storage, levels, tuple(kind.shape), kind.permutation)
    elif isinstance(kind, pa.BaseExtensionType):
        yield from walk_arrow(path, array.storage, levels)
    elif pa.types.is_dictionary(kind):
        yield from walk_arrow(path, array.dictionary_decode(), levels)
    elif pa.types.is_run_end_encoded(kind):
        yield from walk_arrow(path, pc.run_end_decode(array), levels)
    elif pa.types.is_fixed_size_list(kind):
        yield from _walk_list(path, array, levels, (kind.list_size,), None)
    elif pa.types.is_map(kind):
        entries = pa.ListArray.from_arrays(_safe_offsets(array), _entries(array), mask=_null_mask(array))
        yield from _walk_list(path, entries, levels, None, None)
    elif _is_list(kind):
        yield from _walk_list(path, array, levels, None, None)
    elif pa.types.is_struct(kind):
        yield Leaf(path, array, "struct", arrow_validity(array), levels)
        yield from _walk_struct(path, array, levels)
    elif pa.types.is_union(kind):
        yield Leaf(path, None, str(kind), None, levels, problem="cannot check a union column")
    else:
        yield _flat_leaf(path, array.cast(_WITH_KERNELS.get(kind, kind)), levels)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind)
    )


def _null_mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def _safe_offsets(array: pa.Array) -> pa.Array:
    offsets = array.offsets
    return pc.subtract(offsets, offsets[0]) if len(offsets) else offsets


def _entries(array: pa.Array) -> pa.Array:
    start, stop = array.offsets[0].as_py(), array.offsets[-1].as_py()
    keys, items = array.keys, array.items
    if len(keys) != stop - start:
        keys, items = keys.slice(start, stop - start), items.slice(start, stop - start)
    return pa.StructArray.from_arrays([keys, items], names=["key", "value"])


def _walk_struct(path: str, array: pa.Array, levels: tuple[Level, ...]) -> Iterator[Leaf]:
    validity = arrow_validity(array)
    if validity is not None:
        array = array.filter(array.is_valid())
        levels = (Picked(np.flatnonzero(validity)), *levels)
    for field, child in zip(array.type, array.flatten(), strict=True):
        yield from walk_arrow(f"{path}.{field.name}", child, levels)


def _walk_list(
    path: str, array: pa.Array, levels: tuple[Level, ...], shape: tuple[int, ...] | None, permutation: list[int] | None
) -> Iterator[Leaf]:
    inner = array.flatten()
    row_shape: tuple[int | None, ...] = shape if shape is not None else (None,)
    validity = arrow_validity(array)
    yield Leaf(path, array, f"list<{arrow_dtype(inner.type)}>", validity, levels, row_shape)
    step: Level
    if shape is not None and validity is None and 0 not in shape:
        step = Regular((len(array), *shape), axes=None if permutation is None else tuple(permutation))
        yield from walk_arrow(f"{path}[]", inner, (step, *levels))
        return
    counted = pc.list_value_length(array)
    lengths = _view(counted, _NUMPY_TYPES[counted.type]).astype(np.int64)
    if validity is not None:
        lengths[~validity] = 0
    if shape is not None and 0 not in shape:
        present = np.flatnonzero(lengths)
        step = Regular((len(present), *shape), axes=None if permutation is None else tuple(permutation))
        yield from walk_arrow(f"{path}[]", inner, (step, Picked(present), *levels))
        return
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    yield from walk_arrow(f"{path}[]", inner, (Ragged(offsets), *levels))


def _flat_leaf(path: str, array: pa.Array, levels: tuple[Level, ...]) -> Leaf:
    """A leaf over a flat array that is not numeric: booleans are unpacked, anything else stays as it is."""
    validity = arrow_validity(array)
    dtype = arrow_dtype(array.type)
    if pa.types.is_boolean(array.type):
        return Leaf(path, arrow_bits(array), dtype, validity, levels, ())
    return Leaf(path, array, dtype, validity, levels, ())


def _view(array: pa.Array, storage: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The numbers of a flat array as they are in its buffer; those of nulls are arbitrary."""
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return np.zeros(len(array), storage)
    return np.frombuffer(data, storage, count=array.offset + len(array))[array.offset :]
