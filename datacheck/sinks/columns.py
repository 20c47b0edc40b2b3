"""Columns as Arrow and NumPy arrays, bit for bit. Raises an ``OutputError`` that names a format that can hold them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import decode, is_encoded
from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.leaves import FLOAT_FORMATS
from datacheck.text import plain

Array = np.ndarray[Any, Any]

#: The name of an ``.npy``'s array in formats that need names.
NAMELESS = "array"
#: Arrow field metadata: the dtype, such as ``bfloat16``, that an unsigned integer column stores.
LOGICAL_DTYPE_KEY = b"datacheck:dtype"


def column_name(column: Column) -> str:
    return NAMELESS if column.name is None else column.name


def logical_dtype(column: Column) -> str | None:
    """``bfloat16`` or a float8 format if the column stores it as unsigned integers, else None."""
    if column.dtype in FLOAT_FORMATS:
        return column.dtype
    if isinstance(column.data, np.ndarray) and column.data.dtype.name in FLOAT_FORMATS:
        return str(column.data.dtype.name)
    return None


def cannot_hold(column: Column, kind: object, holder: str, why: str = "") -> OutputError:
    """The error for a column that a format cannot hold; ``holder`` names the formats that can."""
    explanation = f" ({why})" if why else ""
    return OutputError(f"column '{plain(column_name(column))}' is {plain(str(kind))}{explanation}; {holder}")


def arrow_schema(template: Batch, metadata: dict[str | bytes, str | bytes] | None = None) -> pa.Schema:
    """The Arrow schema of a batch, with unchanged names, duplicates included."""
    return pa.schema([_arrow_field(column, arrow_array(column).type) for column in template.columns], metadata)


def arrow_batch(batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch as an Arrow record batch of ``schema``, without a copy where possible."""
    arrays = [arrow_array(column) for column in batch.columns]
    check_types(batch, [array.type for array in arrays], schema.types)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def check_types(batch: Batch, found: Sequence[object], expected: Sequence[object]) -> None:
    """Raise ``OutputError`` if a batch's types differ from those that its part was opened with."""
    if len(found) != len(expected):
        raise OutputError(f"expected a batch of {len(expected)} columns, as the first, got {len(found)}")
    for column, kind, wanted in zip(batch.columns, found, expected, strict=True):
        if kind != wanted:
            raise OutputError(
                f"column '{plain(column_name(column))}' changes from {plain(str(wanted))} to {plain(str(kind))} within"
                " the output; give it one dtype in the schema ('dtype' with 'coerce: true')"
            )


def _arrow_field(column: Column, kind: pa.DataType) -> pa.Field:
    dtype = logical_dtype(column)
    return pa.field(column_name(column), kind, metadata={LOGICAL_DTYPE_KEY: dtype.encode()} if dtype else None)


def arrow_array(column: Column) -> pa.Array:
    """A column as an Arrow array: ``(rows,)`` unchanged, more dimensions as a ``fixed_shape_tensor``."""
    _check_readable(column)
    if not isinstance(column.data, np.ndarray):
        return column.data
    values = _plain_storage(column.data)
    try:
        return pa.array(values) if values.ndim == 1 else tensor_array(values)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        kind = f"{values.dtype} of shape {('rows', *values.shape[1:])}".replace("'", "")
        raise cannot_hold(column, kind, "Arrow and Parquet cannot hold it, npy and npz can") from None


def row_values(column: Column) -> Callable[[int], Any]:
    """What gives the value of a row as Python has it."""
    if isinstance(column.data, np.ndarray) and column.data.dtype.kind in "biuf" and column.dtype is None:
        data = column.data
        return lambda row: data[row].tolist()
    array = arrow_array(column)
    return lambda row: array[row].as_py()


def _check_readable(column: Column) -> None:
    if column.problem:
        raise cannot_hold(column, "not readable", "leave the column out", column.problem)
    if isinstance(column.data, np.ndarray) and column.data.dtype.hasobject:
        raise cannot_hold(column, "an array of Python objects", "store it as plain numbers or as an Arrow column")


def tensor_array(values: Array) -> pa.Array:
    """An array ``(rows, ...)`` as a fixed-shape tensor column, without a copy if it is contiguous."""
    shape = values.shape[1:]
    if 0 in shape:
        raise pa.ArrowInvalid("empty tensor")
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    storage_type = pa.list_(flat.type, math.prod(shape))
    storage = pa.Array.from_buffers(storage_type, len(values), [None], children=[flat])
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, shape), storage)


def _plain_storage(values: Array) -> Array:
    """Native byte order, at least one axis, and unsigned integers for float formats that NumPy lacks."""
    if values.ndim == 0:
        values = values.reshape(1)
    if values.dtype.name in FLOAT_FORMATS:
        values = values.view(FLOAT_FORMATS[values.dtype.name])
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


_HOLDS_ALL = "parquet and arrow can hold it"


def numpy_array(column: Column) -> Array:
    """A column as a NumPy array ``(rows, ...)``, byte order preserved, without a copy where possible.

    Raises ``OutputError`` for values without a fixed-size NumPy dtype: nulls, strings, variable-length lists.
    """
    _check_readable(column)
    if isinstance(column.data, np.ndarray):
        return column.data.reshape(1) if column.data.ndim == 0 else column.data
    return _from_arrow(column, column.data)


def _from_arrow(column: Column, array: pa.Array) -> Array:
    kind = array.type
    if array.null_count:
        holder = f"array files cannot hold nulls: {_HOLDS_ALL}, or impute or drop the nulls"
        raise cannot_hold(column, f"{kind} with {array.null_count:,} nulls", holder)
    if isinstance(kind, pa.FixedShapeTensorType):
        if not len(array):
            return np.empty((0, *_logical_shape(kind)), _from_arrow(column, array.storage.flatten()).dtype)
        values: Array = array.to_numpy_ndarray()
        return values
    if isinstance(kind, pa.BaseExtensionType):
        return _from_arrow(column, array.storage)
    if is_encoded(kind):
        return _from_arrow(column, decode(array))
    if pa.types.is_fixed_size_list(kind):
        inner = _from_arrow(column, array.flatten())
        return inner.reshape(len(array), kind.list_size, *inner.shape[1:])
    if not _has_numpy_dtype(kind):
        raise cannot_hold(column, kind, f"array files cannot hold it: {_HOLDS_ALL}")
    flat: Array = array.to_numpy(zero_copy_only=False)
    return flat


def _logical_shape(kind: pa.FixedShapeTensorType) -> tuple[int, ...]:
    shape = tuple(kind.shape)
    return tuple(shape[axis] for axis in kind.permutation) if kind.permutation is not None else shape


def _has_numpy_dtype(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_timestamp(kind):
        return kind.tz is None
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_date32, types.is_duration)
    return any(is_type(kind) for is_type in tests)
