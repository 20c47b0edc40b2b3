"""Guarantees of the array formats beyond the common suite."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from sink_files import (
    ARRAYS,
    bits,
    read_arrays,
    special,
    write,
)

from datacheck.batch import Column
from datacheck.errors import OutputError


@pytest.mark.parametrize("fmt", [fmt for fmt in ARRAYS if fmt != "npy"])
def test_several_arrays_in_one_file(fmt, tmp_path):
    # In HDF5 a slash makes a group, of which none can be called "..".
    name = "ü" if fmt == "hdf5" else "ü/.."
    columns = [
        Column("b", np.resize(special("float64"), (9, 2))),
        Column("a", np.arange(9, dtype=np.int8)),
        Column(name, np.zeros(9, bool)),
    ]
    read = read_arrays(fmt, write(fmt, tmp_path / "part", columns))
    assert set(read) == {"a", "b", name}
    for column in columns:
        assert np.array_equal(bits(read[column.name]), bits(column.data))


def test_safetensors_writes_the_bytes_of_its_library(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 2, (10, 3)).astype(dtype)
        for name, dtype in {
            "z": "f4",
            "a": "f8",
            "c": "u1",
            "é": "f2",
            "b": "?",
            "q": "u8",
            "i": "i4",
            "c8": "c8",
        }.items()
    }
    path = write("safetensors", tmp_path / "part", [Column(name, values) for name, values in arrays.items()])
    assert path.read_bytes() == library.save(arrays)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("bfloat16", "BF16"), ("float8_e4m3fn", "F8_E4M3"), ("float8_e5m2", "F8_E5M2"), ("float8_e8m0fnu", "F8_E8M0")],
)
def test_safetensors_keeps_dtypes_that_numpy_lacks(dtype, name, tmp_path):
    stored = np.arange(250, dtype=np.uint16 if dtype == "bfloat16" else np.uint8).reshape(-1, 5)
    path = write("safetensors", tmp_path / "part", [Column("x", stored, dtype)])
    header = json.loads(path.read_bytes()[8:][: int.from_bytes(path.read_bytes()[:8], "little")])
    assert header["x"]["dtype"] == name
    ((_, read),) = pytest.importorskip("safetensors").deserialize(path.read_bytes())
    assert read["shape"] == [*stored.shape]
    assert bytes(read["data"]) == stored.tobytes()


def test_ml_dtypes_arrays_need_no_declared_dtype(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array([1.5, np.nan, -0.0], ml_dtypes.bfloat16)
    path = write("safetensors", tmp_path / "part", [Column("x", values)])
    assert b'"dtype":"BF16"' in path.read_bytes()
    assert path.read_bytes().endswith(values.tobytes())


def test_npy_writes_the_bytes_of_numpy(tmp_path):
    values = np.arange(24, dtype=">i4").reshape(6, 2, 2)
    buffer = io.BytesIO()
    np.save(buffer, values)
    assert write("npy", tmp_path / "part", [Column(None, values)]).read_bytes() == buffer.getvalue()


@pytest.mark.parametrize("fmt", ARRAYS)
def test_nulls_in_an_array_format_are_refused(fmt, tmp_path):
    with pytest.raises(OutputError, match="'x' is double with 1 nulls"):
        write(fmt, tmp_path / "part", [Column("x", pa.array([1.0, None]))])
    assert list(tmp_path.iterdir()) == []


def test_arrow_tensors_become_arrays(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    read = read_arrays("npy", write("npy", tmp_path / "part", [Column("x", tensor)], size=3))["array"]
    assert np.array_equal(read, values)


def test_arrow_fixed_size_lists_become_arrays(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 3)
    read = read_arrays("npz", write("npz", tmp_path / "part", [Column("x", lists.slice(1))], size=2))["x"]
    assert np.array_equal(read, values[1:])


@pytest.mark.parametrize("fmt", ARRAYS)
def test_the_bytes_do_not_depend_on_batch_sizes(fmt, tmp_path):
    column = Column("x", np.resize(special("float32"), (20, 3)))
    digests = {
        hashlib.sha256(write(fmt, tmp_path / f"{size}", [column], size=size).read_bytes()).hexdigest()
        for size in (1, 7, 20)
    }
    assert len(digests) == 1


def test_hdf5_holds_compounds_of_what_it_has_types_for(tmp_path):
    pytest.importorskip("h5py")
    inner = np.dtype([("x", "<u2"), ("s", "S5")])
    rows = np.zeros(4, [("a", "<i4"), ("b", "<f8"), ("v", "<f4", (3,)), ("n", inner)])
    rows["b"], rows["v"], rows["n"]["s"] = [0, np.nan, -np.inf, 1], 1.5, b"ab"
    read = read_arrays("hdf5", write("hdf5", tmp_path / "part", [Column("r", rows)]))
    assert read["r"].dtype == rows.dtype
    assert read["r"].tobytes() == rows.tobytes()
    times = np.zeros(2, [("at", "<M8[s]")])
    with pytest.raises(OutputError, match=r"hdf5 cannot hold 't', which is .*; drop it, or write npz"):
        write("hdf5", tmp_path / "other", [Column("t", times)])
