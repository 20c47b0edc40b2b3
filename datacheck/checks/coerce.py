"""Fields that may be converted: ``coerce`` in the schema accepts another dtype where every value survives the conversion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.batch import Batch, Column, arrow_dtype
from datacheck.leaves import FLOAT_FORMATS
from datacheck.schema.model import Schema
from datacheck.sources.dtypes import arrow_type

__all__ = ["coerce_batch"]


def coerce_batch(batch: Batch, schema: Schema) -> Batch:
    """The batch with every column that its field lets convert, and whose values all survive it, in the field's dtype.

    A column that does not convert stays as it is: its dtype is then a finding.
    """
    if not schema.coerce and not any(field.coerce for field in schema.fields.values()):
        return batch
    columns = tuple(_coerced(column, schema) for column in batch.columns)
    return batch.with_columns(columns)


def _coerced(column: Column, schema: Schema) -> Column:
    field = schema.field_for(column.name)
    if field is None or field.dtype is None or not (field.coerce or schema.coerce) or field.dtype in FLOAT_FORMATS:
        return column
    if isinstance(column.data, np.ndarray):
        return _coerced_array(column, column.data, field.dtype)
    target = arrow_type(field.dtype)
    if target is None or arrow_dtype(column.data.type) == field.dtype or pa.types.is_nested(column.data.type):
        return column
    try:
        converted = column.data.cast(target, safe=True)
    except pa.ArrowException:
        return column
    if pa.types.is_floating(target) and pa.types.is_floating(column.data.type) and not _same(column.data, converted):
        return column
    return replace(column, data=converted)


def _same(before: pa.Array, after: pa.Array) -> bool:
    """Whether a conversion between floats kept which values are finite: a float64 of 1e300 is +inf in float32."""
    return bool(pc.sum(pc.is_finite(before)).as_py() == pc.sum(pc.is_finite(after)).as_py())


def _coerced_array(column: Column, data: np.ndarray[Any, Any], dtype: str) -> Column:
    try:
        target = np.dtype(dtype)
    except TypeError:
        return column
    if data.dtype == target or data.dtype.kind not in "biuf" or target.kind not in "biufc":
        return column
    with np.errstate(all="ignore"):
        converted = data.astype(target)
    if target.kind in "fc" and data.dtype.kind == "f":
        survived = bool((np.isfinite(converted) == np.isfinite(data)).all())
    else:
        survived = bool((converted == data).all())
    return replace(column, data=converted) if survived else column
