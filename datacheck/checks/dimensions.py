"""DC307: rows in which a dimension that the schema names does not have one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datacheck.checks.base import Outcome
from datacheck.checks.expression_columns import Data, find_column
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.schema.dimensions import NamedAxis, row_dimensions
from datacheck.schema.list_functions import size_of
from datacheck.schema.model import Schema
from datacheck.schema.operands import Operand, axes_of
from datacheck.text import plain

if TYPE_CHECKING:
    from datacheck.batch import Batch
    from datacheck.leaves import BoolArray


CODE = "DC307"


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The sizes of one axis in each row: ``values`` is one size or one for each row, ``known`` is False for a null."""

    axis: NamedAxis
    values: Any
    known: BoolArray
    differs: BoolArray


@dataclass(frozen=True, slots=True)
class DimensionCheck:
    """Compares the sizes that a name stands for within each row."""

    schema: Schema

    def run(self, batch: Batch) -> list[Outcome]:
        """One outcome for each dimension of at least two axes in the batch."""
        outcomes = []
        for name, axes in row_dimensions(self.schema).items():
            found = [sizes for axis in axes if (sizes := _sizes_in_rows(batch, axis, self.schema)) is not None]
            if len(found) > 1 or any(np.ndim(sizes.values) for sizes in found):
                outcomes.append(_compare(name, found, batch))
        return outcomes


def _compare(name: str, found: list[_Sizes], batch: Batch) -> Outcome:
    checked = np.zeros(batch.num_rows, np.bool_)
    broken = np.zeros(batch.num_rows, np.bool_)
    size = np.zeros(batch.num_rows, np.int64)
    for one in found:
        broken |= one.differs | (one.known & checked & (size != one.values))
        size = np.where(one.known & ~checked, one.values, size)
        checked |= one.known | one.differs
    rows = np.flatnonzero(broken).astype(np.int64)
    first = rows[:MAX_EXAMPLES]
    examples = tuple(
        Example(int(file_row), batch.row_group, (), ", ".join(_shown(one, int(row)) for one in found))
        for row, file_row in zip(first, batch.file_rows(first), strict=True)
    )
    paths = tuple(dict.fromkeys(one.axis.path for one in found))
    detail = ", ".join(dict.fromkeys(describe_axis(one.axis) for one in found))
    num_checked = int(np.count_nonzero(checked))
    return Outcome(CODE, None, num_checked, len(rows), rows if len(rows) else None, examples, name, detail, reads=paths)


def _shown(sizes: _Sizes, row: int) -> str:
    name = plain(sizes.axis.path or "the array", 60)
    if sizes.differs[row]:
        return f"{name} of several sizes"
    if not sizes.known[row]:
        return f"{name} null"
    return f"{name} {int(np.broadcast_to(sizes.values, sizes.known.shape)[row]):,}"


def describe_axis(axis: NamedAxis) -> str:
    """A named axis, such as ``image [3, H, W]``."""
    shape = ", ".join("null" if size is None else str(size) for size in axis.field.shape)
    return f"{axis.path or 'the array'} [{shape}]"


def axis_in_row(data: Data, axis: NamedAxis) -> int | None:
    """The axis of one row's value; -1 for the axis of the rows, None where the shape does not fit the column."""
    axes = axes_of(data)
    ndim = 0 if axes is None else axes.ndim
    has_rows = len(axis.field.shape) - ndim
    return axis.position - has_rows if has_rows in (0, 1) else None


def _sizes_in_rows(batch: Batch, axis: NamedAxis, schema: Schema) -> _Sizes | None:
    data = find_column(batch, axis.path or "", schema) if axis.path is not None else _nameless(batch)
    if data is None:
        return None
    place, axes = axis_in_row(data, axis), axes_of(data)
    if place is None or place < 0 or axes is None:
        return None
    operand, unmatched = size_of(Operand("", None, axes=axes), place)
    nobody = np.zeros(batch.num_rows, np.bool_)
    known = ~nobody if operand.valid is None else operand.valid
    return _Sizes(axis, operand.values, known, nobody if unmatched is None else unmatched)


def _nameless(batch: Batch) -> Data | None:
    return next((column.data for column in batch.columns if column.name is None), None)
