"""Arrays as HDF5: one contiguous dataset each, under its path, in a new file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from datacheck.batch import Column
from datacheck.errors import OutputError
from datacheck.sinks.arrays import Array, Segment, StoredArray
from datacheck.sinks.buffered_arrays import BufferedArraysWriter
from datacheck.sinks.columns import numpy_array
from datacheck.sinks.concatenate import Concatenator
from datacheck.sinks.writer import WriterSink
from datacheck.text import plain

_CHUNK = 8 << 20
#: Where a file of the version that is written here says how long it is.
_END_OF_FILE = 28


class Hdf5Writer(BufferedArraysWriter):
    """Writes one HDF5 file."""

    format: ClassVar[str] = "hdf5"

    def checked_name(self, column: Column) -> str:
        name = super().checked_name(column)
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise OutputError(f"hdf5 cannot hold an array named '{plain(name)}'; rename it, or write parquet")
        return name

    def checked_array(self, column: Column) -> Array:
        values = numpy_array(column)
        if values.dtype.kind not in "?biufcSmM" and not _is_compound(values.dtype):
            holder = "parquet" if values.dtype.names is None else "npz"
            raise OutputError(
                f"hdf5 cannot hold '{plain(str(column.name))}', which is {values.dtype}; drop it, or write {holder}"
            )
        return values

    def assemble(self, file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
        write_hdf5(file, arrays)


def _is_compound(dtype: np.dtype[Any]) -> bool:
    """Whether it has fields, and HDF5 a type for each of them."""
    inner = [dtype[name].base for name in dtype.names or ()]
    return bool(inner) and all(one.kind in "?biufcS" or _is_compound(one) for one in inner)


class Hdf5Sink(WriterSink):
    """Writes ``.hdf5``. bfloat16 and float8 are stored as unsigned integers, since the format has no dtype for them."""

    format: ClassVar[str] = "hdf5"
    suffix: ClassVar[str] = ".hdf5"
    writer = Hdf5Writer


def write_hdf5(file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
    """Arrays as HDF5. The same arrays always give the same bytes: no times are stored."""
    import h5py

    # The library reads back what it writes, which the stream of a part does not allow.
    # Windows opens no temporary file a second time, so that it is one in a temporary folder.
    with tempfile.TemporaryDirectory(prefix="datacheck-") as folder:
        scratch = Path(folder, "part.h5")
        with h5py.File(scratch, "w", libver=("v108", "v108"), locking=False) as target:
            for array in arrays:
                _write_array(target, array)
        with scratch.open("rb") as written:
            shutil.copyfileobj(written, file, _CHUNK)


def _write_array(target: Any, array: StoredArray) -> None:
    import h5py

    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(array.shape) if array.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    # The format has no dtype for times: they are marked as NumPy's.
    dtype = h5py.opaque_dtype(array.dtype) if array.dtype.kind in "mM" else array.dtype
    kind = h5py.h5t.py_create(dtype, logical=True)
    identifier = h5py.h5d.create(target.id, array.name.encode(), kind, space, properties, links)
    dataset = h5py.Dataset(identifier)
    flat = np.empty(0, array.dtype)
    row = 0
    for block in array.blocks(_CHUNK):
        flat = np.frombuffer(block, array.dtype)
        if not array.shape:
            dataset[()] = flat[0]
            continue
        rows = flat.reshape(-1, *array.shape[1:])
        dataset[row : row + len(rows)] = rows.astype(dtype)
        row += len(rows)


def _read_part(part: str, file: BinaryIO) -> list[StoredArray]:
    import h5py

    arrays: list[StoredArray] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            offset = item.id.get_offset()
            num_rows, *row_shape = item.shape
            num_bytes = item.id.get_storage_size()
            if num_bytes and offset is None:
                raise ValueError(f"{name} is not contiguous")
            segments = (Segment(part, offset, num_bytes),) if num_bytes else ()
            arrays.append(StoredArray(name, np.dtype(item.dtype), tuple(row_shape), num_rows, segments))

    size = file.seek(0, 2)
    file.seek(_END_OF_FILE)
    if int.from_bytes(file.read(8), "little") != size:
        raise ValueError("its length differs from its header")
    with h5py.File(file, "r") as source:
        source.visititems(visit)
    return arrays


HDF5 = Concatenator(_read_part, write_hdf5)
