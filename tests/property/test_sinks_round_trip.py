"""Any bits in batches of any size round-trip."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from datacheck.batch import Batch, Column
from datacheck.publishing.output_paths import safe_part_name
from datacheck.sinks import get_sink
from datacheck.sinks.concatenate import concatenate
from datacheck.sinks.quarantine import QuarantineWriter

FLOATS = {"float16": np.uint16, "float32": np.uint32, "float64": np.uint64}


@st.composite
def float_arrays(draw):
    """Arrays ``(rows, ...)`` of any bit patterns, in any byte order and memory order."""
    dtype = draw(st.sampled_from(sorted(FLOATS)))
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    values = draw(npst.arrays(FLOATS[dtype], (draw(st.integers(0, 12)), *shape[1:]))).view(dtype)
    if draw(st.booleans()):
        values = values.byteswap().view(values.dtype.newbyteorder())
    return np.asfortranarray(values) if draw(st.booleans()) else values


cut_lists = st.lists(st.integers(0, 12), max_size=4)


def pieces(values: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(values, sorted(min(cut, len(values)) for cut in cuts))


def write(fmt: str, path: Path, values: np.ndarray, cuts: list[int]) -> Path:
    writer = get_sink(fmt).open(str(path), Batch((Column("x", values[:0]),), 0))
    for piece in pieces(values, cuts):
        writer.write(Batch((Column("x", piece),), len(piece)))
    writer.close()
    return path


def native_bits(values: np.ndarray) -> bytes:
    return values.astype(values.dtype.newbyteorder("=")).tobytes()


def stored_bits(array: pa.ChunkedArray) -> bytes:
    chunks = [getattr(chunk, "storage", chunk) for chunk in array.chunks]
    flat = [chunk.flatten() if pa.types.is_fixed_size_list(chunk.type) else chunk for chunk in chunks]
    return b"".join(chunk.to_numpy().tobytes() for chunk in flat)


@given(float_arrays(), cut_lists)
def test_tables_and_arrays_round_trip_bit_for_bit(values, cuts):
    with tempfile.TemporaryDirectory() as folder:
        table = pq.ParquetFile(write("parquet", Path(folder) / "p", values, cuts)).read()
        assert stored_bits(table.column("x")) == native_bits(values)
        with pa.ipc.open_file(write("arrow", Path(folder) / "a", values, cuts)) as reader:
            assert stored_bits(reader.read_all().column("x")) == native_bits(values)
        array = np.load(write("npy", Path(folder) / "n", values, cuts))
        assert (array.dtype, array.shape, array.tobytes()) == (values.dtype, values.shape, values.tobytes())


@given(float_arrays(), cut_lists, st.sampled_from(["npy", "npz", "safetensors"]))
@settings(max_examples=50)
def test_concatenated_parts_equal_the_file_of_one_writer(values, cuts, fmt):
    with tempfile.TemporaryDirectory() as folder:
        whole = write(fmt, Path(folder) / "whole", values, [])
        parts = [write(fmt, Path(folder) / f"{i}", piece, []) for i, piece in enumerate(pieces(values, cuts))]
        concatenate(fmt, [*map(str, parts)], str(Path(folder) / "joined"))
        assert (Path(folder) / "joined").read_bytes() == whole.read_bytes()


@given(float_arrays(), cut_lists)
@settings(max_examples=50)
def test_a_quarantine_round_trips_bit_for_bit(values, cuts):
    with tempfile.TemporaryDirectory() as folder:
        writer = QuarantineWriter(str(Path(folder) / "q"), Batch((Column("x", values[:0]),), 0), "in.npy")
        start = 0
        for piece in pieces(values, cuts):
            count = len(piece)
            writer.write(Batch((Column("x", piece),), count, start), [("DC101",)] * count, [""] * count)
            start += count
        writer.close()
        if len(values):
            table = pq.read_table(writer.uri)
            assert stored_bits(table.column("x")) == native_bits(values)
            assert table.column("row").to_pylist() == list(range(len(values)))


@given(st.text(), st.integers(0, 10**6))
def test_a_part_name_is_always_a_plain_file_name(uri, unit):
    name = safe_part_name(uri, unit)
    assert Path("folder", name).parent == Path("folder")
    assert name.isascii()
    assert name.isprintable()
    assert name[0] not in ".-"
    assert len(name) < 120
