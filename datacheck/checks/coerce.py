"""Coercion: with ``coerce`` in the schema, a field accepts any value that converts to its dtype.

The text of formats without dtypes (CSV) is converted in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import decode, is_encoded, python_value
from datacheck.arrow_leaves import arrow_dtype
from datacheck.batch import Batch, Column
from datacheck.checks.base import Outcome
from datacheck.checks.convert import convert_arrow, convert_numbers
from datacheck.checks.mixed_text import describe_words
from datacheck.checks.rules import format_value
from datacheck.distinct import distinct
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import FLOAT_FORMATS, BoolArray, arrow_bits
from datacheck.schema.model import Schema
from datacheck.sources.dtypes import arrow_type


def coerce_batch(batch: Batch, schema: Schema) -> Batch:
    """Convert each column that may be coerced to the dtype of its field.

    A value that does not convert becomes invalid, and is marked as ``unconvertible``. A column whose type never converts
    to that dtype is returned unchanged: its dtype is then a finding.
    """
    fields = schema.fields.values()
    if not (schema.coerce or schema.missing or any(field.coerce or field.missing for field in fields)):
        return batch
    return batch.with_columns(tuple(coerce_column(column, schema) for column in batch.columns))


def _with_null_words(column: Column, schema: Schema) -> Column:
    """The column with the words as nulls that stand for a missing value in its field."""
    words = [value for value in schema.missing_for(column.name) if isinstance(value, str)]
    if not words or column.words is None or column.unconvertible is None:
        return column
    trimmed = pc.utf8_trim_whitespace(column.words)
    left = column.unconvertible.copy()
    for word in words:
        left &= ~arrow_bits(pc.fill_null(pc.equal(trimmed, word), False))
    return replace(column, unconvertible=left if left.any() else None)


def coerce_column(column: Column, schema: Schema) -> Column:
    """Convert one column, as in :func:`coerce_batch`."""
    column = _with_null_words(column, schema)
    field = schema.field_for(column.name)
    if field is None or field.dtype is None or field.dtype in FLOAT_FORMATS:
        return column
    is_loose = field.coerce or schema.coerce
    if not is_loose:
        return column
    if isinstance(column.data, np.ndarray):
        return _coerced_array(column, column.data, field.dtype)
    data = decode(column.data) if is_encoded(column.data.type) else column.data
    target = arrow_type(field.dtype)
    if column.words is not None and column.unconvertible is not None and data.type == target:
        return _loosely(column, data, column.words, column.unconvertible)
    if target is None or arrow_dtype(data.type) == field.dtype or pa.types.is_nested(data.type):
        return column
    converted = convert_arrow(data, target, is_untyped=column.words is not None)
    if converted is None:
        return column
    unconvertible = None
    if converted.null_count > data.null_count:
        gone = pc.and_(pc.is_null(converted), pc.is_valid(data))
        unconvertible = arrow_bits(gone)
    return replace(
        column,
        data=converted,
        unconvertible=unconvertible if unconvertible is None or unconvertible.any() else None,
    )


def _loosely(column: Column, data: pa.Array, words: pa.Array, unconvertible: BoolArray) -> Column:
    """A column of a text file in which cells that are nearly of its type, such as ``5.0`` for an integer, convert too."""
    loose = convert_arrow(words, data.type, is_untyped=True)
    assert loose is not None
    data = pc.coalesce(data, loose)
    unconvertible = unconvertible & arrow_bits(pc.is_null(data))
    return replace(column, data=data, unconvertible=unconvertible if unconvertible.any() else None)


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
    """For each column with values that did not convert: DC003, or DC007 where only the other values say what it should be."""
    for read, converted in zip(before.columns, after.columns, strict=True):
        if converted.unconvertible is None:
            continue
        field = schema.field_for(read.name)
        if field is not None and field.dtype is not None:
            detail = f"not {field.dtype}"
            if converted.words is not None and (look := describe_words(converted.words, converted.unconvertible)):
                detail = f"{detail}: {look}"
            yield _unconvertible_outcome("DC003", read, converted.unconvertible, before, detail)
        elif converted.words is not None:
            detail = describe_words(converted.words, converted.unconvertible)
            yield _unconvertible_outcome("DC007", read, converted.unconvertible, before, detail)


def _unconvertible_outcome(code: str, column: Column, unconvertible: BoolArray, batch: Batch, detail: str) -> Outcome:
    data = column.data if column.words is None else column.words
    if isinstance(data, np.ndarray):
        num_checked = int(np.ma.count(data))
        places = np.argwhere(unconvertible if unconvertible.ndim else unconvertible.reshape(1))
    else:
        num_checked = len(data) - data.null_count
        places = np.flatnonzero(unconvertible)[:, None]
    first = places[:MAX_EXAMPLES]
    values = [data[tuple(place)] if isinstance(data, np.ndarray) and data.ndim else data for place in first.tolist()]
    if not isinstance(data, np.ndarray):
        values = [python_value(data[row]) for row in first[:, 0].tolist()]
    examples = tuple(
        Example(int(row), batch.row_group, tuple(index), format_value(value))
        for row, index, value in zip(batch.file_rows(first[:, 0]), first[:, 1:].tolist(), values, strict=True)
    )
    rows = distinct(places[:, 0]).astype(np.int64)
    return Outcome(code, column.name, num_checked, len(places), rows, examples, detail=detail)
