"""``.npy``: every dtype, order and byte order that NumPy writes; nothing copied where it need not be."""

from __future__ import annotations

import mmap
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import inspect, join, read_batches, read_table, shrink_units

from datacheck.errors import SourceError
from datacheck.sources import source_for

Array = np.ndarray[Any, Any]

RANDOM = np.random.default_rng(0)
ARRAYS: dict[str, Array] = {
    "float32": RANDOM.standard_normal((100, 3)).astype(np.float32),
    "big-endian": RANDOM.standard_normal((100, 3)).astype(">f8"),
    "float16": RANDOM.standard_normal(1000).astype(np.float16),
    "complex": (RANDOM.standard_normal((50, 2)) + 1j).astype(np.complex64),
    "longdouble": RANDOM.standard_normal(50).astype(np.longdouble),
    "fortran": np.asfortranarray(RANDOM.standard_normal((100, 4, 5))),
    "fortran-big-endian": np.asfortranarray(RANDOM.integers(0, 9, (70, 30)).astype(">i4")),
    "fortran-vector": np.asfortranarray(np.arange(10.0)),
    "structured": np.array([(1.5, 2, [3, 4])] * 40, dtype=[("a", "<f4"), ("b", "<i8"), ("c", "<f8", (2,))]),
    "bool": RANDOM.integers(0, 2, 77).astype(bool),
    "text": np.array(["a", "bcd", ""] * 9),
    "bytes": np.array([b"a", b"bcd"] * 9),
    "time": np.array(["2020-01-01", "NaT"] * 9, "M8[D]"),
    "scalar": np.array(3.5),
    "one": np.ones((1, 1, 1)),
    "no rows": np.ones((0, 4), np.float32),
    "no columns": np.ones((5, 0), np.float32),
    "no columns in Fortran order": np.asfortranarray(np.ones((5, 0, 2), np.float32)),
    "no text": np.array([""] * 5).astype("U0") if np.dtype("U0").itemsize == 0 else np.array([""] * 5),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_any_array_is_read_as_it_was_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = ARRAYS[name]
    path = tmp_path / "x.npy"
    np.save(path, array)
    for unit_bytes in (1 << 20, 300, 1):
        shrink_units(monkeypatch, unit_bytes, max(1, unit_bytes // 3))
        batches = read_batches(inspect(path))
        assert {batch.columns[0].data.dtype for batch in batches} == {array.dtype}
        np.testing.assert_array_equal(join(batches)[None], array)


def test_headers_of_every_version_are_read(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    for version in ((1, 0), (2, 0), (3, 0)):
        with (tmp_path / "x.npy").open("wb") as file:
            np.lib.format.write_array(file, array, version)
        np.testing.assert_array_equal(read_table(tmp_path / "x.npy")[None], array)


def test_a_header_of_python_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3.0))
    path.write_bytes(path.read_bytes().replace(b"(3,), ", b"(3L,),"))
    np.testing.assert_array_equal(read_table(path)[None], np.arange(3.0))


def test_a_unit_in_c_order_is_one_batch_over_the_pages_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones((300, 1000), np.float32))
    (batch,) = read_batches(inspect(path))
    owner: Any = batch.columns[0].data
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, mmap.mmap)


