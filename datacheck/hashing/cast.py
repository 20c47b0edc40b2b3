"""Casts that let equal values in different dtypes get equal hashes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.leaves import Leaf
from datacheck.numerics import to_float
from datacheck.schema.times import NANOSECONDS

Array = np.ndarray[Any, Any]


def cast(leaf: Leaf, dtype: str) -> Leaf:
    """Cast a leaf to ``int64``, ``float16``, ``float32`` or ``float64``; values that overflow become infinite."""
    if leaf.values is None or not len(leaf):
        return leaf
    if leaf.is_numeric:
        numbers = leaf.values if dtype == "int64" else to_float(leaf.values, leaf.dtype)
    elif pa.types.is_decimal(leaf.values.type):
        kind = leaf.values.type
        wide = leaf.values.cast(pa.decimal128(38, kind.scale)) if kind.bit_width < 128 else leaf.values
        # Arrow's own cast multiplies by a power of ten: 0.3 becomes 0.30000000000000004.
        numbers = wide.cast(pa.string()).cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
    elif _is_time(leaf.values.type):
        numbers = _nanoseconds(leaf.values)
    else:
        return leaf
    with np.errstate(all="ignore"):
        return replace(leaf, values=numbers.astype(dtype, copy=False), dtype=dtype)


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_temporal(kind) and not pa.types.is_interval(kind))


def _nanoseconds(values: pa.Array) -> Array:
    """Times as nanoseconds modulo 2**64: equal times stay equal; times of two units that differ by 584 years collide."""
    kind = values.type
    unit = "D" if pa.types.is_date32(kind) else "ms" if pa.types.is_date64(kind) else kind.unit
    ticks = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    counts = ticks.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    found: Array = counts * np.uint64(NANOSECONDS[unit])
    return found
