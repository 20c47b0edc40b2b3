"""The columns of pandas, without pandas' habit of turning NaN into null."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Column

Array = np.ndarray[Any, Any]


def pandas_columns(data: Any) -> list[Column]:
    """The columns of a DataFrame, or a Series or Index as the only one; rows are counted by position."""
    if not hasattr(data, "columns"):
        return [_column(None if data.name is None else str(data.name), data)]
    return [_column(str(name), data.iloc[:, index]) for index, name in enumerate(data.columns)]


def _column(name: str | None, series: Any) -> Column:
    """One Series.

    Numbers in NumPy memory are not copied. Masked arrays and Arrow arrays can have NaN and nulls.
    """
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        values = series.to_numpy()
        return _from_objects(name, values) if dtype.kind == "O" else Column(name, values)
    array = series.array
    data, mask = getattr(array, "_data", None), getattr(array, "_mask", None)
    if isinstance(data, np.ndarray) and isinstance(mask, np.ndarray):
        return Column(name, pa.array(data, mask=mask))
    if hasattr(array, "sp_values"):
        return Column(name, np.asarray(array))
    try:
        converted = pa.array(array)
    except (pa.ArrowException, TypeError, ValueError) as error:
        return _hidden(name, str(dtype), f"cannot check the pandas dtype {dtype} ({type(error).__name__})")
    return Column(name, converted.combine_chunks() if isinstance(converted, pa.ChunkedArray) else converted)


def _from_objects(name: str | None, values: Array) -> Column:
    """A column of Python objects: numbers, text or lists as Arrow infers them, with missing values as null.

    A NaN among numbers stays NaN. Among text, where pandas uses it for missing values, it is null.
    """
    import pandas as pd

    missing = np.fromiter((value is None or value is pd.NA or value is pd.NaT for value in values), bool, len(values))
    nan = np.fromiter((isinstance(value, float) and value != value for value in values), bool, len(values))
    for absent in (missing, missing | nan):
        cleaned = values.copy()
        cleaned[absent] = None
        try:
            return Column(name, pa.array(cleaned, from_pandas=False))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
    return _hidden(name, "object", "cannot check a column of Python objects of several types")


def _hidden(name: str | None, dtype: str, problem: str) -> Column:
    return Column(name, np.empty(0, np.uint8), dtype, problem)
