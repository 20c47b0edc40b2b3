"""Coercion: with ``coerce`` in the schema, a field accepts any value that converts to its dtype.

The text of formats without dtypes (CSV) is converted in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.batch import Batch, Column, arrow_dtype
from datacheck.checks.base import Outcome
from datacheck.checks.convert import convert_arrow, convert_numbers
from datacheck.checks.rules import format_value
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import FLOAT_FORMATS, BoolArray, arrow_bits
from datacheck.schema.model import Schema
from datacheck.sources.dtypes import arrow_type
from datacheck.sources.text_parsing import is_text

__all__ = ["coerce_batch", "coerce_column", "find_unconvertible"]


def coerce_batch(batch: Batch, schema: Schema) -> Batch:
    """Convert each column that may be coerced to the dtype of its field.

    A value that does not convert becomes invalid, and is marked as ``unconvertible``. A column whose type never converts
    to that dtype is returned unchanged: its dtype is then a finding.
    """
    converts = schema.coerce or any(field.coerce for field in schema.fields.values())
    if not converts and not any(column.untyped for column in batch.columns):
        return batch
    return batch.with_columns(tuple(coerce_column(column, schema) for column in batch.columns))


def coerce_column(column: Column, schema: Schema) -> Column:
    """Convert one column, as in :func:`coerce_batch`."""
    field = schema.field_for(column.name)
    if field is None or field.dtype is None or field.dtype in FLOAT_FORMATS:
        return column
    is_loose = field.coerce or schema.coerce
    if not (is_loose or column.untyped):
        return column
    if isinstance(column.data, np.ndarray):
        return _coerced_array(column, column.data, field.dtype)
    data = column.data
    target = arrow_type(field.dtype)
    if target is None or arrow_dtype(data.type) == field.dtype or pa.types.is_nested(data.type):
        return column
    converted = convert_arrow(data, target, is_untyped=column.untyped, is_loose=is_loose)
    if converted is None:
        return column
    unconvertible = None
    if converted.null_count > data.null_count:
        gone = pc.and_(pc.is_null(converted), pc.is_valid(data))
        if column.untyped and is_text(data.type):  # empty text is a null
            gone = pc.and_(gone, pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(data, "")), ""))
        unconvertible = arrow_bits(gone)
    return replace(
        column,
        data=converted,
        untyped=False,
        unconvertible=unconvertible if unconvertible is None or unconvertible.any() else None,
    )


def _coerced_array(column: Column, data: np.ndarray[Any, Any], dtype: str) -> Column:
    try:
        target = np.dtype(dtype)
    except (TypeError, ValueError):
        return column
    if data.dtype == target or data.dtype.kind not in "biuf" or target.kind not in "biufc":
        return column
    masked = isinstance(data, np.ma.MaskedArray)
    converted, unconvertible = convert_numbers(np.ma.getdata(data), target)
    mask = np.ma.getmaskarray(data) if masked else None
    if unconvertible is not None and mask is not None:
        unconvertible &= ~mask
    if unconvertible is None or not unconvertible.any():
        return replace(column, data=converted if mask is None else np.ma.MaskedArray(converted, mask))
    mask = unconvertible if mask is None else mask | unconvertible
    return replace(column, data=np.ma.MaskedArray(converted, mask), unconvertible=unconvertible)


def find_unconvertible(before: Batch, after: Batch, schema: Schema) -> Iterator[Outcome]:
    """DC003 for each column with values that did not convert."""
    for read, converted in zip(before.columns, after.columns, strict=True):
        if converted.unconvertible is not None:
            field = schema.field_for(read.name)
            dtype = "" if field is None else field.dtype
            yield _unconvertible_outcome(read, converted.unconvertible, before, f"not {dtype}")


def _unconvertible_outcome(column: Column, unconvertible: BoolArray, batch: Batch, detail: str) -> Outcome:
    data = column.data
    if isinstance(data, np.ndarray):
        num_checked = int(np.ma.count(data))
        places = np.argwhere(unconvertible if unconvertible.ndim else unconvertible.reshape(1))
    else:
        num_checked = len(data) - data.null_count
        places = np.flatnonzero(unconvertible)[:, None]
    first = places[:MAX_EXAMPLES]
    values = [data[tuple(place)] if isinstance(data, np.ndarray) and data.ndim else data for place in first.tolist()]
    if not isinstance(data, np.ndarray):
        values = [data[row].as_py() for row in first[:, 0].tolist()]
    examples = tuple(
        Example(int(row), batch.row_group, tuple(index), format_value(value))
        for row, index, value in zip(batch.file_rows(first[:, 0]), first[:, 1:].tolist(), values, strict=True)
    )
    rows = np.unique(places[:, 0]).astype(np.int64)
    return Outcome("DC003", column.name, num_checked, len(places), rows, examples, detail=detail)
