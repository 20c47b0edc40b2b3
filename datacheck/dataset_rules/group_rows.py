"""The table of groups that a sequence rule keeps, and rows of files as its messages name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.dataset_rules.positions import Scale
from datacheck.leaves import BoolArray, IntArray

#: One row per group: its key and name; the ordinals of its first and last row in the part; the number of its rows; where its
#: first row is; and of its rows with a value the first and last value, and where the first one is.
GROUPS = pa.schema(
    [
        ("h0", pa.uint64()),
        ("h1", pa.uint64()),
        ("label", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("count", pa.int64()),
        ("file", pa.int32()),
        ("row", pa.int64()),
        ("row_group", pa.int32()),
        ("has_value", pa.bool_()),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("value_file", pa.int32()),
        ("value_row", pa.int64()),
        ("value_row_group", pa.int32()),
    ]
)
_NO_GROUP = -1


@dataclass(frozen=True, slots=True)
class Where:
    """Rows of files, and their row groups."""

    file: Any
    row: Any
    row_group: Any

    def take(self, chosen: IntArray | BoolArray) -> Where:
        return Where(self.file[chosen], self.row[chosen], self.row_group[chosen])


def where(batch: Batch, rows: IntArray) -> Where:
    """Some rows of a batch, whose file is the first one of its part."""
    return Where(np.zeros(len(rows), np.int32), batch.file_rows(rows), row_groups(batch, len(rows)))


def row_groups(batch: Batch, number: int) -> Any:
    """The row group of each of a number of rows of a batch."""
    return np.full(number, _NO_GROUP if batch.row_group is None else batch.row_group, np.int32)


def row_group_of(number: Any) -> int | None:
    """A row group as examples have it."""
    return None if int(number) == _NO_GROUP else int(number)


def stored(values: Any) -> Any:
    """Values as 64 bits, whatever their scale."""
    return np.ascontiguousarray(values).view(np.int64)


def values_in(column: Any, scale: Scale) -> Any:
    """What :func:`stored` kept."""
    return column.to_numpy().view(scale.dtype)
