"""Arrow IPC: every type as it was written, whatever the record batches and the compression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pytest
from source_files import inspect, read_batches, shrink_units

import datacheck
from datacheck.sources import ReadOptions

NUM_ROWS = 90


def _table() -> pa.Table:
    words = pa.array(["a", "b", None] * 30)
    tensor = pa.fixed_shape_tensor(pa.float32(), (2, 2))
    return pa.table(
        {
            "number": pa.array(np.arange(NUM_ROWS, dtype=np.float32)),
            "text": words,
            "words": words.dictionary_encode(),
            "lists": [[1.0, float("inf")], None, []] * 30,
            "fixed": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2.0 * NUM_ROWS)), 2),
            "tensor": pa.ExtensionArray.from_storage(
                tensor, pa.FixedSizeListArray.from_arrays(pa.array(np.arange(4 * NUM_ROWS, dtype=np.float32)), 4)
            ),
            "struct": [{"a": 1.5, "b": "x"}, None, {"a": None, "b": None}] * 30,
            "map": pa.array([[("k", 1.0)], [], None] * 30, pa.map_(pa.string(), pa.float64())),
            "bool": [True, False, None] * 30,
            "decimal": pa.array([1, None, 3] * 30).cast(pa.decimal128(25, 2)),
            "half": pa.array(np.arange(NUM_ROWS).astype(np.float16)),
            "nothing": pa.nulls(NUM_ROWS),
            "runs": pa.RunEndEncodedArray.from_arrays(pa.array([40, NUM_ROWS], pa.int32()), pa.array([1.0, None])),
        }
    )


@pytest.mark.parametrize("new", [ipc.new_file, ipc.new_stream])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("chunk", [1, 7, 90])
@pytest.mark.parametrize("unit_bytes", [1 << 20, 2000, 1])
def test_every_type_is_read_as_it_was_written(
    new: Callable[..., Any],
    compression: str | None,
    chunk: int,
    unit_bytes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shrink_units(monkeypatch, unit_bytes, max(1, unit_bytes // 4))
    path, table = tmp_path / "x.arrow", _table()
    with new(path, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=chunk)
    info = inspect(path)
    assert info.num_rows == NUM_ROWS
    batches = read_batches(info)
    assert [batch.row_start for batch in batches] == np.cumsum([0, *(b.num_rows for b in batches)])[:-1].tolist()
    for index, name in enumerate(table.column_names):
        values = [value for batch in batches for value in batch.columns[index].data.to_pylist()]
        assert values == table.column(name).to_pylist(), name


def test_a_large_record_batch_is_sliced_and_small_ones_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch, 8000, 2000)
    table = pa.table({"x": np.arange(10_000.0)})
    with ipc.new_file(tmp_path / "one.arrow", table.schema) as writer:
        writer.write_table(table)
    with ipc.new_file(tmp_path / "many.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    one, many = inspect(tmp_path / "one.arrow"), inspect(tmp_path / "many.arrow")
    assert len(one.units) == len(many.units) == 10
    assert len(read_batches(one)) == 40
    assert len(read_batches(many)) < 200


def test_batches_of_an_uncompressed_file_are_the_pages_of_the_file(tmp_path: Path) -> None:
    table = pa.table({"x": np.zeros(4 << 20)})
    with ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    before = pa.total_allocated_bytes()
    batches = read_batches(inspect(tmp_path / "x.arrow"))
    assert sum(batch.num_rows for batch in batches) == 4 << 20
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_dictionaries_that_grow_and_change_along_a_stream_are_followed(tmp_path: Path) -> None:
    parts = [pa.array(values).dictionary_encode() for values in (["a", "b"], ["a", "b", "c"], ["x"])]
    schema = pa.schema([("word", parts[0].type)])
    for deltas in (True, False):
        options = ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
        with ipc.new_stream(tmp_path / "x.arrows", schema, options=options) as writer:
            for part in parts:
                writer.write_batch(pa.RecordBatch.from_arrays([part], schema=schema))
        found = [
            value
            for batch in read_batches(inspect(tmp_path / "x.arrows"))
            for value in batch.columns[0].data.to_pylist()
        ]
        assert found == ["a", "b", "a", "b", "c", "x"]


def test_what_feather_writes_is_read(tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, None, float("nan")]})
    feather.write_feather(table, tmp_path / "x.feather")
    (batch,) = read_batches(inspect(tmp_path / "x.feather"))
    assert str(batch.columns[0].data.to_pylist()) == "[1.0, None, nan]"


def test_wanted_columns_are_read_by_place_where_names_repeat(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["x", "y", "x"])
    with ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    for columns, expected in ((("x",), [[1], [3]]), (("y", "x"), [[1], [2], [3]]), (("z",), [])):
        (batch,) = read_batches(inspect(tmp_path / "x.arrow", ReadOptions(columns=columns)))
        assert [column.data.to_pylist() for column in batch.columns] == expected
        assert batch.num_rows == 1


@pytest.mark.parametrize("mode", ["sparse", "dense"])
def test_an_empty_union_inside_lists_is_read(mode: str, tmp_path: Path) -> None:
    # Arrow ends the process where it is asked how many bytes such an array has.
    kind = pa.list_(pa.union([pa.field("u", pa.int64())], mode), 0)
    batch = pa.RecordBatch.from_arrays([pa.nulls(7, kind)], ["x"])
    path = tmp_path / "x.arrow"
    with ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(batch)
    in_memory = ipc.open_file(pa.BufferReader(path.read_bytes())).get_batch(0)
    for data in (path, in_memory):
        assert datacheck.scan(data).num_rows == 7
