"""What the footer of a Parquet file says about the values of its column chunks, without reading a page of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from datacheck.sources.base import WorkUnit
from datacheck.sources.parquet import is_addressable, open_parquet
from datacheck.sources.parquet_footer import ChunkMetadata, read_chunks

#: How a value of a physical type is packed; of integers, also where they are unsigned.
_PACKED = {0: "<?", 1: "<i", 2: "<q", 4: "<f", 5: "<d"}
_PACKED_UNSIGNED = {1: "<I", 2: "<Q"}


@dataclass(frozen=True, slots=True)
class ChunkStatistics:
    """What is known of the values of one column in one row group.

    ``low`` and ``high`` are the extremes of the values that are neither null nor NaN, None if there are none.
    """

    type: pa.DataType
    num_slots: int
    num_nulls: int
    num_nan: int
    low: Any
    high: Any

    def witness(self) -> pa.Array:
        """Four values that break a rule about single values, such as a bound, if any value of the chunk does."""
        one = float("nan") if self.num_nan else None
        low, high = (one, one) if self.low is None else (self.low, self.high)
        return pa.array([low, high, one if self.num_nan else low, None if self.num_nulls else low], self.type)


def chunk_statistics(unit: WorkUnit, group: int) -> dict[str, ChunkStatistics]:
    """The statistics of the numeric and boolean columns of a row group, by name; without those that say too little."""
    file = open_parquet(unit.uri, unit.fingerprint, unit.options)
    schema = file.schema_arrow
    groups = read_chunks(unit.uri, unit.fingerprint, unit.options.max_bytes_at_once)
    if not is_addressable(schema) or group >= len(groups) or len(groups[group]) != len(schema):
        return {}
    num_rows = file.metadata.row_group(group).num_rows
    found = {}
    for field, chunk in zip(schema, groups[group], strict=True):
        one = _of_chunk(field.type, chunk, num_rows) if chunk.path == field.name else None
        if one is not None:
            found[field.name] = one
    return found


def _of_chunk(kind: pa.DataType, chunk: ChunkMetadata, num_rows: int) -> ChunkStatistics | None:
    """The statistics of a chunk; None if they are not all there, or contradict each other."""
    types = pa.types
    is_float = types.is_float32(kind) or types.is_float64(kind)
    num_nulls, num_nan = chunk.null_count, chunk.nan_count if is_float else 0
    if not (is_float or types.is_integer(kind) or types.is_boolean(kind)) or num_nulls is None or num_nan is None:
        return None
    left = num_rows - num_nulls - num_nan
    if min(num_nulls, num_nan, left) < 0 or chunk.num_values != num_rows:
        return None
    if not left:
        return ChunkStatistics(kind, num_rows, num_nulls, num_nan, None, None)
    packed = (_PACKED_UNSIGNED if types.is_unsigned_integer(kind) else _PACKED).get(chunk.physical_type or 0)
    if packed is None or {len(chunk.low), len(chunk.high)} != {struct.calcsize(packed)}:
        return None
    (low,), (high,) = struct.unpack(packed, chunk.low), struct.unpack(packed, chunk.high)
    return ChunkStatistics(kind, num_rows, num_nulls, num_nan, low, high) if low <= high else None
