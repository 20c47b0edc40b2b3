"""Rebuilding a column from its leaves, some of them repaired, with the same type, lengths and nulls.

Leaves are identified by their index in the walks of :func:`datacheck.batch.walk_arrow` and
:func:`datacheck.leaves.walk_array`, since two fields of a struct may have the same name. Repaired leaves are compact (a
null list has no values in them), so lists get new offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import decode, take_rows, with_kernels
from datacheck.batch import Column
from datacheck.errors import CleaningError
from datacheck.leaves import BoolArray, Leaf, arrow_validity
from datacheck.text import plain

Array = np.ndarray[Any, Any]


def rebuild(column: Column, repaired: Mapping[int, Leaf]) -> Column:
    """``column`` with some leaves replaced, given by their index in ``column.leaves()``."""
    if not repaired:
        return column
    builder = _Builder(repaired, column.name)
    data = builder.array(column.data) if isinstance(column.data, np.ndarray) else builder.arrow(column.data)
    return replace(column, data=data, is_new=True)


class _Builder:
    def __init__(self, repaired: Mapping[int, Leaf], name: str | None) -> None:
        self._repaired = repaired
        self._name = name
        self._index = 0

    def _next_leaf(self) -> Leaf | None:
        leaf = self._repaired.get(self._index)
        self._index += 1
        return leaf

    def array(self, array: Array) -> Array:
        """A NumPy array, in its original memory order."""
        if array.dtype.names is not None:
            copy = array.copy(order="C")
            for name in array.dtype.names:
                copy[name] = self.array(array[name])
            return copy
        leaf = self._next_leaf()
        if leaf is None:
            return array
        values = leaf.values if leaf.is_numeric else self._fixed_width(leaf.values, array.dtype)
        values = values.view(array.dtype)
        shaped = values.reshape(array.shape[::-1]).T if _is_fortran(array) else values.reshape(array.shape)
        if isinstance(array, np.ma.MaskedArray):
            mask = np.zeros(array.shape, np.bool_) if leaf.validity is None else ~leaf.validity.reshape(array.shape)
            return np.ma.MaskedArray(shaped, mask=mask)
        return shaped

    def _fixed_width(self, values: pa.Array, dtype: np.dtype[Any]) -> Array:
        texts = values.to_pylist()
        array = np.array(["" if text is None else text for text in texts], dtype)
        if dtype.kind == "U" and any(text is not None and len(text) > array.itemsize // 4 for text in texts):
            raise CleaningError(f"'{plain(self._name or 'the array')}': the value is too long for dtype {dtype}")
        return array

    def arrow(self, array: pa.Array) -> pa.Array:
        """An Arrow array; the same object if nothing inside it was repaired."""
        kind, types = array.type, pa.types
        if isinstance(kind, pa.BaseExtensionType):
            storage = array.storage
            repaired = self.arrow(storage)
            return array if repaired is storage else pa.ExtensionArray.from_storage(kind, repaired)
        if types.is_dictionary(kind):
            return self._dictionary(array)
        if types.is_run_end_encoded(kind):
            decoded = decode(array)
            values = self.arrow(decoded)
            return array if values is decoded else pc.run_end_encode(values, run_end_type=kind.run_end_type).cast(kind)
        if types.is_map(kind):
            return self._list(array, _entries_of(array))
        if types.is_nested(kind) and not (types.is_struct(kind) or types.is_union(kind)):
            return self._list(array, array.flatten())
        if types.is_struct(kind):
            return self._struct(array)
        leaf = self._next_leaf()
        return array if leaf is None else _flat(leaf, kind)

    def _list(self, array: pa.Array, inner: pa.Array) -> pa.Array:
        self._next_leaf()
        values = self.arrow(inner)
        if values is inner:
            return array
        kind, present = array.type, arrow_validity(array)
        if pa.types.is_fixed_size_list(kind):
            if present is not None:
                values = take_rows(values, _spread(present, kind.list_size))
            return _from_buffers(kind, len(array), present, [], values)
        lengths = pc.fill_null(_lengths(array), 0).to_numpy(zero_copy_only=False)
        wide = pa.types.is_large_list(kind) or kind.id == pa.large_list_view(pa.null()).id
        offsets = np.zeros(len(array) + 1, np.int64 if wide else np.int32)
        np.cumsum(lengths, out=offsets[1:])
        if kind.id in (pa.list_view(pa.null()).id, pa.large_list_view(pa.null()).id):
            return _from_buffers(
                kind, len(array), present, [offsets[:-1].copy(), lengths.astype(offsets.dtype)], values
            )
        return _from_buffers(kind, len(array), present, [offsets], values)

    def _struct(self, array: pa.Array) -> pa.Array:
        self._next_leaf()
        present = arrow_validity(array)
        compact = array if present is None else take_rows(array, np.flatnonzero(present))
        before = [compact.field(index) for index in range(array.type.num_fields)]
        children = [self.arrow(child) for child in before]
        if all(new is old for new, old in zip(children, before, strict=True)):
            return array
        if present is not None:
            children = [take_rows(child, _spread(present, 1)) for child in children]
        return _from_buffers(array.type, len(array), present, [], *children)

    def _dictionary(self, array: pa.Array) -> pa.Array:
        """Indices into the original dictionary, with new values appended to it."""
        decoded = decode(array)
        values = self.arrow(decoded)
        if values is decoded:
            return array
        dictionary = with_kernels(array.dictionary)
        new = values.filter(pc.invert(pc.is_in(values, dictionary))).drop_null().unique()
        if len(new):
            dictionary = pa.concat_arrays([dictionary, new])
        indices = pc.index_in(values, dictionary, skip_nulls=True)
        try:
            indices = indices.cast(array.type.index_type)
        except pa.ArrowInvalid:
            raise CleaningError(
                f"'{plain(self._name or '')}': its dictionary is full: {array.type.index_type} has no index left for "
                "the new value; use a value from the dictionary, or a wider index type"
            ) from None
        return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=array.type.ordered)


def _is_fortran(array: Array) -> bool:
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous) and not isinstance(array, np.ma.MaskedArray)


def _flat(leaf: Leaf, kind: pa.DataType) -> pa.Array:
    if not leaf.is_numeric:
        return leaf.values.cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(leaf.values, kind, mask=None if leaf.validity is None else ~leaf.validity)
    return pa.Array.from_buffers(
        kind, len(leaf), [_bitmap(leaf.validity), pa.py_buffer(np.ascontiguousarray(leaf.values))]
    )


def _entries_of(array: pa.Array) -> pa.Array:
    """The entries of a map's valid rows as structs."""
    kind = array.type
    pairs = pa.struct([kind.key_field, kind.item_field])
    entries = pa.StructArray.from_arrays([array.keys, array.items], fields=[kind.key_field, kind.item_field])
    buffers = [array.buffers()[0], array.buffers()[1]]
    return pa.Array.from_buffers(
        pa.list_(pairs), len(array), buffers, offset=array.offset, children=[entries]
    ).flatten()


def _lengths(array: pa.Array) -> pa.Array:
    if not pa.types.is_map(array.type):
        return pc.list_value_length(array)
    lengths = np.diff(array.offsets.to_numpy(zero_copy_only=False))
    return pa.array(lengths, mask=None if array.null_count == 0 else array.is_null().to_numpy(zero_copy_only=False))


def _spread(present: BoolArray, width: int) -> Array:
    """For each slot the index of its value among the valid ones; any index for null slots."""
    index = np.maximum(np.cumsum(present) - 1, 0)
    slots: Array = index[:, None] * width + np.arange(width)
    return slots.reshape(-1)


def _from_buffers(
    kind: pa.DataType, length: int, present: BoolArray | None, arrays: list[Array], *children: pa.Array
) -> pa.Array:
    buffers = [_bitmap(present), *(pa.py_buffer(array) for array in arrays)]
    return pa.Array.from_buffers(kind, length, buffers, children=list(children))


def _bitmap(validity: BoolArray | None) -> pa.Buffer | None:
    if validity is None or validity.all():
        return None
    return pa.array(validity, pa.bool_()).buffers()[1]
