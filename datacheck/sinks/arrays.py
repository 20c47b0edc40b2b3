"""Arrays stored in byte ranges of files, and the three array formats that are assembled from such ranges.

Writers buffer batches in a file; concatenation locates the values in finished parts. Both then copy byte ranges through
the same functions, so that one writer and concatenated parts give the same bytes.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

import numpy as np

from datacheck.errors import OutputError
from datacheck.storage import storage_of
from datacheck.text import plain

Array = np.ndarray[Any, Any]

_CHUNK = 1 << 20
#: The earliest time of a zip entry, used for every member so that the same arrays give the same bytes.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

#: safetensors' dtype names and their logical dtypes, in reverse of the order in which it lays out tensors.
SAFETENSORS_DTYPES: dict[str, str] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_SAFETENSORS_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
_LAYOUT_ORDER = {name: position for position, name in enumerate(SAFETENSORS_DTYPES)}


@dataclass(frozen=True, slots=True)
class Segment:
    """``size`` bytes at ``offset`` of a file, given by its URI or open."""

    source: str | IO[bytes]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array ``(num_rows, *row_shape)`` in C order whose bytes are the concatenated ``segments``.

    Of a sample, which is one row, only the row's own shape is stored (``is_sample``).
    ``logical`` is ``bfloat16`` or a float8 format if ``dtype`` only stores its bits.
    """

    name: str
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    num_rows: int
    segments: tuple[Segment, ...]
    logical: str | None = None
    is_sample: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.row_shape if self.is_sample else (self.num_rows, *self.row_shape)

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def blocks(self, size: int) -> Iterator[bytes]:
        """The array's bytes in runs of whole rows, each of about ``size`` bytes."""
        row_bytes = self.num_bytes // max(1, self.shape[0]) if self.shape else self.num_bytes
        wanted = max(1, size // max(1, row_bytes)) * row_bytes
        held = bytearray()
        for chunk in _chunks(self.segments):
            held += chunk
            while wanted and len(held) >= wanted:
                yield bytes(held[:wanted])
                del held[:wanted]
        if held:
            yield bytes(held)

    def copy_to(self, file: BinaryIO) -> None:
        """Write the array's bytes, in bounded memory."""
        for chunk in _chunks(self.segments):
            file.write(chunk)


def _chunks(segments: Sequence[Segment]) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_CHUNK))
    for source, ranges in itertools.groupby(segments, key=lambda segment: segment.source):
        with storage_of(source).open(source) if isinstance(source, str) else nullcontext(source) as file:
            for segment in ranges:
                file.seek(segment.offset)
                left = segment.size
                while left:
                    got = file.readinto(buffer[: min(left, _CHUNK)])
                    if not got:
                        raise OutputError(f"{plain(str(source))}: truncated while it was read; run again")
                    left -= got
                    yield buffer[:got]


def raw_bytes(values: Array) -> memoryview:
    """An array's bytes in C order, without a copy if it is contiguous."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data if values.nbytes else memoryview(b"")


def npy_description(dtype: np.dtype[Any]) -> Any:
    """A dtype as the header of an ``.npy`` says it: without metadata, such as the names of an HDF5 enum."""
    return np.lib.format.dtype_to_descr(np.lib.format.drop_metadata(dtype))


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The magic, version and header of an ``.npy``, exactly as NumPy writes them.

    NumPy pads the header for 21 digits of the first axis, so its length does not depend on the number of rows.
    """
    buffer = io.BytesIO()
    header = {"descr": npy_description(dtype), "fortran_order": False, "shape": shape}
    try:
        np.lib.format.write_array_header_1_0(buffer, header)
    except UnicodeEncodeError:
        raise OutputError(
            f"npy cannot hold the dtype {plain(str(dtype))}: rename its fields to Latin letters"
        ) from None
    except ValueError:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_2_0(buffer, header)
    return buffer.getvalue()


def write_npy(file: BinaryIO, array: StoredArray) -> None:
    """One array as ``.npy``."""
    file.write(npy_header(array.dtype, array.shape))
    array.copy_to(file)


def write_npz(file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
    """Arrays as ``.npz``, uncompressed, every member with the same date."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for array in arrays:
            member = zipfile.ZipInfo(f"{array.name}.npy", _ZIP_EPOCH)
            with archive.open(member, "w", force_zip64=True) as target:
                write_npy(target, array)  # type: ignore[arg-type]


def safetensors_dtype(dtype: np.dtype[Any], logical: str | None) -> str | None:
    """Safetensors' name for a dtype; None if it has none."""
    return _SAFETENSORS_NAMES.get(logical or dtype.name)


def write_safetensors(file: BinaryIO, arrays: Sequence[StoredArray]) -> None:
    """Arrays as safetensors, in the library's order: widest dtype first, then by name."""
    kinds = {array.name: _SAFETENSORS_NAMES[array.logical or array.dtype.name] for array in arrays}
    ordered = sorted(arrays, key=lambda array: (-_LAYOUT_ORDER[kinds[array.name]], array.name.encode()))
    header: dict[str, dict[str, object]] = {}
    start = 0
    for array in ordered:
        stop = start + array.num_bytes
        header[array.name] = {"dtype": kinds[array.name], "shape": list(array.shape), "data_offsets": [start, stop]}
        start = stop
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little"))
    file.write(encoded)
    for array in ordered:
        array.copy_to(file)
