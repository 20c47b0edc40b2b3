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
        survived = _survived(column.data, converted)
    except pa.ArrowException:
        return column
    return replace(column, data=converted) if survived else column


def _survived(before: pa.Array, after: pa.Array) -> bool:
    """Whether every value is still there. Text was parsed, a fraction may be rounded; anything else must lead back.

    Arrow's own safe cast takes any number but 0, NaN too, for true, and drops the time of a day.
    """
    source, target = before.type, after.type
    if pa.types.is_dictionary(source):
        return _survived(before.dictionary_decode(), after)
    if pa.types.is_floating(source) and pa.types.is_floating(target):
        return _count_finite(before) == _count_finite(after)  # a float64 of 1e300 is +inf in float32
    if pa.types.is_floating(source) and _count_finite(before) < len(before) - before.null_count:
        return False  # text and decimals have a word for NaN or none at all, and no check would find it there
    if _is_text(source) or (pa.types.is_decimal(source) and pa.types.is_floating(target)):
        return True
    return bool(after.cast(source, safe=True).equals(before))


def _count_finite(values: pa.Array) -> int:
    return int(pc.sum(pc.is_finite(values)).as_py() or 0)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _coerced_array(column: Column, data: np.ndarray[Any, Any], dtype: str) -> Column:
    try:
        target = np.dtype(dtype)
    except (TypeError, ValueError):
        return column
    if data.dtype == target or data.dtype.kind not in "biuf" or target.kind not in "biufc":
        return column
    with np.errstate(all="ignore"):
        converted = data.astype(target)
    return replace(column, data=converted) if _array_survived(data, converted) else column


def _array_survived(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> bool:
    """As for Arrow: a fraction may be rounded, anything else must be the same number."""
    if before.size == 0:
        return True
    if after.dtype.kind in "fc":
        if before.dtype.kind == "f":
            return bool((np.isfinite(before) == np.isfinite(after)).all())
        exact: int = 2 ** (np.finfo(after.dtype).nmant + 1)  # beyond it a whole number may be rounded to its neighbour
        return bool(-exact <= int(before.min()) and int(before.max()) <= exact)
    if before.dtype.kind == "f" and after.dtype.kind in "iu":
        limits = np.iinfo(after.dtype)  # what a number beyond them becomes is the processor's choice
        if not (before >= limits.min).all() or not (before < float(limits.max) + 1).all():
            return False
    return bool((after == before).all())
