"""Whatever the shapes, dtypes and sizes of units: every row once, in order, as NumPy wrote it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import inspect, join, read_batches, shrink_units

from datacheck.sources import base

Array = np.ndarray[Any, Any]

# NumPy warns of field names that only its newer headers can hold: these are read, too.
pytestmark = pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")

#: A fixture that only gives a folder is the same for every example.
some = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

dtypes = st.one_of(
    hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.integer_dtypes(),
    hnp.boolean_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.byte_string_dtypes(max_len=5),
    hnp.array_dtypes(hnp.scalar_dtypes(), max_size=3),
)
sizes = st.tuples(st.integers(1, 400), st.integers(1, 400))


@st.composite
def arrays(draw: st.DrawFn, num_rows: int | None = None) -> Array:
    """An array of any dtype, shape and order; with ``num_rows`` rows where that is said."""
    dtype = draw(dtypes)
    if num_rows is None:
        shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7))
    else:
        shape = (num_rows, *draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)))
    array = np.frombuffer(np.random.default_rng(draw(st.integers(0, 99))).bytes(10_000), np.uint8)
    count = int(np.prod(shape))
    if dtype.itemsize == 0 or count * dtype.itemsize > len(array):
        filled: Array = np.zeros(shape, dtype)
    else:
        filled = np.ndarray(shape, dtype, array.tobytes()).copy()
    return np.asfortranarray(filled) if draw(st.booleans()) else filled


def same(read: Array, written: Array) -> bool:
    """Equal to the bit, so that NaN equals NaN."""
    native = read.astype(written.dtype, copy=False)
    return read.shape == written.shape and native.tobytes() == np.ascontiguousarray(written).tobytes()


@given(array=arrays(), size=sizes)
@some
def test_any_npy_is_read_whole_however_it_is_split(array: Array, size: tuple[int, int], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.MonkeyPatch.context() as patch:
        shrink_units(patch, *size)
        info = inspect(tmp_path / "x.npy")
        batches = read_batches(info)
    assert info.num_rows == (len(array) if array.ndim else 1) == sum(batch.num_rows for batch in batches)
    assert same(join(batches)[None], array)


@given(members=st.lists(arrays(), min_size=1, max_size=4), size=sizes, compressed=st.booleans())
@some
def test_any_npz_is_read_whole_however_it_is_split(
    members: list[Array], size: tuple[int, int], compressed: bool, tmp_path: Path
) -> None:
    table = {f"a{index}": array for index, array in enumerate(members)}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", **table)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        shrink_units(patch, *size)
        info = inspect(tmp_path / "x.npz")
        read = join(read_batches(info))
    rows = {len(array) if array.ndim else None for array in members}
    assert info.aligned == (len(rows) == 1 and None not in rows)
    assert set(read) == set(table)
    assert all(same(read[name], array) for name, array in table.items())


@given(data=st.data(), num_rows=st.integers(0, 40), size=sizes)
@some
def test_rows_of_arrays_of_one_length_stay_together(
    data: st.DataObject, num_rows: int, size: tuple[int, int], tmp_path: Path
) -> None:
    table = {f"a{index}": data.draw(arrays(num_rows)) for index in range(3)}
    np.savez(tmp_path / "x.npz", **table)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        shrink_units(patch, *size)
        info = inspect(tmp_path / "x.npz")
        batches = read_batches(info)
    assert info.aligned
    row = 0
    for batch in batches:
        assert batch.row_start == row
        for column in batch.columns:
            assert same(column.data, table[column.name or ""][row : row + batch.num_rows])
        row += batch.num_rows
    assert row == num_rows


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    size=sizes,
    new=st.sampled_from([ipc.new_file, ipc.new_stream]),
    compression=st.sampled_from([None, "lz4"]),
)
@some
def test_any_record_batches_are_read_whole_however_they_are_split(
    lengths: list[int], size: tuple[int, int], new: Any, compression: str | None, tmp_path: Path
) -> None:
    total = sum(lengths)
    lists = pa.array([[float(row)] * (row % 3) if row % 5 else None for row in range(total)], pa.list_(pa.float32()))
    table = pa.table({"row": pa.array(range(total), pa.int64()), "lists": lists})
    (tmp_path / "x.arrow").unlink(missing_ok=True)
    with new(tmp_path / "x.arrow", table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        for start, length in zip(np.cumsum([0, *lengths]), lengths, strict=False):
            for batch in table.slice(start, length).to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]:
                writer.write_batch(batch)
    with pytest.MonkeyPatch.context() as patch:
        shrink_units(patch, *size)
        batches = read_batches(inspect(tmp_path / "x.arrow"))
    assert [batch.row_start for batch in batches] == np.cumsum([0, *(b.num_rows for b in batches)])[:-1].tolist()
    for index, name in enumerate(table.column_names):
        found = [value for batch in batches for value in batch.columns[index].data.to_pylist()]
        assert found == table.column(name).to_pylist()


cells = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(width=32).map(str),
    st.sampled_from(["", "NA", "true", "2020-01-02", "2020-01-02 10:00:00", " 7 ", "0x1F", '""', "1e999", "-0"]),
    st.text(st.characters(exclude_characters='",\r\n\0', codec="utf-8"), max_size=6),
)


@given(column=st.lists(cells, min_size=1, max_size=30), size=st.integers(64, 400))
@some
def test_a_csv_column_means_the_same_whatever_the_blocks(column: list[str], size: int, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "x,y\n" + "".join(f"{cell},{row}\n" for row, cell in enumerate(column)), encoding="utf-8", newline=""
    )
    whole = join(read_batches(inspect(path)))
    with pytest.MonkeyPatch.context() as patch:
        shrink_units(patch, size, size)
        parts = join(read_batches(inspect(path)))
    for name in ("x", "y"):
        assert parts[name].dtype == whole[name].dtype
        np.testing.assert_array_equal(parts[name], whole[name])
    assert whole["y"].tolist() == list(range(len(column)))


@given(num_rows=st.integers(0, 10**12), row_bytes=st.floats(0, 1e12), target=st.integers(1, 1 << 40))
def test_ranges_of_rows_are_each_row_once(num_rows: int, row_bytes: float, target: int) -> None:
    if num_rows * row_bytes / target > 1e4:
        return
    ranges = base.split_rows(num_rows, row_bytes, target)
    assert ranges[0][0] == 0
    assert all(start + count == following for (start, count), (following, _) in itertools.pairwise(ranges))
    assert sum(ranges[-1]) == num_rows
    assert all(count > 0 for _, count in ranges) or ranges == [(0, 0)]
