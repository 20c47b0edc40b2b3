"""Guarantees of the table formats beyond the common suite."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sink_files import (
    bits,
    read_table,
    same,
    write,
)

from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.sinks import get_sink
from datacheck.sources import ReadOptions, get_source


@pytest.mark.parametrize("fmt", ["parquet", "arrow"])
def test_tables_record_the_dtype_of_stored_bits(fmt, tmp_path):
    path = write(fmt, tmp_path / "part", [Column("x", np.arange(5, dtype=np.uint16), "bfloat16")])
    assert read_table(fmt, path).schema.field("x").metadata[b"datacheck:dtype"] == b"bfloat16"


TABLE = {
    "i": pa.array([1, None, 3, -4, 5], pa.int32()),
    "f": pa.array([1.5, None, float("nan"), float("-inf"), float("inf")], pa.float32()),
    "s": pa.array(["", None, 'a"b', "nan", "x\ny"], pa.string()),
    "b": pa.array([True, None, False, True, None]),
    "t": pa.array([0, None, 2, 3, 4], pa.timestamp("ns", "UTC")),
    "d": pa.array(["1.10", None, "3.00", "4.00", "-5.55"]).cast(pa.decimal128(9, 2)),
    "l": pa.array([[1, None], None, [], [3], [4, 5]], pa.list_(pa.int64())),
    "st": pa.array([{"x": 1.0, "y": None}, None, {"x": float("nan"), "y": [1]}, None, {"x": None, "y": []}]),
    "k": pa.array(["a", None, "b", "a", "c"]).dictionary_encode(),
    "fs": pa.array([[1.0, None], None, [float("nan"), 4.0], [5.0, 6.0], None], pa.list_(pa.float64(), 2)),
    "bin": pa.array([b"", None, b"\xff\0", b"c", b"d"], pa.large_binary()),
}


@pytest.mark.parametrize("name", sorted(TABLE))
@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("fmt", ["parquet", "arrow"])
def test_arrow_columns_round_trip_with_their_nulls(fmt, size, name, tmp_path):
    path = write(fmt, tmp_path / "part", [Column(name, TABLE[name]), Column("n", pa.array(range(5)))], size=size)
    read = read_table(fmt, path)
    assert read.schema.field(name).type == TABLE[name].type
    assert same(read.column(name), TABLE[name])


@pytest.mark.parametrize("name", ["i", "f", "s", "b", "k"])
def test_csv_distinguishes_null_nan_and_empty_string(name, tmp_path):
    path = write("csv", tmp_path / "part", [Column(name, TABLE[name]), Column("n", pa.array(range(5)))], size=2)
    assert same(read_table("csv", path).column(name), TABLE[name])


def test_csv_writes_every_special_value(tmp_path):
    columns = [
        Column("f", pa.array([float("nan"), None, float("inf"), float("-inf"), -0.0])),
        Column("s", pa.array(["", None, "nan", "NA", "a,b"])),
    ]
    assert write("csv", tmp_path / "part", columns).read_text() == (
        '"f","s"\nnan,""\n,\ninf,"nan"\n-inf,"NA"\n-0,"a,b"\n'
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_csv_numbers_read_back_to_the_same_bits(dtype, tmp_path):
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 1 << (8 * np.dtype(dtype).itemsize - 1), 2000, dtype=np.int64).astype(
        f"u{np.dtype(dtype).itemsize}"
    )
    values = raw.view(dtype)
    values = np.concatenate([values[np.isfinite(values)], np.array([-0.0, 0.1], dtype)])
    path = write("csv", tmp_path / "part", [Column("x", values)], size=100_000)
    read = np.array(path.read_text().split()[1:], dtype)
    assert np.array_equal(bits(read), bits(values))


def test_arrow_files_have_zeros_under_nulls(tmp_path):
    secret = pa.array(np.full(64, 0x5EC2E7, np.int64))
    hidden = pa.Array.from_buffers(pa.int64(), 64, [pa.py_buffer(b"\x0f" * 8), secret.buffers()[1]])
    tensor = pa.FixedSizeListArray.from_arrays(secret, 2, mask=pa.array([True, False] * 16))
    struct = pa.StructArray.from_arrays([secret], ["x"], mask=pa.array([True, False] * 32))
    for name, array, expected in (("plain", hidden, 32), ("list", tensor, 32), ("struct", struct, 32)):
        path = write("arrow", tmp_path / name, [Column("x", array)], size=64)
        assert path.read_bytes().count(b"\xe7\xc2\x5e") == expected
        assert same(read_table("arrow", path).column("x"), array)


def test_arrow_dictionaries_of_different_batches_are_merged(tmp_path):
    parts = [["a", "b", None], ["c", "a"], ["b"]]
    kind = pa.dictionary(pa.int8(), pa.string())
    writer = get_sink("arrow").open(str(tmp_path / "part"), Batch((Column("k", pa.array([], kind)),), 0))
    for part in parts:
        writer.write(Batch((Column("k", pa.array(part).dictionary_encode().cast(kind)),), len(part)))
    writer.close()
    assert read_table("arrow", tmp_path / "part").column("k").to_pylist() == ["a", "b", None, "c", "a", "b"]


def test_arrow_refuses_more_categories_than_its_indices_can_address(tmp_path):
    kind = pa.dictionary(pa.int8(), pa.string())
    writer = get_sink("arrow").open(str(tmp_path / "part"), Batch((Column("k", pa.array([], kind)),), 0))
    writer.write(Batch((Column("k", pa.array(list("abc")).dictionary_encode().cast(kind)),), 3))
    more = pa.array([str(i) for i in range(127)]).dictionary_encode().cast(kind)
    with pytest.raises(OutputError, match=r"'k' has 130 categories.*parquet can hold it"):
        writer.write(Batch((Column("k", more),), 127))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "lz4", "gzip"])
def test_parquet_uses_the_compression_of_its_options(compression, tmp_path):
    path = write("parquet", tmp_path / "part", [Column("x", np.arange(10))], compression=compression)
    expected = "UNCOMPRESSED" if compression == "none" else compression.upper()
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == expected


def test_parquet_has_statistics_and_metadata(tmp_path):
    path = write("parquet", tmp_path / "part", [Column("x", np.arange(10))], metadata={b"key": b"value"})
    file = pq.ParquetFile(path)
    assert file.schema_arrow.metadata[b"key"] == b"value"
    assert file.metadata.row_group(0).column(0).statistics.max == 9


def test_parquet_row_groups_are_bounded_in_rows_and_bytes(tmp_path):
    narrow = pa.array(np.zeros(700_000, np.int8))
    writer = get_sink("parquet").open(str(tmp_path / "rows"), Batch((Column("x", narrow[:0]),), 0))
    for _ in range(3):
        writer.write(Batch((Column("x", narrow),), len(narrow)))
    writer.close()
    metadata = pq.ParquetFile(tmp_path / "rows").metadata
    assert metadata.num_rows == 2_100_000
    assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= 1 << 20
    wide = np.zeros((512, 1 << 13), np.float32)
    writer = get_sink("parquet").open(str(tmp_path / "bytes"), Batch((Column(None, wide[:0]),), 0))
    for _ in range(4):
        writer.write(Batch((Column(None, wide),), len(wide)))
    writer.close()
    metadata = pq.ParquetFile(tmp_path / "bytes").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [1024, 1024]


def test_parquet_columns_of_distinct_numbers_get_no_dictionary(tmp_path):
    n = 50_000
    columns = [
        Column("diverse", np.arange(n, dtype=np.float32)),
        Column("few", np.arange(n, dtype=np.float32) % 7),
        Column("text", pa.array([str(i % 5) for i in range(n)])),
    ]
    group = pq.ParquetFile(write("parquet", tmp_path / "part", columns, size=n)).metadata.row_group(0)
    assert [group.column(i).has_dictionary_page for i in range(3)] == [False, True, True]


def test_a_csv_of_one_column_refuses_nulls_that_would_be_empty_lines(tmp_path):
    with pytest.raises(OutputError, match="only column and has nulls"):
        write("csv", tmp_path / "part", [Column("x", pa.array([1.0, None]))])


@pytest.mark.parametrize("fmt", ["parquet", "arrow", "csv"])
def test_tables_keep_columns_with_duplicate_names(fmt, tmp_path):
    columns = [Column("x", np.arange(3)), Column("x", np.arange(3) * 2)]
    read = read_table(fmt, write(fmt, tmp_path / "part", columns))
    assert [column.to_pylist() for column in read.columns] == [[0, 1, 2], [0, 2, 4]]


def test_csv_round_trips_through_its_source(tmp_path):
    names = ["f", "s", "b", "i"]
    path = write("csv", tmp_path / "part.csv", [Column(name, TABLE[name]) for name in names], size=2)
    source = get_source("csv")
    (unit,) = source.inspect(str(path), ReadOptions()).units
    (batch,) = source.read(unit)
    assert batch.names == names
    for column in batch.columns:
        assert same(column.data, TABLE[column.name])
