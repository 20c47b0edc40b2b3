"""Joining the parts of an array format into one file, byte for byte what one writer would have written.

Values are copied as they lie, in bounded memory. Parts of table formats stay parts: a folder of them is what readers of
Parquet, Arrow and CSV expect.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datacheck.errors import OutputError
from datacheck.formats import get_format, load
from datacheck.leaves import FLOAT_FORMATS
from datacheck.sinks.arrays import SAFETENSORS_DTYPES, Segment, StoredArray, write_npy, write_npz, write_safetensors
from datacheck.storage.atomic import write_file
from datacheck.storage.os_errors import output_errors
from datacheck.text import join_limited, plain

__all__ = ["Concatenator", "concatenate", "concatenate_npy", "supports_concatenation"]

#: A local file header of a zip up to its name and extra field, whose lengths are its last two numbers.
_LOCAL_HEADER_SIZE = 30


@dataclass(frozen=True, slots=True)
class Concatenator:
    """How the parts of one format become one file: ``read`` finds the arrays of a part, ``write`` writes joined ones."""

    read: Callable[[Path], list[StoredArray]]
    write: Callable[[BinaryIO, list[StoredArray]], None]


def supports_concatenation(format: str) -> bool:  # noqa: A002 - the word of pipeline files
    """Whether parts of a format can be joined into one file: npy, npz and safetensors."""
    return bool(get_format(format).concatenator)


def concatenate(format: str, parts: Sequence[Path], target: Path) -> int:  # noqa: A002
    """Join parts that datacheck wrote, in order, into ``target``, atomically; its size in bytes.

    Raises ``OutputError`` where the format keeps its parts, where there is none, and where the arrays of one part
    differ from another's in name, dtype or row shape.
    """
    if not supports_concatenation(format):
        raise OutputError(f"parts of {format} are not joined: readers take the folder of parts as one table")
    if not parts:
        raise OutputError(f"{plain(str(target))}: there are no parts to join")
    concatenator: Concatenator = load(get_format(format).concatenator)
    joined: list[StoredArray] | None = None
    segments: list[list[Segment]] = []
    for part in parts:
        with output_errors(part):
            arrays = _read_part(concatenator.read, part)
        if joined is None:
            joined, segments = arrays, [list(array.segments) for array in arrays]
            continue
        _check_same(part, arrays, parts[0], joined)
        for place, array in enumerate(arrays):
            segments[place].extend(array.segments)
            joined[place] = replace(joined[place], num_rows=joined[place].num_rows + array.num_rows)
    whole = [replace(array, segments=tuple(pieces)) for array, pieces in zip(joined or [], segments, strict=True)]
    return write_file(target, lambda file: concatenator.write(file, whole))


def concatenate_npy(parts: Sequence[Path], target: Path) -> int:
    """Join ``.npy`` parts; see ``concatenate``."""
    return concatenate("npy", parts, target)


def _read_part(read: Callable[[Path], list[StoredArray]], part: Path) -> list[StoredArray]:
    try:
        arrays = read(part)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise OutputError(
            f"{plain(str(part))}: is no part that can be joined: {plain(str(error))}; run again"
        ) from error
    for array in arrays:
        if array.num_bytes != sum(segment.size for segment in array.segments):
            raise OutputError(f"{plain(str(part))}: is not as long as its header says; remove it and run again")
    return arrays


def _check_same(part: Path, arrays: list[StoredArray], first_part: Path, first: list[StoredArray]) -> None:
    here, there = plain(str(part)), plain(str(first_part))
    names, wanted_names = ([array.name for array in group] for group in (arrays, first))
    if names != wanted_names:
        raise OutputError(f"{here}: has the arrays {join_limited(names)}, {there} has {join_limited(wanted_names)}")
    for array, wanted in zip(arrays, first, strict=True):
        kind, wanted_kind = ((a.logical or a.dtype.str, a.row_shape) for a in (array, wanted))
        if kind != wanted_kind or array.dtype != wanted.dtype:
            raise OutputError(
                f"{here}: array '{plain(array.name)}' is {kind[0]} with rows of shape {kind[1]}, and"
                f" {wanted_kind[0]} with rows of shape {wanted_kind[1]} in {there}; arrays of one file must agree"
            )


def _read_npy(part: Path) -> list[StoredArray]:
    with part.open("rb") as file:
        file.seek(0, 2)
        end = file.tell()
        file.seek(0)
        return [_npy_array("array", part, file, end)]


def _npy_array(name: str, part: Path, file: BinaryIO, end: int) -> StoredArray:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"npy version {version}")
    shape, fortran_order, dtype = read(file)
    if fortran_order or not shape or dtype.hasobject:
        raise ValueError("not an array of rows in C order")
    start = file.tell()
    return StoredArray(name, dtype, tuple(shape[1:]), shape[0], (Segment(part, start, end - start),))


def _read_npz(part: Path) -> list[StoredArray]:
    with zipfile.ZipFile(part) as archive, part.open("rb") as file:
        return [_npz_member(part, file, member) for member in archive.infolist()]


def _npz_member(part: Path, file: BinaryIO, member: zipfile.ZipInfo) -> StoredArray:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"member {member.filename} is compressed")
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER_SIZE)
    name_size, extra_size = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    start = member.header_offset + _LOCAL_HEADER_SIZE + name_size + extra_size
    file.seek(start)
    return _npy_array(member.filename.removesuffix(".npy"), part, file, start + member.file_size)


def _read_safetensors(part: Path) -> list[StoredArray]:
    with part.open("rb") as file:
        file.seek(0, 2)
        end = file.tell()
        file.seek(0)
        size = int.from_bytes(file.read(8), "little")
        if size > end - 8:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(size))
    arrays = [_safetensors_array(name, record, part, 8 + size) for name, record in header.items()]
    if 8 + size + sum(array.num_bytes for array in arrays) != end:
        raise ValueError("it is not as long as its header says")
    return arrays


def _safetensors_array(name: str, record: dict[str, Any], part: Path, start: int) -> StoredArray:
    kind = SAFETENSORS_DTYPES[record["dtype"]]
    logical = kind if kind in FLOAT_FORMATS else None
    dtype = FLOAT_FORMATS.get(kind) or np.dtype(kind)
    num_rows, *row_shape = record["shape"]
    begin, stop = record["data_offsets"]
    segment = Segment(part, start + begin, stop - begin)
    return StoredArray(name, dtype, tuple(row_shape), num_rows, (segment,), logical)


NPY = Concatenator(_read_npy, lambda file, arrays: write_npy(file, arrays[0]))
NPZ = Concatenator(_read_npz, write_npz)
SAFETENSORS = Concatenator(_read_safetensors, write_safetensors)
