"""Concatenated parts are byte for byte the file of a single writer."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from sink_files import ARRAYS, bits, read_arrays, special, write

from datacheck.batch import Column
from datacheck.errors import OutputError
from datacheck.sinks.concatenate import concatenate, supports_concatenation


def columns(start, stop):
    values = np.resize(special("float32"), (20, 3))[start:stop]
    return [
        Column("x", values),
        Column("y", np.arange(20, dtype=">i8")[start:stop]),
        Column("é", np.ones(20, bool)[start:stop]),
    ]


def cut(fmt, start, stop):
    return columns(start, stop)[: 1 if fmt == "npy" else 3]


@pytest.mark.parametrize("cuts", [[0, 20], [0, 7, 20], [0, 0, 5, 5, 19, 20, 20]])
@pytest.mark.parametrize("fmt", ARRAYS)
def test_concatenated_parts_equal_the_file_of_one_writer(fmt, cuts, tmp_path):
    parts = [
        write(fmt, tmp_path / f"part{place}", cut(fmt, start, stop))
        for place, (start, stop) in enumerate(itertools.pairwise(cuts))
    ]
    size = concatenate(fmt, [*map(str, parts)], str(tmp_path / "joined"))
    whole = write(fmt, tmp_path / "whole", cut(fmt, 0, 20))
    assert (tmp_path / "joined").read_bytes() == whole.read_bytes()
    assert size == whole.stat().st_size


@pytest.mark.parametrize("fmt", ARRAYS)
def test_parts_are_concatenated_in_any_storage(fmt, tmp_path, memory):
    for name, part in (("a", cut(fmt, 0, 7)), ("b", cut(fmt, 7, 20))):
        memory.files[f"memory://{name}"] = write(fmt, tmp_path / name, part).read_bytes()
    size = concatenate(fmt, ["memory://a", "memory://b"], "memory://whole")
    assert memory.files["memory://whole"] == write(fmt, tmp_path / "whole", cut(fmt, 0, 20)).read_bytes()
    assert size == len(memory.files["memory://whole"])


def test_npy_parts_read_back_in_numpy(tmp_path):
    values = np.resize(special("float64"), (11, 2, 2))
    parts = [write("npy", tmp_path / f"{i}", [Column(None, values[i : i + 4])]) for i in range(0, 11, 4)]
    concatenate("npy", [*map(str, parts)], str(tmp_path / "joined"))
    read = np.load(tmp_path / "joined", mmap_mode="r")
    assert read.shape == values.shape
    assert np.array_equal(bits(read), bits(values))


def test_concatenation_keeps_bfloat16(tmp_path):
    parts = [
        write("safetensors", tmp_path / f"{i}", [Column("x", np.arange(i, dtype=np.uint16), "bfloat16")])
        for i in (2, 3)
    ]
    concatenate("safetensors", [*map(str, parts)], str(tmp_path / "joined"))
    assert b'"dtype":"BF16","shape":[5]' in (tmp_path / "joined").read_bytes()


def test_parts_larger_than_the_copy_buffer_are_concatenated(tmp_path):
    values = np.random.default_rng(0).standard_normal((300_000, 2))
    parts = [
        write("npz", tmp_path / f"{i}", [Column("x", half)], size=10**6) for i, half in enumerate(np.split(values, 2))
    ]
    concatenate("npz", [*map(str, parts)], str(tmp_path / "joined"))
    assert np.array_equal(read_arrays("npz", tmp_path / "joined")["x"], values)


@pytest.mark.parametrize("other", [np.zeros((2, 3), np.float64), np.zeros((2, 4), np.float32), np.zeros((2, 3), ">f4")])
def test_parts_with_different_dtypes_or_shapes_are_refused(other, tmp_path):
    parts = [
        write("npy", tmp_path / "a", [Column(None, np.zeros((2, 3), np.float32))]),
        write("npy", tmp_path / "b", [Column(None, other)]),
    ]
    with pytest.raises(OutputError, match="arrays of one file must agree"):
        concatenate("npy", [*map(str, parts)], str(tmp_path / "joined"))
    assert not (tmp_path / "joined").exists()


def test_parts_with_different_names_are_refused(tmp_path):
    parts = [write("npz", tmp_path / name, [Column(name, np.zeros(2))]) for name in "ab"]
    with pytest.raises(OutputError, match=r"has the arrays 'b', .* has 'a'"):
        concatenate("npz", [*map(str, parts)], str(tmp_path / "joined"))


@pytest.mark.parametrize("damage", ["cut", "longer", "garbage", "empty"])
@pytest.mark.parametrize("fmt", ARRAYS)
def test_a_damaged_part_is_refused_and_leaves_no_file(fmt, damage, tmp_path):
    part = write(fmt, tmp_path / "part", cut(fmt, 0, 20))
    content = part.read_bytes()
    part.write_bytes(
        {"cut": content[:-40], "longer": content[:-1] + b"xx", "garbage": b"\xff" * 99, "empty": b""}[damage]
    )
    if fmt == "npz" and damage == "longer":
        part.write_bytes(content.replace(b"(20, 3)", b"(90, 3)"))
    with pytest.raises(OutputError, match="run again"):
        concatenate(fmt, [str(part)], str(tmp_path / "joined"))
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_a_compressed_npz_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "part.npz", x=np.zeros(100))
    with pytest.raises(OutputError, match=r"member x\.npy is compressed"):
        concatenate("npz", [str(tmp_path / "part.npz")], str(tmp_path / "joined"))


@pytest.mark.parametrize("value", [np.asfortranarray(np.ones((3, 2))), np.array(1.0)])
def test_an_npy_without_rows_in_c_order_is_refused(value, tmp_path):
    np.save(tmp_path / "part.npy", value)
    with pytest.raises(OutputError, match="not an array of rows in C order"):
        concatenate("npy", [str(tmp_path / "part.npy")], str(tmp_path / "joined"))


def test_a_pickled_npy_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    (tmp_path / "part").write_bytes(buffer.getvalue())
    with pytest.raises(OutputError, match="not a part that can be concatenated"):
        concatenate("npy", [str(tmp_path / "part")], str(tmp_path / "joined"))


@pytest.mark.parametrize("fmt", ["arrow", "csv", "parquet"])
def test_parts_of_tables_are_not_concatenated(fmt, tmp_path):
    assert not supports_concatenation(fmt)
    with pytest.raises(OutputError, match=f"parts of {fmt} are not concatenated"):
        concatenate(fmt, [str(tmp_path / "part")], str(tmp_path / "joined"))


@pytest.mark.parametrize("fmt", ARRAYS)
def test_no_parts_are_refused(fmt, tmp_path):
    assert supports_concatenation(fmt)
    with pytest.raises(OutputError, match="no parts to concatenate"):
        concatenate(fmt, [], str(tmp_path / "joined"))
