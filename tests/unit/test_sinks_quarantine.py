"""The quarantine holds original rows bit for bit, each with its codes, reason and origin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sink_files import PATTERNS, bits, same, special, to_numpy

from datacheck.batch import Batch, Column, MalformedRow
from datacheck.errors import AccountingError
from datacheck.sinks.quarantine import NUMPY_KEY, QuarantineWriter


def read_quarantine(path: Path) -> pa.Table:
    if path.suffix == ".arrow":
        with pa.ipc.open_file(path) as reader:
            return reader.read_all()
    return pq.read_table(path)


def quarantine(path, batch, codes=None, reasons=None, uri="train.parquet"):
    writer = QuarantineWriter(str(path), batch.take(np.arange(0)), uri)
    writer.write(batch, codes or [("DC101",)] * batch.num_rows, reasons or ["why"] * batch.num_rows)
    assert writer.close() == Path(writer.uri).stat().st_size
    return read_quarantine(Path(writer.uri))


def test_rows_keep_values_codes_reason_and_origin(tmp_path):
    batch = Batch.from_arrow(pa.record_batch({"a": [1.5, None, 2.5], "b": ["x", "y", None]}), 100, 3)
    table = quarantine(tmp_path / "q", batch.take(np.array([0, 2])), [("DC101", "DC201"), ()], ["a is low", ""])
    assert table.to_pylist() == [
        {
            "a": 1.5,
            "b": "x",
            "codes": ["DC101", "DC201"],
            "reason": "a is low",
            "file": "train.parquet",
            "row_group": 3,
            "row": 100,
        },
        {"a": 2.5, "b": None, "codes": [], "reason": "", "file": "train.parquet", "row_group": 3, "row": 102},
    ]
    assert table.schema.field("row_group").type == pa.int32()
    assert table.schema.field("row").type == pa.int64()


def test_common_readers_open_a_quarantine(tmp_path):
    quarantine(tmp_path / "q", Batch.from_arrow(pa.record_batch([pa.array([1]), pa.array([2])], names=["a", "a"])))
    frame = pd.read_parquet(tmp_path / "q.parquet")
    assert list(frame.columns) == ["a", "a.2", "codes", "reason", "file", "row_group", "row"]


def test_a_number_whose_name_is_taken_is_skipped(tmp_path):
    names = ["a", "a.2", "a", "a"]
    table = quarantine(
        tmp_path / "q", Batch.from_arrow(pa.record_batch([pa.array([i]) for i in range(4)], names=names))
    )
    assert [table.column(i).to_pylist() for i in range(4)] == [[0], [1], [2], [3]]
    assert table.column_names[:4] == ["a", "a.2", "a.3", "a.4"]


def test_only_the_extra_column_whose_name_is_taken_gets_the_prefix(tmp_path):
    data = {"codes": [1], "row": [2], "datacheck_row": [3]}
    table = quarantine(tmp_path / "q", Batch.from_arrow(pa.record_batch(data)))
    assert table.column_names == [
        "codes", "row", "datacheck_row", "datacheck_codes", "reason", "file", "row_group", "datacheck_datacheck_row",
    ]  # fmt: skip
    assert table.select(list(data)).to_pydict() == data


@pytest.mark.parametrize("dtype", sorted(PATTERNS))
@pytest.mark.parametrize("row_shape", [(), (2, 3)])
def test_arrays_keep_every_bit(dtype, row_shape, tmp_path):
    values = np.resize(special(dtype), (9, *row_shape))
    table = quarantine(tmp_path / "q", Batch((Column(None, values),), 9, 50))
    read = to_numpy(table.column("array"))
    assert read.shape == values.shape
    assert np.array_equal(bits(read), bits(values))
    assert table.column("row").to_pylist() == list(range(50, 59))
    assert table.column("row_group").null_count == 9


def test_rows_that_are_not_consecutive_keep_their_origin(tmp_path):
    batch = Batch((Column("x", np.arange(3)),), 3, rows=np.array([7, 8, 21]))
    assert quarantine(tmp_path / "q", batch).column("row").to_pylist() == [7, 8, 21]


@pytest.mark.parametrize("dtype", ["complex64", "complex128", ">c8"])
def test_complex_numbers_become_pairs_of_floats(dtype, tmp_path):
    values = np.resize([1 + 2j, complex(np.nan, -0.0), complex(np.inf, -np.inf)], (3, 2)).astype(dtype)
    table = quarantine(tmp_path / "q", Batch((Column("z", values),), 3))
    assert json.loads(table.schema.metadata[NUMPY_KEY]) == {"z": {"dtype": np.dtype(dtype).str, "shape": [2]}}
    native = values.astype(values.dtype.newbyteorder("="))
    assert np.array_equal(bits(to_numpy(table.column("z"))), bits(native))


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6, dtype=np.longdouble).reshape(3, 2),
        np.array([(1.5, 2)] * 3, [("a", ">f4"), ("b", "i8")]),
        np.array(["2020-01-01T05", "NaT", "2021-01-01T00"], "datetime64[h]"),
    ],
    ids=["long double", "structured", "hours"],
)
def test_values_without_an_arrow_type_are_stored_as_bytes(values, tmp_path):
    table = quarantine(tmp_path / "q", Batch((Column("x", values),), 3))
    kind = json.loads(table.schema.metadata[NUMPY_KEY])["x"]
    assert kind["shape"] == list(values.shape[1:])
    raw = b"".join(table.column("x").to_pylist())
    assert raw == values.tobytes()


def test_string_arrays_stay_strings(tmp_path):
    table = quarantine(tmp_path / "q", Batch((Column("x", np.array([["a", "bc"], ["", "é"]])),), 2))
    assert table.column("x").to_pylist() == [["a", "bc"], ["", "é"]]


def test_rows_without_elements_are_counted(tmp_path):
    assert quarantine(tmp_path / "q", Batch((Column("x", np.zeros((4, 0))),), 4)).num_rows == 4


def test_bfloat16_keeps_its_dtype_and_bits(tmp_path):
    stored = np.array([0x7FC1, 0xFF80, 0x8000], np.uint16)
    table = quarantine(tmp_path / "q", Batch((Column("x", stored, "bfloat16"),), 3))
    assert table.schema.field("x").metadata[b"datacheck:dtype"] == b"bfloat16"
    assert table.column("x").to_pylist() == stored.tolist()


def test_columns_that_parquet_cannot_hold_are_written_to_an_arrow_file(tmp_path):
    intervals = pa.array([(1, 2, 3), None], pa.month_day_nano_interval())
    table = quarantine(tmp_path / "q", Batch((Column("i", intervals),), 2))
    assert [path.name for path in tmp_path.iterdir()] == ["q.arrow"]
    assert same(table.column("i"), intervals)
    assert table.column("reason").to_pylist() == ["why", "why"]


def test_malformed_lines_have_nulls_and_their_text(tmp_path):
    batch = Batch.from_arrow(pa.record_batch({"a": [1.5], "b": ["x"]}), 4)
    writer = QuarantineWriter(str(tmp_path / "q"), batch.take(np.arange(0)), "a.csv")
    writer.write(batch, [("DC101",)], ["why"])
    writer.write_malformed([MalformedRow(9, "1,2,\udcff3", "expected 2 cells, got 3")])
    writer.close()
    assert writer.num_rows == 2
    assert read_quarantine(Path(writer.uri)).to_pylist()[1] == {
        "a": None, "b": None, "codes": ["DC305"], "reason": "expected 2 cells, got 3: 1,2,\\udcff3", "file": "a.csv",
        "row_group": None, "row": 9,
    }  # fmt: skip


def test_a_quarantine_of_malformed_lines_has_every_column(tmp_path):
    template = Batch((Column("t", np.zeros((0, 2, 3), np.float32)), Column("z", np.zeros(0, np.complex64))), 0)
    writer = QuarantineWriter(str(tmp_path / "q"), template, "a.csv")
    writer.write_malformed([MalformedRow(0, "?", "no")] * 2)
    writer.close()
    table = read_quarantine(Path(writer.uri))
    assert table.column("t").null_count == table.column("z").null_count == 2


def test_no_rows_create_no_file(tmp_path):
    batch = Batch((Column("x", np.zeros(0)),), 0)
    writer = QuarantineWriter(str(tmp_path / "q"), batch, "x.npy")
    writer.write(batch, [], [])
    writer.write_malformed([])
    assert writer.close() == 0
    assert list(tmp_path.iterdir()) == []


def test_abort_leaves_no_file(tmp_path):
    batch = Batch((Column("x", np.zeros(2)),), 2)
    writer = QuarantineWriter(str(tmp_path / "q"), batch.take(np.arange(0)), "x.npy")
    writer.abort()
    writer.write(batch, [(), ()], ["", ""])
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_codes_and_reasons_must_match_the_rows(tmp_path):
    batch = Batch((Column("x", np.zeros(2)),), 2)
    writer = QuarantineWriter(str(tmp_path / "q"), batch.take(np.arange(0)), "x.npy")
    with pytest.raises(AccountingError):
        writer.write(batch, [()], ["", ""])


def test_a_name_with_dots_is_kept(tmp_path):
    assert quarantine(tmp_path / "v1.5-part", Batch((Column("x", np.zeros(1)),), 1)).num_rows == 1
    assert [path.name for path in tmp_path.iterdir()] == ["v1.5-part.parquet"]
