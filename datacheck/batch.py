"""Batches: named columns of equal length with the origin of their rows, and the walker over Arrow arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.arrow_layouts import (
    decode,
    decoded_bytes,
    holds_encoded,
    is_encoded,
    is_text,
    split_encoded,
    take_rows,
    with_kernels,
)
from datacheck.errors import SourceError
from datacheck.findings import Finding
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
from datacheck.text import plain

__all__ = ["Batch", "Column", "Fault", "MalformedRow", "RawRecords", "arrow_dtype", "split_decoded", "walk_arrow"]

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
#: ``_NUMPY_TYPES`` by type ID, which is cheap to look up, with the name of each dtype.
_NUMBERS = {kind.id: (dtype, dtype.name) for kind, dtype in _NUMPY_TYPES.items()}


#: The one column of quarantined rows that are kept as they lie in the file.
RAW_NAME = "record"


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a batch: an Arrow array, or a NumPy array whose first axis is the rows.

    ``name`` is None for the one array of an ``.npy``. ``dtype`` is the logical dtype if the storage has another one
    (``bfloat16`` in unsigned integers). ``problem`` says why the values cannot be checked. ``untyped`` marks text that
    is text only because its format has no dtypes and nothing else gave one. ``unconvertible``, of the shape of ``data``, is
    True where a value could not be converted; it has no value then, but is not a null. ``words`` are the cells of a text
    file as they were read, for a column in which some do not convert. ``is_sample`` marks an array
    that is one sample: its first axis was added for the row, and is not part of its shape. ``is_parameter`` marks a weight of
    a model. ``absent`` is, by the path of a leaf, True where a record has neither a value nor a null (see
    ``Leaf.absent``). ``derived`` marks what was computed from another column, which checks see and no output has. ``is_new``
    marks a column with repaired values, ``is_media`` one whose bytes were decoded as images or audio.
    """

    name: str | None
    data: pa.Array | np.ndarray[Any, Any]
    dtype: str | None = None
    problem: str = ""
    untyped: bool = False
    unconvertible: BoolArray | None = None
    is_sample: bool = False
    words: pa.Array | None = None
    is_parameter: bool = False
    absent: Mapping[str, BoolArray] | None = None
    derived: bool = False
    is_new: bool = False
    is_media: bool = False

    def __len__(self) -> int:
        return len(self.data) if not isinstance(self.data, np.ndarray) or self.data.ndim else 1

    def leaves(self, *, distinct: bool = False) -> Iterator[Leaf]:
        """The column's leaves. With ``distinct``, those of dictionaries and runs hold each value once (``Leaf.codes``)."""
        if self.problem:
            return iter([Leaf(self.name, None, self.dtype or "unknown", problem=self.problem)])
        if isinstance(self.data, np.ndarray):
            leaves = walk_array(self.name, self.data, self.dtype)
            if self.is_parameter:
                leaves = (replace(leaf, is_parameter=True) for leaf in leaves)
            return leaves if self.unconvertible is None else self._mark_unconvertible(leaves)
        leaves = walk_arrow(self.name or "", self.data, distinct=distinct)
        if self.unconvertible is not None:
            leaves = self._mark_unconvertible(leaves)
        if self.absent is not None:
            leaves = map(self._mark_absent, leaves)
        return leaves if self.name else (replace(leaf, path=leaf.path or self.name) for leaf in leaves)

    def _mark_unconvertible(self, leaves: Iterator[Leaf]) -> Iterator[Leaf]:
        """Mark the one leaf of a converted column, whose values are in the order of the rows."""
        assert self.unconvertible is not None
        unconvertible = np.ascontiguousarray(self.unconvertible).reshape(-1)
        return (replace(leaf, unconvertible=unconvertible) for leaf in leaves)

    def _mark_absent(self, leaf: Leaf) -> Leaf:
        absent = None if self.absent is None else self.absent.get(leaf.path or "")
        # Where two fields have one path, which of them is meant shows in the number of values.
        return leaf if absent is None or len(absent) != len(leaf) else replace(leaf, absent=absent)

    def _absent_in(self, rows: IntArray) -> Mapping[str, BoolArray] | None:
        """``absent`` for only these rows, in that order."""
        taken = {}
        for leaf in self.leaves() if self.absent is not None else ():
            if leaf.absent is None or leaf.path is None:
                continue
            owners = leaf.locate(np.arange(len(leaf), dtype=np.int64))[0]
            starts, stops = np.searchsorted(owners, rows), np.searchsorted(owners, rows, side="right")
            parts = [leaf.absent[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
            taken[leaf.path] = np.concatenate([np.empty(0, np.bool_), *parts])
        return taken or None

    def take(self, rows: IntArray) -> Column:
        """The column with only ``rows``, in that order."""
        unconvertible = None if self.unconvertible is None else self.unconvertible[rows]
        if unconvertible is not None and not unconvertible.any():
            unconvertible = None
        if isinstance(self.data, np.ndarray):
            return replace(self, data=self.data[rows], unconvertible=unconvertible)
        words = None if self.words is None else take_rows(self.words, rows)
        data, absent = take_rows(self.data, rows), self._absent_in(rows)
        return replace(self, data=data, unconvertible=unconvertible, words=words, absent=absent)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a source found wrong in some rows of a batch, where no check of values would see it.

    ``rows`` has the row in the batch of each violation, sorted; ``examples`` are a few of them with the value. A key that
    records lack is a fault only for a field that must have a value; checks decide that.
    """

    code: str
    field: str | None
    num_checked: int
    rows: IntArray
    examples: tuple[tuple[int, str], ...] = ()
    detail: str = ""

    def take(self, rows: IntArray) -> Fault:
        """The fault among only these rows of the batch, in their new places."""
        counts = np.searchsorted(self.rows, rows, side="right") - np.searchsorted(self.rows, rows)
        place = {row: index for index, row in enumerate(rows.tolist())}
        examples = tuple((place[row], value) for row, value in self.examples if row in place)
        return replace(self, rows=np.repeat(np.arange(len(rows)), counts), examples=examples)


class RawRecords:
    """The bytes of each row as they lie in the file, for an output that copies them; made when they are first asked for."""

    def __init__(self, make: Callable[[], pa.Array]) -> None:
        self._make: Callable[[], pa.Array] = make
        self._made: pa.Array | None = None

    @property
    def array(self) -> pa.Array:
        """A binary array, one value a row."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def take(self, rows: IntArray) -> RawRecords:
        """Those of only these rows, in that order."""
        return RawRecords(lambda: take_rows(self.array, rows))


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
    ``malformed`` are invalid lines since the previous batch, which are not in ``num_rows``. ``unreadable`` are errors in
    parts of the file that were skipped, only if ``ReadOptions.keep_going`` asked for what can be read. ``findings`` are what
    else a source found about the file while it read these rows, and ``faults`` what it found in the rows themselves. ``raw``
    are the rows as they lie in the file, in formats whose output copies what it keeps; ``dropped`` are the columns of the file
    that the batch no longer has. ``is_ragged`` says that its columns are the keys of these rows: others may have more.
    ``is_alone`` says that its array is one of several that are no table, so that no rule across fields is for it.
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
    unreadable: tuple[SourceError, ...] = ()
    findings: tuple[Finding, ...] = ()
    faults: tuple[Fault, ...] = ()
    raw: RawRecords | None = None
    dropped: tuple[str, ...] = ()
    is_ragged: bool = False
    is_alone: bool = False

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
        return Batch(
            columns,
            len(rows),
            self.row_start,
            self.row_group,
            self.file_rows(rows),
            lines=lines,
            faults=tuple(fault.take(rows) for fault in self.faults),
            raw=None if self.raw is None else self.raw.take(rows),
            dropped=self.dropped,
            is_ragged=self.is_ragged,
        )

    def as_read(self) -> Batch:
        """The batch as its file has it: raw records, or the text of each column in which some cells do not convert."""
        if self.raw is not None:
            return replace(self, columns=(Column(RAW_NAME, self.raw.array),), faults=())
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

    def slice(self, start: int, count: int) -> Batch:
        """Some consecutive rows of the batch, without a copy if nothing about its rows was found."""
        if self.faults or self.raw is not None:
            return replace(self.take(np.arange(start, start + count)), counts_rows=self.counts_rows)
        columns = tuple(
            replace(
                column,
                data=column.data[start : start + count],
                unconvertible=None if column.unconvertible is None else column.unconvertible[start : start + count],
                words=None if column.words is None else column.words[start : start + count],
            )
            for column in self.columns
        )
        rows = None if self.rows is None else self.rows[start : start + count]
        lines = None if self.lines is None else self.lines[start : start + count]
        line_start = None if self.line_start is None else self.line_start + start
        part = replace(self, columns=columns, num_rows=count, row_start=self.row_start + start, rows=rows)
        return replace(part, lines=lines, line_start=line_start)

    def with_columns(self, columns: tuple[Column, ...]) -> Batch:
        return replace(self, columns=columns)

    @classmethod
    def from_arrow(
        cls, batch: pa.RecordBatch, row_start: int = 0, row_group: int | None = None, *, counts_rows: bool = True
    ) -> Batch:
        columns = tuple(map(Column, batch.schema.names, batch.columns))
        return cls(columns, batch.num_rows, row_start, row_group, counts_rows=counts_rows)


def split_decoded(batch: Batch, limit: int) -> Iterator[Batch]:
    """The batch in slices of rows whose dictionaries and runs take about ``limit`` bytes once decoded, or one row each."""
    arrays = [column.data for column in batch.columns if isinstance(column.data, pa.Array)]
    encoded = [array for array in arrays if holds_encoded(array.type)]
    parts = [(0, batch.num_rows)]
    while parts:
        start, count = parts.pop()
        if encoded and count > 1 and sum(decoded_bytes(one.slice(start, count)) for one in encoded) > limit:
            half = count // 2
            parts += [(start + half, count - half), (start, half)]
        elif count == batch.num_rows and not (encoded and count == 1):
            yield batch
        else:
            part = batch.slice(start, count)
            yield part if start == 0 else replace(part, malformed=(), unreadable=(), findings=())


def arrow_dtype(arrow_type: pa.DataType) -> str:
    """The logical dtype of an Arrow type: NumPy's names for numbers, ``string`` and ``binary`` in any layout."""
    if pa.types.is_float16(arrow_type):
        return "float16"
    if arrow_type in _NUMPY_TYPES:
        return _NUMPY_TYPES[arrow_type].name
    if pa.types.is_boolean(arrow_type):
        return "bool"
    if is_text(arrow_type):
        return "string"
    if pa.types.is_large_binary(arrow_type) or pa.types.is_binary(arrow_type) or arrow_type == pa.binary_view():
        return "binary"
    if isinstance(arrow_type, pa.BaseExtensionType):
        return arrow_dtype(arrow_type.storage_type)
    if is_encoded(arrow_type):
        return arrow_dtype(arrow_type.value_type)
    return str(arrow_type)


def walk_arrow(path: str, array: pa.Array, levels: tuple[Level, ...] = (), *, distinct: bool = False) -> Iterator[Leaf]:
    """The leaves of an Arrow array whose rows ``levels`` lead to.

    A list ``a`` yields ``a`` (its own nulls) and ``a[]`` (its values), a struct ``s`` yields ``s`` and ``s.x``, a map ``m``
    yields ``m[].key`` and ``m[].value``. A child of a null is neither a value nor a null: it is not counted. A type that
    cannot be walked is a leaf with a ``problem``. With ``distinct``, leaves of dictionaries and runs hold each value once.
    """
    kind = array.type
    if kind.id in _NUMBERS:
        storage, dtype = _NUMBERS[kind.id]
        yield Leaf(path, _view(array, storage), dtype, arrow_validity(array), levels, ())
        return
    try:
        yield from _walk(path, array, levels, distinct)
    except (pa.ArrowException, NotImplementedError, TypeError, KeyError) as error:
        yield _unknown(path, kind, levels, f"Arrow cannot read it: {plain(str(error), 120)}")


def _unknown(path: str, kind: pa.DataType, levels: tuple[Level, ...], problem: str) -> Leaf:
    return Leaf(path, None, str(kind), None, levels, problem=f"{problem} (its type is {plain(str(kind), 120)})")


def _walk(path: str, array: pa.Array, levels: tuple[Level, ...], distinct: bool) -> Iterator[Leaf]:
    kind = array.type
    if isinstance(kind, pa.FixedShapeTensorType):
        yield from _walk_list(path, array.storage, levels, tuple(kind.shape), kind.permutation, distinct)
    elif isinstance(kind, pa.BaseExtensionType):
        yield from walk_arrow(path, array.storage, levels, distinct=distinct)
    elif is_encoded(kind):
        yield from _walk_encoded(path, array, levels, distinct)
    elif pa.types.is_fixed_size_list(kind):
        yield from _walk_list(path, array, levels, (kind.list_size,), None, distinct)
    elif pa.types.is_map(kind):
        yield from _walk_list(path, _map_as_list(array), levels, None, None, distinct)
    elif _is_list(kind):
        yield from _walk_list(path, array, levels, None, None, distinct)
    elif pa.types.is_struct(kind):
        yield Leaf(path, array, "struct", arrow_validity(array), levels)
        yield from _walk_struct(path, array, levels, distinct)
    elif pa.types.is_union(kind):
        yield _unknown(path, kind, levels, "a union hides which of its values are numbers")
    elif kind.num_fields:
        yield _unknown(path, kind, levels, "an unknown nested layout")
    else:
        yield _flat_leaf(path, with_kernels(array), levels)


def _walk_encoded(path: str, array: pa.Array, levels: tuple[Level, ...], distinct: bool) -> Iterator[Leaf]:
    """The leaves of a dictionary or run-end-encoded array: over its distinct values where they are flat."""
    if distinct and len(array):
        values, codes, present = split_encoded(array)
        if len(values) and not values.type.num_fields and not isinstance(values.type, pa.BaseExtensionType):
            for leaf in walk_arrow(path, values, levels):
                yield replace(leaf, validity=present, codes=codes)
            return
    yield from walk_arrow(path, decode(array), levels, distinct=distinct)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind)
    )


