"""The walker over Arrow arrays: the flat leaves of any nesting of lists, structs, maps, dictionaries and extensions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import decode, is_encoded, is_list, is_text, split_encoded, take_rows, with_kernels
from datacheck.leaves import Leaf, Level, Picked, Ragged, Regular, arrow_bits, arrow_validity
from datacheck.text import plain

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


def decoded(leaf: Leaf) -> Leaf:
    """A leaf that holds each value once, with the value of each position; any other leaf unchanged."""
    if leaf.codes is None:
        return leaf
    if leaf.is_numeric:
        return replace(leaf, values=leaf.values[leaf.codes], codes=None)
    values, codes = leaf.values, leaf.codes
    if leaf.validity is not None:
        # Texts say themselves where they are null; the code of a null is arbitrary.
        codes = np.where(leaf.validity, codes, len(values))
        values = pa.concat_arrays([values, pa.nulls(1, values.type)])
    return replace(leaf, values=take_rows(values, codes), codes=None)


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
    elif is_list(kind):
        yield from _walk_list(path, array, levels, None, None, distinct)
    elif pa.types.is_struct(kind):
        yield Leaf(path, array, "struct", arrow_validity(array), levels)
        yield from _walk_struct(path, array, levels, distinct)
    elif pa.types.is_union(kind):
        yield _unknown(path, kind, levels, "a union does not show which of its values are numbers")
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
    return (None, *_shape_inside(kind.value_type)) if is_list(kind) else ()


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
    """The numbers of a flat array as they are in its buffer; nulls have arbitrary ones."""
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return np.zeros(len(array), storage)
    return np.frombuffer(data, storage, count=array.offset + len(array))[array.offset :]
