"""``.safetensors``: tensors memory-mapped by NumPy, after their JSON header has been validated.

The format is that of https://huggingface.co/docs/safetensors: eight bytes with the header's length, the header, and the
tensors one after the other without gaps. Neither torch nor the safetensors package is needed to read it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.errors import SourceError
from datacheck.sources.arrays import ArrayLayout, check_layout, iter_rows
from datacheck.sources.base import REWRITE_FILE, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import check_expansion, translate_inspect_errors, translate_read_errors
from datacheck.sources.members import Member, plan_members
from datacheck.sources.parameters import are_parameters, as_parameters
from datacheck.storage.base import DataFile
from datacheck.storage.registry import open_file
from datacheck.text import plain

#: The longest header that the format allows.
MAX_HEADER_BYTES = 100_000_000
_MAX_DIMENSIONS = 64

#: Dtypes that NumPy has.
_PLAIN = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}  # fmt: skip
#: Floating-point formats stored in unsigned integers.
_STORED_AS = {
    "BF16": ("bfloat16", "<u2"),
    "F8_E4M3": ("float8_e4m3fn", "u1"),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", "u1"),
    "F8_E5M2": ("float8_e5m2", "u1"),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", "u1"),
    "F8_E8M0": ("float8_e8m0fnu", "u1"),
}
#: Formats with values smaller than a byte, and their bits.
_NARROW = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
_NARROW_NAMES = {"F4": "float4_e2m1fn", "F6_E2M3": "float6_e2m3fn", "F6_E3M2": "float6_e3m2fn"}


class SafetensorsSource:
    """Reads ``.safetensors`` files: tensors with equal numbers of rows as columns, others one by one."""

    format: ClassVar[str] = "safetensors"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        with open_file(uri) as file:
            layouts = _read_layouts(uri, file, fingerprint.size, options)
        check_expansion(uri, fingerprint.size, fingerprint.size, len(layouts), options)
        members = [_member(layout) for layout in layouts]
        return plan_members(uri, self.format, fingerprint, members, options)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        with open_file(unit.uri) as file:
            found = _read_layouts(unit.uri, file, unit.fingerprint.size, unit.options)
            batches = self._read(unit, file, found)
            yield from map(as_parameters, batches) if are_parameters(one.name for one in found) else batches

    def _read(self, unit: WorkUnit, file: DataFile, found: list[ArrayLayout]) -> Iterator[Batch]:
        layouts = {layout.name: layout for layout in found}
        for name in unit.members:
            yield from _read_alone(unit, file, layouts[name])
        if not unit.members:
            wanted = unit.options.columns
            chosen = [layout for name, layout in layouts.items() if wanted is None or name in wanted]
            for start, count, columns in iter_rows(file, chosen, unit.row_start, unit.num_rows or 0):
                yield Batch(tuple(columns), count, start)


def _read_alone(unit: WorkUnit, file: DataFile, layout: ArrayLayout) -> Iterator[Batch]:
    if layout.problem:
        yield Batch((Column(layout.name, np.empty(0, np.uint8), layout.logical, layout.problem),), 0)
        return
    start, count = unit.range_of(layout.num_rows)
    for first, number, columns in iter_rows(file, [layout], start, count):
        yield Batch(tuple(columns), number, first)


def _member(layout: ArrayLayout) -> Member:
    num_rows = 0 if layout.problem else layout.num_rows
    return Member(layout.name or "", num_rows, layout.row_bytes, not layout.shape, problem=layout.problem)


def _read_layouts(uri: str, file: DataFile, size: int, options: ReadOptions) -> list[ArrayLayout]:
    """Where the tensors are, in the order of the file; raises ``SourceError`` for an invalid header."""
    header, data_start = _read_header(uri, file, size, options)
    spans: list[tuple[int, int, ArrayLayout]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
                raise _broken(uri, "the metadata in the header is not a mapping of strings")
            continue
        begin, end, layout = _parse_entry(uri, name, entry, data_start)
        if end > size - data_start:
            raise _broken(
                uri, f"the tensor {plain(name)!r} claims bytes up to {end:,}, but the file has {size - data_start:,}"
            )
        spans.append((begin, end, layout))
    spans.sort(key=lambda span: span[:2])
    expected = 0
    for begin, end, layout in spans:
        if begin != expected:
            raise _broken(uri, f"the tensor {plain(layout.name or '')!r} overlaps another, or unused bytes precede it")
        expected = end
    if expected != size - data_start:
        raise _broken(uri, f"{size - data_start - expected:,} unused bytes follow the last tensor")
    return [layout.with_rows(options.rows) for _, _, layout in spans]


def tensor_names(uri: str) -> set[str]:
    """The names of the tensors in a file; raises ``SourceError`` and ``OSError``."""
    with open_file(uri) as file:
        header, _ = _read_header(uri, file, fingerprint_of(uri).size, ReadOptions())
    return header.keys() - {"__metadata__"}


def _read_header(uri: str, file: DataFile, size: int, options: ReadOptions) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise _broken(uri, f"its first bytes claim a header of {length:,} bytes in a file of {size:,}")
    text = file.read(length)
    if len(text) < length:
        raise _broken(uri, "the file ends inside the header")
    # Each tensor is a mapping with two lists. Parsed JSON takes up to 30 times the bytes of its text.
    num_containers = text.count(b"[") + text.count(b"{")
    if num_containers > 4 * options.max_members or text.count(b",") > 32 * options.max_members:
        problem = f"its header has {num_containers:,} brackets, more than {options.max_members:,} tensors need"
        raise SourceError("DC904", uri, problem, "if the file is trusted, raise the limit max_members")
    try:
        header = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _broken(uri, f"the header is not valid JSON ({plain(str(error), 120)})") from None
    if not isinstance(header, dict):
        raise _broken(uri, "the header is not a JSON object")
    return header, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate key")
    return found


def _parse_entry(uri: str, name: str, entry: object, data_start: int) -> tuple[int, int, ArrayLayout]:
    what = f"the header's entry for {plain(name)!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(uri, f"{what} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (_are_lengths(shape) and _are_lengths(offsets) and len(offsets) == 2 and len(shape) <= _MAX_DIMENSIONS):
        raise _broken(uri, f"{what} has an invalid shape or offsets")
    begin, end = offsets
    if end < begin:
        raise _broken(uri, f"{what} ends before it begins")
    layout = _layout(uri, name, dtype, tuple(shape), data_start + begin, end - begin)
    num_bits = math.prod(shape) * _NARROW[dtype] if dtype in _NARROW else 8 * layout.num_bytes
    if num_bits != 8 * (end - begin):
        raise _broken(uri, f"{what} has {end - begin:,} bytes for {shape} of {plain(dtype)}")
    check_layout(uri, layout, end - begin)
    return begin, end, layout


def _layout(uri: str, name: str, dtype: object, shape: tuple[int, ...], offset: int, num_bytes: int) -> ArrayLayout:
    if not isinstance(dtype, str):
        raise _broken(uri, f"the header's entry for {plain(name)!r} has an invalid dtype")
    if dtype in _PLAIN:
        return ArrayLayout(name, np.dtype(_PLAIN[dtype]), shape, offset)
    if dtype in _STORED_AS:
        logical, storage = _STORED_AS[dtype]
        return ArrayLayout(name, np.dtype(storage), shape, offset, logical=logical)
    if dtype in _NARROW:
        problem = f"cannot check {dtype} values, which are smaller than a byte"
        return ArrayLayout(name, np.dtype("u1"), (num_bytes,), offset, logical=_NARROW_NAMES[dtype], problem=problem)
    raise _broken(uri, f"the tensor {plain(name)!r} has the unknown dtype {plain(dtype)!r}")


def _are_lengths(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _broken(uri: str, problem: str) -> SourceError:
    return SourceError("DC901", uri, problem, REWRITE_FILE)
