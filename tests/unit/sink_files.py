"""Helpers that write small files with a sink and read them with other libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from datacheck.batch import Batch, Column
from datacheck.sinks import get_sink

FORMATS = ("arrow", "csv", "hdf5", "npy", "npz", "parquet", "safetensors")


TABLES = ("arrow", "csv", "parquet")


ARRAYS = ("hdf5", "npy", "npz", "safetensors")


#: NaNs of either sign with several payloads, signalling ones, infinities, both zeros, the smallest and largest values.
PATTERNS = {
    "float16": np.array([0x7E01, 0xFE02, 0x7C01, 0x7C00, 0xFC00, 0x8000, 0, 1, 0x7BFF], np.uint16),
    "float32": np.array(
        [0x7FC00001, 0xFFC00002, 0x7F800001, 0x7F800000, 0xFF800000, 1 << 31, 0, 1, 0x7F7FFFFF], np.uint32
    ),
    "float64": np.array(
        [0x7FF8 << 48 | 5, 0xFFF8 << 48 | 6, 0x7FF0 << 48 | 1, 0x7FF0 << 48, 0xFFF0 << 48, 1 << 63, 0, 1], np.uint64
    ),
}


def special(dtype: str) -> np.ndarray:
    return PATTERNS[dtype].view(dtype)


def bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def batches(*columns: Column, size: int = 4) -> list[Batch]:
    whole = Batch(columns, len(columns[0]))
    starts = range(0, whole.num_rows, size)
    return [whole.take(np.arange(start, min(start + size, whole.num_rows))) for start in starts]


def template(batch: Batch) -> Batch:
    return batch.take(np.arange(0))


def write(fmt: str, path: Path, columns: list[Column], size: int = 4, **options: object) -> Path:
    parts = batches(*columns, size=size)
    writer = get_sink(fmt, options).open(str(path), template(Batch(tuple(columns), len(columns[0]))))
    for batch in parts:
        writer.write(batch)
    assert writer.close() == path.stat().st_size
    return path


def read_arrays(fmt: str, path: Path) -> dict[str, np.ndarray]:
    if fmt == "npy":
        return {"array": np.load(path, allow_pickle=False)}
    if fmt == "npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    if fmt == "hdf5":
        with pytest.importorskip("h5py").File(path) as file:
            return {name: file[name][()] for name in file}
    if fmt == "safetensors":
        return pytest.importorskip("safetensors.numpy").load_file(path)
    table = read_table(fmt, path)
    return {name: to_numpy(table.column(name).combine_chunks()) for name in table.column_names}


def to_numpy(array: pa.Array) -> np.ndarray:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    if isinstance(array.type, pa.FixedShapeTensorType):
        return array.to_numpy_ndarray()
    return array.to_numpy(zero_copy_only=False)


def read_table(fmt: str, path: Path, **types: pa.DataType) -> pa.Table:
    if fmt == "parquet":
        return pq.ParquetFile(path).read()
    if fmt == "arrow":
        return pa.ipc.open_file(path).read_all()
    options = pyarrow.csv.ConvertOptions(
        null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False, column_types=types
    )
    return pyarrow.csv.read_csv(
        path, convert_options=options, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
    )


def same(left: pa.Array, right: pa.Array) -> bool:
    """Equality where NaN equals NaN, and null only null."""
    return repr(left.to_pylist()) == repr(right.to_pylist())
