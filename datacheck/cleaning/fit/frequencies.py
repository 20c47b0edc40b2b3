"""The most frequent value: exact counts of distinct values, up to a limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.cleaning.rules import Scalar
from datacheck.errors import CleaningError

#: How many distinct values of one field are counted.
DEFAULT_MAX_DISTINCT = 1 << 20
#: How many bytes of distinct texts of one field are counted.
_MAX_TEXT_BYTES = 64 << 20
#: How many counted values may wait to be added up.
_PENDING = 1 << 18


class Frequencies:
    """How often each value occurs among numbers, booleans or texts without NaN and null. ``name`` is for errors."""

    __slots__ = ("_counts", "_max_distinct", "_name", "_pending", "_values")

    def __init__(self, name: str, max_distinct: int = DEFAULT_MAX_DISTINCT) -> None:
        self._name = name
        self._max_distinct = max_distinct
        self._values: list[pa.Array] = []
        self._counts: list[pa.Array] = []
        self._pending = 0

    def __getstate__(self) -> tuple[Any, ...]:
        self._add_up()
        return self._name, self._max_distinct, self._values, self._counts

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._name, self._max_distinct, self._values, self._counts = state
        self._pending = 0

    def add(self, values: np.ndarray[Any, Any] | pa.Array) -> None:
        """Count values; raises ``CleaningError`` for too many distinct ones. -0.0 counts as 0.0."""
        if not len(values):
            return
        if isinstance(values, np.ndarray):
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            if values.dtype.kind == "f":
                values = (np.float32 if values.dtype.itemsize < 4 else values.dtype.type)(0) + values
            values = pa.array(values)
        counted = pc.value_counts(_plain(values))
        self._keep(counted.field("values"), counted.field("counts"))

    def merge(self, other: Frequencies) -> None:
        """Add the counts of another."""
        for values, counts in zip(other._values, other._counts, strict=True):
            self._keep(values, counts)

    def most_frequent(self) -> tuple[Scalar, int]:
        """The most frequent value, the smallest if several are, and its count."""
        self._add_up()
        values, counts = self._values[0], self._counts[0]
        most = pc.max(counts)
        value: Scalar = pc.min(values.filter(pc.equal(counts, most))).as_py()
        return value, most.as_py()

    def _keep(self, values: pa.Array, counts: pa.Array) -> None:
        self._values.append(values)
        self._counts.append(counts)
        self._pending += len(values)
        if self._pending > _PENDING:
            self._add_up()

    def _add_up(self) -> None:
        if self._values:
            table = pa.table({"value": pa.chunked_array(self._values), "count": pa.chunked_array(self._counts)})
            if len(self._values) > 1:
                table = table.group_by("value").aggregate([("count", "sum")]).rename_columns(["value", "count"])
            self._values = [table["value"].combine_chunks()]
            self._counts = [table["count"].combine_chunks()]
            if len(self._values[0]) > self._max_distinct or _text_bytes(self._values[0]) > _MAX_TEXT_BYTES:
                raise CleaningError(
                    f"{self._name} has more than {self._max_distinct:,} distinct values, too many to count for the "
                    "most frequent one; use the median or a constant"
                )
        self._pending = 0


def _plain(values: pa.Array) -> pa.Array:
    return values.cast(pa.large_string()) if values.type == pa.string() else values


def _text_bytes(values: pa.Array) -> int:
    return pc.sum(pc.binary_length(values)).as_py() or 0 if values.type == pa.large_string() else 0