def _map_as_list(array: pa.Array) -> pa.Array:
    """The same rows as lists of structs of a key and a value."""
    kind = array.type
    fields = [pa.field("key", kind.key_type), pa.field("value", kind.item_type)]
    if not len(array):
        # The offsets of an empty map may be missing, and are not to be followed.
        return pa.nulls(0, pa.list_(pa.struct(fields)))
    entries = pa.StructArray.from_arrays([array.keys, array.items], fields=fields)
    buffers = array.buffers()[:2]
    return pa.Array.from_buffers(pa.list_(entries.type), len(array), buffers, offset=array.offset, children=[entries])


def _walk_struct(path: str, array: pa.Array, levels: tuple[Level, ...], distinct: bool) -> Iterator[Leaf]:
    validity = arrow_validity(array)
    if validity is not None:
        array = take_rows(array, np.flatnonzero(validity))
        levels = (Picked(np.flatnonzero(validity)), *levels)
    for index, field in enumerate(array.type):
        # Not flatten(), which aborts the process for some children, such as unions.
        yield from walk_arrow(f"{path}.{field.name}", array.field(index), levels, distinct=distinct)


def _shape_inside(kind: pa.DataType) -> tuple[int | None, ...]:
    """The shape of the lists that are the values of a list, as far as their type says it."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return tuple(kind.shape)
    if isinstance(kind, pa.BaseExtensionType):
        return _shape_inside(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size, *_shape_inside(kind.value_type)
    return (None, *_shape_inside(kind.value_type)) if _is_list(kind) else ()


def _walk_list(
    path: str,
    array: pa.Array,
    levels: tuple[Level, ...],
    shape: tuple[int, ...] | None,
    permutation: list[int] | None,
    distinct: bool,
) -> Iterator[Leaf]:
    inner = array.flatten()
    row_shape = (*(shape if shape is not None else (None,)), *_shape_inside(inner.type))
    validity = arrow_validity(array)
    yield Leaf(path, array, f"list<{arrow_dtype(inner.type)}>", validity, levels, row_shape)
    step: Level
    if shape is not None and validity is None and 0 not in shape:
        step = Regular((len(array), *shape), axes=None if permutation is None else tuple(permutation))
        yield from walk_arrow(f"{path}[]", inner, (step, *levels), distinct=distinct)
        return
    counted = pc.list_value_length(array)
    lengths = _view(counted, _NUMPY_TYPES[counted.type]).astype(np.int64)
    if validity is not None:
        lengths[~validity] = 0
    if shape is not None and 0 not in shape:
        present = np.flatnonzero(lengths)
        step = Regular((len(present), *shape), axes=None if permutation is None else tuple(permutation))
        yield from walk_arrow(f"{path}[]", inner, (step, Picked(present), *levels), distinct=distinct)
        return
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    yield from walk_arrow(f"{path}[]", inner, (Ragged(offsets), *levels), distinct=distinct)


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
