"""DC007: non-numeric values because of which a numeric column was read as text, in a format without dtypes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.batch import Batch, Column
from datacheck.checks.base import Outcome
from datacheck.checks.convert import convert_arrow
from datacheck.checks.rules import format_value
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import arrow_bits
from datacheck.schema.model import Schema

__all__ = ["mixed_text"]


def mixed_text(batch: Batch, schema: Schema) -> Iterator[Outcome]:
    """One outcome for each text column of mostly numbers whose dtype the schema does not give."""
    for column in batch.columns:
        if not column.is_mostly_numbers:
            continue
        field = schema.field_for(column.name)
        if field is None or field.dtype is None:
            yield _outcome(column, batch)


def _outcome(column: Column, batch: Batch) -> Outcome:
    texts: pa.Array = column.data
    numbers = convert_arrow(texts, pa.float64(), is_untyped=True)
    assert numbers is not None
    is_filled = arrow_bits(pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(texts, "")), ""))
    rows = np.flatnonzero(is_filled & ~arrow_bits(numbers.is_valid())).astype(np.int64)
    examples = tuple(
        Example(int(file_row), batch.row_group, (), format_value(texts[int(row)].as_py()))
        for row, file_row in zip(rows[:MAX_EXAMPLES], batch.file_rows(rows[:MAX_EXAMPLES]), strict=True)
    )
    return Outcome("DC007", column.name, int(np.count_nonzero(is_filled)), len(rows), rows, examples)
