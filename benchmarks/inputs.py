"""The data of the benchmarks: made here, from fixed seeds, with a known number of bad values."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck import Schema

__all__ = [
    "LIMIT",
    "column_names",
    "make_schema",
    "plant",
    "random_columns",
    "table_of",
    "write_npy",
    "write_parquet",
]

Array = np.ndarray[Any, Any]

#: Every value that is made lies well between minus and plus this.
LIMIT = 100.0
_BLOCK_VALUES = 1 << 22


def column_names(num_columns: int) -> list[str]:
    """``f00``, ``f01`` and so on."""
    return [f"f{index:02d}" for index in range(num_columns)]


def make_schema(num_columns: int) -> Schema:
    """Every column float32, between the limits, neither null nor NaN nor infinite."""
    field = {"dtype": "float32", "ge": -LIMIT, "le": LIMIT}
    return Schema.model_validate({"fields": dict.fromkeys(column_names(num_columns), field)})


def random_columns(num_rows: int, num_columns: int, seed: int = 0) -> list[Array]:
    """Columns of standard normal float32 values, no two rows alike."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(num_rows, dtype=np.float32) for _ in range(num_columns)]


def plant(values: Array, share: float, bad: float = np.nan, seed: int = 1) -> int:
    """Overwrite a share of the values, at random places, with ``bad``; how many were overwritten, at least one."""
    count = max(1, round(len(values) * share))
    places = np.random.default_rng(seed).choice(len(values), count, replace=False, shuffle=False)
    values[places] = bad
    return count


def write_npy(path: Path, shape: tuple[int, ...], dtype: Any, fill: Callable[[Array], Array] | None = None) -> Path:
    """An ``.npy`` of normal values, written as ``np.save`` writes: in large pieces, which the page cache keeps together.

    As uint16 the values are bfloat16. ``fill`` changes a block before it is written. One block is repeated over the file.
    """
    kind = np.dtype(dtype)
    block: Array = np.random.default_rng(0).standard_normal(_BLOCK_VALUES, dtype=np.float32)
    if kind == np.uint16:
        block = block.view(np.uint32) >> np.uint32(16)
    block = block.astype(kind)
    left = int(np.prod(shape))
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        while left:
            piece = block[: min(left, len(block))]
            (piece if fill is None else fill(piece.copy())).tofile(file)
            left -= len(piece)
    return _settled(path)


def table_of(columns: Sequence[Array]) -> pa.Table:
    """Columns as a table with the names of :func:`column_names`; NaN stays NaN."""
    arrays = [pa.array(column) for column in columns]
    return pa.Table.from_arrays(arrays, names=column_names(len(columns)))


def write_parquet(
    path: Path,
    num_row_groups: int,
    rows_each: int,
    num_columns: int,
    fill: Callable[[list[Array]], object] | None = None,
    **options: Any,
) -> Path:
    """A Parquet file of normal values, snappy unless set otherwise; ``fill`` changes a row group before it is written."""
    options = {"compression": "snappy", **options}
    schema = table_of(random_columns(1, num_columns)).schema
    with pq.ParquetWriter(path, schema, **options) as writer:
        for group in range(num_row_groups):
            columns = random_columns(rows_each, num_columns, seed=group)
            if fill is not None:
                fill(columns)
            writer.write_table(table_of(columns), row_group_size=rows_each)
    return _settled(path)


def _settled(path: Path) -> Path:
    """The file once it is on the disk: what is still being written back would be timed with the work."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path