@pytest.mark.parametrize("shape", [(1 << 22, 64), (1, 1 << 28)])
def test_a_large_array_is_split_and_never_read_as_a_whole(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 4 * shape[0] * shape[1])
    info = inspect(path)
    assert len(info.units) == (16 if shape[0] > 1 else 1)
    tracemalloc.start()
    for batch in source_for(str(path)).read(info.units[-1]):
        last_row = batch.row_start + batch.num_rows
    assert last_row == shape[0]
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_an_array_in_fortran_order_is_gathered_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    array = np.asfortranarray(np.arange(3_000_000, dtype=np.float64).reshape(3000, 1000))
    np.save(path, array)
    tracemalloc.start()
    row = 0
    for batch in source_for(str(path)).read(inspect(path).units[0]):
        values = batch.columns[0].data
        assert values[0, 0] == row * 1000
        assert values[-1, -1] == (row + batch.num_rows) * 1000 - 1
        row += batch.num_rows
        del values, batch
    assert row == 3000
    assert tracemalloc.get_traced_memory()[1] < 48 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"descr": "<f8", "fortran_order": False, "shape": (10**15,)}, "claims 8,000,000,000,000,000 bytes"),
        ({"descr": "<f8", "fortran_order": False, "shape": (4,)}, "claims 32 bytes"),
        ({"descr": "<f8", "fortran_order": False, "shape": (2,)}, "8 bytes follow the array"),
        (
            {"descr": "<f8", "fortran_order": False, "shape": (10**15, 0)},
            "claims 1,000,000,000,000,000 rows but holds 0",
        ),
        ({"descr": "<U0", "fortran_order": False, "shape": (1, 10**15)}, "rows but holds 0 bytes"),
        ({"descr": "<f8", "fortran_order": False, "shape": (-3,)}, "invalid shape"),
        ({"descr": "<f8", "fortran_order": False, "shape": (True,)}, "invalid shape"),
        ({"descr": "<f8", "fortran_order": False, "shape": 3}, "invalid shape"),
        ({"descr": "<f8", "fortran_order": 0, "shape": (3,)}, "invalid shape"),
        ({"descr": "nonsense", "fortran_order": False, "shape": (3,)}, "cannot be parsed"),
        ({"descr": [("a", "<f4"), ("a", "<f4")], "fortran_order": False, "shape": (3,)}, "cannot be parsed"),
        ({"descr": "<f8", "shape": (3,)}, "cannot be parsed"),
        ({"descr": "<f8", "fortran_order": False, "shape": (1,) * 65}, "invalid shape"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.npy"
    text = repr(header).encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(24))
    with pytest.raises(SourceError, match=message) as caught:
        read_table(path)
    assert caught.value.code in ("DC901", "DC904")


@pytest.mark.parametrize(
    "start",
    [
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUMPY\x09\x00\x10\x00",
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x93NUMPY\x03\x00\x04\x00\x00\x00\xff\xff\xff\xff",
        b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 64,
        b"\x93NUMPY\x01\x00\x10\x00__import__('os')",
    ],
)
def test_a_header_that_cannot_be_one_is_refused(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(start)
    with pytest.raises(SourceError) as caught:
        read_table(path)
    assert caught.value.code == "DC901"


def test_a_second_array_in_the_file_is_not_passed_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
        np.save(file, np.array([np.nan]))
    with pytest.raises(SourceError, match="several arrays"):
        read_table(path)


def test_bfloat16_of_ml_dtypes_is_reported_as_unchecked(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    np.save(tmp_path / "x.npy", np.ones(4, ml_dtypes.bfloat16))
    (batch,) = read_batches(inspect(tmp_path / "x.npy"))
    (leaf,) = batch.columns[0].leaves()
    assert leaf.values is None
    assert "unknown dtype" in leaf.problem


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "25s"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_missing_time_of_any_unit_is_a_null(tmp_path: Path, unit: str, order: str) -> None:
    np.save(tmp_path / "x.npy", np.array([0, "NaT", 1], f"M8[{unit}]").astype(f"{order}M8[{unit}]"))
    (batch,) = read_batches(inspect(tmp_path / "x.npy"))
    (leaf,) = batch.columns[0].leaves()
    assert leaf.validity is not None
    assert leaf.validity.tolist() == [True, False, True]


def test_text_that_is_not_unicode_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array(["a\ud800"]))
    (batch,) = read_batches(inspect(path))
    (leaf,) = batch.columns[0].leaves()
    assert "not valid Unicode" in leaf.problem


def test_rows_are_joined_as_they_were(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(join(read_batches(inspect(tmp_path / "x.npy")))[None][2], [6, 7, 8])


def test_few_bytes_are_copied_so_that_many_arrays_need_no_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", **{f"a{index}": np.full(5, index) for index in range(300)})  # type: ignore[arg-type]
    monkeypatch.setattr(mmap, "mmap", None)
    read = read_table(tmp_path / "x.npz")
    assert all(read[f"a{index}"].tolist() == [index] * 5 for index in range(300))
