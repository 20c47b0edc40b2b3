"""``.npz`` and ``.safetensors``: arrays that are columns of one table, and arrays that are not."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import inspect, join, read_batches, read_table, shrink_units

import datacheck
from datacheck.errors import SourceError
from datacheck.numerics import nan_mask
from datacheck.sources import ReadOptions, get_source

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
UNEQUAL: dict[str, Array] = {
    "long": RANDOM.standard_normal((500, 3)),
    "short": RANDOM.standard_normal((7, 2)).astype(np.float32),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 3), np.float32),
    "fortran": np.asfortranarray(RANDOM.standard_normal((90, 4))),
}


def write_safetensors(path: Path, header: dict[str, Any] | bytes, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("unit_bytes", [1 << 20, 2000])
def test_arrays_of_unequal_length_are_read_each_on_its_own(
    save: Any, unit_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch, unit_bytes, 500)
    path = tmp_path / "x.npz"
    save(path, **UNEQUAL)
    info = inspect(path)
    assert not info.aligned
    assert "500 rows in 'long'" in info.problem
    assert "a scalar in 'scalar'" in info.problem
    batches = read_batches(info)
    assert all(len(batch.columns) == 1 for batch in batches)
    read = join(batches)
    assert set(read) == set(UNEQUAL)
    for name, values in UNEQUAL.items():
        np.testing.assert_array_equal(read[name], values)
        rows = [batch.row_start for batch in batches if batch.names == [name]]
        assert rows[0] == 0
        assert rows == sorted(rows)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_equal_length_are_columns_whatever_their_shapes(save: Any, tmp_path: Path) -> None:
    table = {
        "x": RANDOM.standard_normal((60, 4, 2)),
        "y": np.asfortranarray(RANDOM.standard_normal((60, 3))),
        "z": np.arange(60),
    }
    save(tmp_path / "x.npz", **table)
    info = inspect(tmp_path / "x.npz")
    assert info.aligned
    assert info.num_rows == 60
    (batch,) = read_batches(info)
    assert batch.names == ["x", "y", "z"]
    for column in batch.columns:
        np.testing.assert_array_equal(column.data, table[column.name or ""])


def test_stored_arrays_are_split_and_compressed_ones_are_read_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch)
    table = {"x": RANDOM.standard_normal((1000, 4)), "y": np.arange(1000)}
    np.savez(tmp_path / "stored.npz", **table)
    np.savez_compressed(tmp_path / "compressed.npz", **table)
    assert len(inspect(tmp_path / "stored.npz").units) > 5
    assert len(inspect(tmp_path / "compressed.npz").units) == 1


def test_a_pickled_array_leaves_the_others_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(3.0), evil=np.array([{}], object), b=np.arange(3.0))
    info = inspect(path)
    source = get_source("npz")
    read, codes = [], []
    for unit in info.units:
        try:
            read += [name for batch in source.read(unit) for name in batch.names]
        except SourceError as error:
            codes.append(error.code)
    assert read == ["a", "b"]
    assert codes == ["DC903"]


def test_names_that_lead_out_of_the_archive_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **{"../../outside": np.arange(3.0), "/etc/passwd": np.arange(3.0)})
    before = sorted(tmp_path.parent.iterdir())
    assert set(read_table(path)) == {"../../outside", "/etc/passwd"}
    assert sorted(tmp_path.parent.iterdir()) == before


def test_no_member_stays_open_when_thousands_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacheck.sources.npz.MAX_SIDE_BY_SIDE", 20)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **{f"a{index}": np.full(3, index) for index in range(30)})
    assert len(read_table(path)) == 30
    shrink_units(monkeypatch, 100, 50)
    info = inspect(path)
    assert not info.aligned
    assert "30 compressed arrays are too many" in info.problem
    assert len(join(read_batches(info))) == 30


def test_only_wanted_members_decide_whether_they_are_a_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(3), b=np.arange(3), mean=np.array(0.5))
    assert not inspect(tmp_path / "x.npz").aligned
    assert inspect(tmp_path / "x.npz", ReadOptions(columns=("a", "b"))).aligned


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_found_by_the_checksum(save: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    save(path, a=RANDOM.standard_normal(4000))
    _flip(path, path.stat().st_size // 2)
    with pytest.raises(SourceError) as caught:
        read_table(path)
    assert caught.value.code == "DC901"


def test_an_archive_without_arrays_has_no_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz")
    info = inspect(tmp_path / "x.npz")
    assert info.num_rows == 0
    assert [batch.num_rows for batch in read_batches(info)] == [0]


#: For each float dtype of the format: its logical dtype, and bytes of 1.0 and NaN.
FLOATS = {
    "F64": ("float64", np.array([1, np.nan], "<f8").tobytes()),
    "F32": ("float32", np.array([1, np.nan], "<f4").tobytes()),
    "F16": ("float16", np.array([1, np.nan], "<f2").tobytes()),
    "C64": ("complex64", np.array([1, complex(0, np.nan)], "<c8").tobytes()),
    "BF16": ("bfloat16", b"\x80\x3f\xc0\x7f"),
    "F8_E4M3": ("float8_e4m3fn", b"\x38\x7f"),
    "F8_E5M2": ("float8_e5m2", b"\x3c\x7e"),
    "F8_E8M0": ("float8_e8m0fnu", b"\x7f\xff"),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", b"\x40\x80"),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", b"\x40\x80"),
}


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_nan_of_every_float_of_safetensors_is_seen(dtype: str, tmp_path: Path) -> None:
    logical, data = FLOATS[dtype]
    path = tmp_path / "x.safetensors"
    # An odd byte before it: tensors need not lie at multiples of their size.
    header = {
        "odd": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "x": {"dtype": dtype, "shape": [2], "data_offsets": [1, 1 + len(data)]},
    }
    write_safetensors(path, header, b"\x00" + data)
    (column,) = [column for batch in read_batches(inspect(path)) for column in batch.columns if column.name == "x"]
    (leaf,) = column.leaves()
    assert leaf.dtype == logical
    assert nan_mask(np.ascontiguousarray(leaf.values), leaf.dtype).tolist() == [False, True]


@pytest.mark.parametrize(("dtype", "num_bytes"), [("F4", 2), ("F6_E2M3", 3), ("F6_E3M2", 3)])
def test_values_narrower_than_a_byte_are_said_not_to_be_looked_into(dtype: str, num_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    header = {"x": {"dtype": dtype, "shape": [4], "data_offsets": [0, num_bytes]}}
    write_safetensors(path, header, bytes(num_bytes))
    (batch,) = read_batches(inspect(path))
    (leaf,) = batch.columns[0].leaves()
    assert leaf.values is None
    assert "smaller than a byte" in leaf.problem


def test_what_the_safetensors_package_writes_is_read(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    arrays = {name: np.ascontiguousarray(values) for name, values in UNEQUAL.items()}
    save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "np"})
    read = read_table(tmp_path / "x.safetensors")
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)


def _entry(begin: int = 0, end: int = 8, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [begin, end], **changes}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"x": _entry(0, 16)}, "16 bytes for"),
        ({"x": _entry(shape=[4])}, r"8 bytes for \[4\] of F32"),
        ({"x": _entry(shape=[1 << 62, 4])}, "8 bytes for"),
        ({"x": _entry(0, 8 << 40, shape=[2 << 40])}, "claims bytes up to"),
        ({"x": _entry(), "y": _entry(4, 12)}, "overlaps"),
        ({"x": _entry(4, 12)}, "unused bytes precede it"),
        ({"x": _entry(0, 4, shape=[1])}, "4 unused bytes follow the last tensor"),
        ({"x": _entry(8, 0)}, "ends before it begins"),
        ({"x": _entry(-8, 0)}, "an invalid shape or offsets"),
        ({"x": _entry(shape=[-2])}, "an invalid shape or offsets"),
        ({"x": _entry(shape=[2.0])}, "an invalid shape or offsets"),
        ({"x": _entry(shape=[True, 2])}, "an invalid shape or offsets"),
        ({"x": _entry(shape=[1] * 70 + [2])}, "an invalid shape or offsets"),
        ({"x": _entry(dtype="F33")}, "unknown dtype 'F33'"),
        ({"x": _entry(dtype=7)}, "an invalid dtype"),
        ({"x": _entry(more=1)}, "must have exactly dtype, shape and data_offsets"),
        ({"x": 5}, "must have exactly dtype, shape and data_offsets"),
        ({"x": _entry(), "__metadata__": {"a": 1}}, "metadata"),
        (b'{"x": {}, "x": {}}', "duplicate key"),
        (b"{" + b'"a":{' * 100_000, "not valid JSON"),
        (b"{]", "not valid JSON"),
        (b"{\xff}", "not valid JSON"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(header: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, header, bytes(12 if "overlaps" in message or "precede" in message else 8))
    with pytest.raises(SourceError, match=message) as caught:
        inspect(path)
    assert caught.value.code == "DC901"


@pytest.mark.parametrize("length", [0, 1 << 30, 1 << 63, 9])
def test_a_safetensors_header_is_no_longer_than_its_file(length: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(SourceError) as caught:
        inspect(path)
    assert caught.value.code == "DC901"


def test_a_member_that_is_no_array_is_not_passed_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(3.0))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    info = inspect(path)
    with pytest.raises(SourceError, match=r"'readme.txt' is not an .npy array"):
        read_batches(info)


def test_every_unreadable_member_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, cut in (("good", 0), ("short", 3), ("shorter", 9)):
            stream = io.BytesIO()
            np.save(stream, np.arange(5.0))
            archive.writestr(f"{name}.npy", stream.getvalue()[: len(stream.getvalue()) - cut])
        archive.writestr("note.txt", b"x")
        for number in range(30):
            archive.writestr(f"more{number}.txt", b"x")
    (found,) = datacheck.scan(path).findings
    compared = [one.message for one in datacheck.compare(path, path, drift=False).findings if one.code == "DC901"]
    for text in (found.message, *compared):
        assert all(name in text for name in ("'short'", "'shorter'", "'note.txt'", "'more0.txt'"))
    with pytest.raises(SourceError, match=r"'short'.*'shorter'.*'note.txt'.*'more16.txt'.*and 13 more"):
        datacheck.infer(path)
    assert (found.num_violations, len(compared)) == (33, 2)
