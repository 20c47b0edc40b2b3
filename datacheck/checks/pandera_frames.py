"""Columns as pandas data, in which nulls stay nulls and NaN stays NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import decode
from datacheck.leaves import FLOAT_FORMATS, Leaf
from datacheck.numerics import to_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datacheck.batch import Batch, Column
    from datacheck.schema.model import Schema


_MASKED = {"b": "BooleanArray", "i": "IntegerArray", "u": "IntegerArray", "f": "FloatingArray"}


def leaf_series(leaf: Leaf, positions: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    """The values of a leaf at ``positions``, none of them null, as a series indexed by position."""
    import pandas as pd

    if isinstance(leaf.values, np.ndarray):
        return pd.Series(to_float(leaf.values[positions], leaf.dtype), index=positions)
    values = leaf.values.take(pa.array(positions)) if len(positions) < len(leaf) else leaf.values
    return values.to_pandas().set_axis(positions)


def frame_of(batch: Batch, names: Sequence[str] | None, schema: Schema) -> Any:
    """The columns ``names`` (all unless given) as a data frame indexed by the row of the batch.

    Numbers and booleans have NumPy dtypes if none of them is null. Otherwise they all have masked pandas dtypes, which
    tell a null from NaN: between a masked and a NumPy column pandas takes a NaN for a null.
    """
    import pandas as pd

    data = {column.name: _as_float(column, schema) for column in _chosen(batch, names)}
    make = _masked_series if any(_has_nulls(column) for column in data.values()) else _plain_series
    series = {name: make(column) for name, column in data.items()}
    return pd.DataFrame(series, index=pd.RangeIndex(batch.num_rows))


def plain_frame(batch: Batch, names: Sequence[str] | None, schema: Schema) -> Any:
    """The same as pandas reads it from a file, with nulls of numbers as NaN, which pandera schemas are written for."""
    import pandas as pd

    chosen = _chosen(batch, names)
    series = {column.name: _plain_series(_as_float(column, schema)) for column in chosen}
    return pd.DataFrame(series, index=pd.RangeIndex(batch.num_rows))


def _chosen(batch: Batch, names: Sequence[str] | None) -> list[Column]:
    first = {column.name: column for column in reversed(batch.columns)}
    return [first[column.name] for column in batch.columns if names is None or column.name in names]


def _as_float(column: Column, schema: Schema) -> Any:
    """The column's data; a narrow format that NumPy lacks as float32."""
    data, dtype = column.data, getattr(schema.fields.get(column.name), "dtype", None)
    if isinstance(data, np.ndarray):
        if data.dtype.name in FLOAT_FORMATS:
            return to_float(data.view(FLOAT_FORMATS[data.dtype.name]), data.dtype.name)
        return to_float(data, dtype) if dtype in FLOAT_FORMATS and data.dtype == FLOAT_FORMATS[dtype] else data
    if dtype not in FLOAT_FORMATS or data.type != pa.from_numpy_dtype(FLOAT_FORMATS[dtype]):
        return data
    floats = to_float(_filled(data), dtype)
    return pa.array(floats, mask=data.is_null().to_numpy(zero_copy_only=False) if data.null_count else None)


def _filled(data: pa.Array) -> np.ndarray[Any, Any]:
    if pa.types.is_float16(data.type):
        data = data.cast(pa.float32())  # Arrow cannot fill nulls of float16
    filled = data.fill_null(False if pa.types.is_boolean(data.type) else 0) if data.null_count else data
    values: np.ndarray[Any, Any] = filled.to_numpy(zero_copy_only=False)
    return values


def _has_nulls(data: Any) -> bool:
    if isinstance(data, np.ndarray):
        return isinstance(data, np.ma.MaskedArray) and bool(np.ma.getmaskarray(data).any())
    return bool(data.null_count)


def _masked_series(data: Any) -> Any:
    """One-dimensional numbers and booleans as masked pandas dtypes; everything else unchanged."""
    import pandas as pd

    if isinstance(data, np.ndarray):
        values, mask = np.ma.getdata(data), np.ma.getmaskarray(data)
    elif pa.types.is_boolean(data.type) or pa.types.is_integer(data.type) or pa.types.is_floating(data.type):
        values, mask = _filled(data), data.is_null().to_numpy(zero_copy_only=False)
    else:
        return _plain_series(data)
    name = _MASKED.get(values.dtype.kind)
    if name is None or values.ndim != 1 or values.dtype.itemsize > 8:
        return _array_series(values)
    # pandas has no masked float16.
    dtype = np.dtype(np.float32) if values.dtype.itemsize == 2 and name == "FloatingArray" else values.dtype
    native = np.array(values, dtype.newbyteorder("="))
    return pd.Series(getattr(pd.arrays, name)(native, np.array(mask)))


def _plain_series(data: Any) -> Any:
    if isinstance(data, np.ndarray):
        return _array_series(data)
    if isinstance(data.type, pa.BaseExtensionType):
        data = data.storage
    return decode(data).to_pandas()


def _array_series(array: np.ndarray[Any, Any]) -> Any:
    """An array with the rows as first axis; multi-dimensional or structured values become objects."""
    import pandas as pd

    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim > 1 or array.dtype.names is not None:
        return pd.Series(list(array), dtype=object)
    return pd.Series(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))
