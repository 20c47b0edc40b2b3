"""Concatenating the parts of an array format into one file, byte for byte what a single writer would have written.

Values are copied in bounded memory. Parts of table formats stay separate: readers of Parquet, Arrow and CSV accept a
folder of them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from datacheck.errors import OutputError
from datacheck.formats import get_format, load
from datacheck.leaves import FLOAT_FORMATS
from datacheck.sinks.arrays import SAFETENSORS_DTYPES, Segment, StoredArray, write_npy, write_npz, write_safetensors
from datacheck.sinks.writer import write_file
from datacheck.storage import storage_of
from datacheck.storage.os_errors import output_errors
from datacheck.text import join_limited, plain

#: The size of a zip's local file header without its name and extra field, whose lengths are its last two numbers.
_LOCAL_HEADER_SIZE = 30


@dataclass(frozen=True, slots=True)
class Concatenator:
    """How one format's parts become one file: ``read`` locates the arrays of an open part, ``write`` writes arrays."""

    read: Callable[[str, BinaryIO], list[StoredArray]]
    write: Callable[[BinaryIO, list[StoredArray]], None]


def supports_concatenation(format: str) -> bool:  # noqa: A002 - the word of pipeline files
    """Whether parts of a format can be concatenated into one file: npy, npz and safetensors."""
    return bool(get_format(format).concatenator)


def concatenate(format: str, parts: Sequence[str], target: str) -> int:  # noqa: A002
    """Concatenate parts that datacheck wrote into ``target``, atomically; returns its size in bytes.

    Raises ``OutputError`` if the format's parts stay separate, if there are none, and if the parts' arrays differ in
    name, dtype or row shape.
    """
    if not supports_concatenation(format):
        raise OutputError(f"parts of {format} are not concatenated: readers accept a folder of parts as one table")
    if not parts:
        raise OutputError(f"{plain(target)}: no parts to concatenate")
    concatenator: Concatenator = load(get_format(format).concatenator)
    whole: list[StoredArray] | None = None
    segments: list[list[Segment]] = []
    for part in parts:
        with output_errors(part):
            arrays = _read_part(concatenator, part)
        if whole is None:
            whole, segments = arrays, [list(array.segments) for array in arrays]
            continue
        _check_same(part, arrays, parts[0], whole)
        for index, array in enumerate(arrays):
            segments[index].extend(array.segments)
            whole[index] = replace(whole[index], num_rows=whole[index].num_rows + array.num_rows)
    arrays = [replace(array, segments=tuple(pieces)) for array, pieces in zip(whole or [], segments, strict=True)]
    return write_file(target, lambda file: concatenator.write(file, arrays))


def _read_part(concatenator: Concatenator, part: str) -> list[StoredArray]:
    try:
        with storage_of(part).open(part) as file:
            arrays = concatenator.read(part, file)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise OutputError(
            f"{plain(part)}: not a part that can be concatenated: {plain(str(error))}; run again"
        ) from error
    for array in arrays:
        if array.num_bytes != sum(segment.size for segment in array.segments):
            raise OutputError(f"{plain(part)}: length differs from its header; remove it and run again")
    return arrays


def _check_same(part: str, arrays: list[StoredArray], first_part: str, first: list[StoredArray]) -> None:
    here, there = plain(part), plain(first_part)
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


def _read_npy(part: str, file: BinaryIO) -> list[StoredArray]:
    end = file.seek(0, 2)
    file.seek(0)
    return [_npy_array("array", part, file, end)]


def _npy_array(name: str, part: str, file: BinaryIO, end: int) -> StoredArray:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"npy version {version}")
    shape, fortran_order, dtype = read(file)
    if fortran_order or not shape or dtype.hasobject:
        raise ValueError("not an array of rows in C order")
    start = file.tell()
    return StoredArray(name, dtype, tuple(shape[1:]), shape[0], (Segment(part, start, end - start),))


def _read_npz(part: str, file: BinaryIO) -> list[StoredArray]:
    with zipfile.ZipFile(file) as archive:
        return [_npz_member(part, file, member) for member in archive.infolist()]


def _npz_member(part: str, file: BinaryIO, member: zipfile.ZipInfo) -> StoredArray:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"member {member.filename} is compressed")
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER_SIZE)
    name_size, extra_size = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    start = member.header_offset + _LOCAL_HEADER_SIZE + name_size + extra_size
    file.seek(start)
    return _npy_array(member.filename.removesuffix(".npy"), part, file, start + member.file_size)


def _read_safetensors(part: str, file: BinaryIO) -> list[StoredArray]:
    end = file.seek(0, 2)
    file.seek(0)
    size = int.from_bytes(file.read(8), "little")
    if size > end - 8:
        raise ValueError("header longer than the file")
    header = json.loads(file.read(size))
    arrays = [_safetensors_array(name, record, part, 8 + size) for name, record in header.items()]
    if 8 + size + sum(array.num_bytes for array in arrays) != end:
        raise ValueError("length differs from its header")
    return arrays


def _safetensors_array(name: str, record: dict[str, Any], part: str, start: int) -> StoredArray:
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
