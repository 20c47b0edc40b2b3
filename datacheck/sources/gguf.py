"""GGUF: the tensors of a quantised model. Of quantised blocks the scales are checked: only they can be NaN.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: a header, metadata, the description of each
tensor, and the tensors, aligned. Metadata are skipped, not kept.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.arrays import ArrayLayout, rows_of
from datacheck.sources.base import REWRITE_FILE, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import check_members, translate_inspect_errors, translate_read_errors
from datacheck.sources.named_arrays import NamedArray, plan_arrays, read_arrays
from datacheck.storage.base import DataFile
from datacheck.storage.registry import open_file
from datacheck.text import plain

Array = np.ndarray[Any, Any]

_MAX_DIMENSIONS = 4
_MAX_NAME = 1 << 10
#: Bytes of each type of metadata value; text and arrays have lengths of their own.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _ARRAY = 8, 9

#: Types of plain numbers: name, how NumPy stores them, logical dtype.
_PLAIN: dict[int, tuple[str, str, str | None]] = {
    0: ("F32", "<f4", None), 1: ("F16", "<f2", None), 24: ("I8", "i1", None), 25: ("I16", "<i2", None),
    26: ("I32", "<i4", None), 27: ("I64", "<i8", None), 28: ("F64", "<f8", None), 30: ("BF16", "<u2", "bfloat16"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A quantised type: values and bytes of a block, and where in a block its scales are, by name."""

    name: str
    num_values: int
    num_bytes: int
    scales: tuple[tuple[str, int, str], ...]


def _blocks(name: str, num_values: int, num_bytes: int, *offsets: int, kind: str = "<f2") -> _Blocks:
    return _Blocks(
        name, num_values, num_bytes, tuple(zip(("scale", "min"), offsets, (kind,) * len(offsets), strict=False))
    )


#: Block layouts of ggml's ``ggml-common.h``. IQ1_M spreads its scale over other bits, so none is read there.
_QUANTISED = {
    2: _blocks("Q4_0", 32, 18, 0), 3: _blocks("Q4_1", 32, 20, 0, 2), 6: _blocks("Q5_0", 32, 22, 0),
    7: _blocks("Q5_1", 32, 24, 0, 2), 8: _blocks("Q8_0", 32, 34, 0),
    10: _blocks("Q2_K", 256, 84, 80, 82), 11: _blocks("Q3_K", 256, 110, 108), 12: _blocks("Q4_K", 256, 144, 0, 2),
    13: _blocks("Q5_K", 256, 176, 0, 2), 14: _blocks("Q6_K", 256, 210, 208), 15: _blocks("Q8_K", 256, 292, 0, kind="<f4"),
    16: _blocks("IQ2_XXS", 256, 66, 0), 17: _blocks("IQ2_XS", 256, 74, 0), 18: _blocks("IQ3_XXS", 256, 98, 0),
    19: _blocks("IQ1_S", 256, 50, 0), 20: _blocks("IQ4_NL", 32, 18, 0), 21: _blocks("IQ3_S", 256, 110, 0),
    22: _blocks("IQ2_S", 256, 82, 0), 23: _blocks("IQ4_XS", 256, 136, 0), 29: _blocks("IQ1_M", 256, 56),
    34: _blocks("TQ1_0", 256, 54, 52), 35: _blocks("TQ2_0", 256, 66, 64), 39: _blocks("MXFP4", 32, 17, 0, kind="u1"),
}  # fmt: skip


class GgufSource:
    """Reads ``.gguf`` files: plain tensors, and the scales of quantised ones as ``name.scale`` and ``name.min``."""

    format: ClassVar[str] = "gguf"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        with open_file(uri) as file:
            arrays = _arrays(uri, file, fingerprint.size, options)
        return plan_arrays(uri, self.format, fingerprint, arrays, options, fingerprint.size)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        with open_file(unit.uri) as file:
            yield from read_arrays(unit, _arrays(unit.uri, file, unit.fingerprint.size, unit.options))


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def num_bytes(self) -> int:
        """The bytes of its type; raises ``ValueError`` for an unknown type, or rows that are not whole blocks."""
        if self.kind in _PLAIN:
            return math.prod(self.shape) * np.dtype(_PLAIN[self.kind][1]).itemsize
        blocks = _QUANTISED.get(self.kind)
        if blocks is None:
            raise ValueError(f"it has the unknown type number {self.kind}")
        if self.shape and self.shape[-1] % blocks.num_values:
            raise ValueError(f"its rows of {self.shape[-1]:,} values are not whole {blocks.name} blocks")
        return math.prod(self.shape) // blocks.num_values * blocks.num_bytes


class _Header:
    """Reads the header of a file, in whichever byte order it has."""

    def __init__(self, uri: str, file: DataFile) -> None:
        self._uri, self._file = uri, file
        file.seek(4)
        version = file.read(4)
        self.order: Literal["<", ">"] = "<" if version[:1] != b"\0" else ">"
        self.version = struct.unpack(f"{self.order}I", version)[0]
        if self.version not in (2, 3):
            raise SourceError("DC901", uri, f"version {self.version:,} of GGUF is not known", REWRITE_FILE)

    def number(self, kind: str = "Q") -> int:
        return int(struct.unpack(f"{self.order}{kind}", self._take(struct.calcsize(kind)))[0])

    def text(self) -> str:
        length = self.number()
        if length > _MAX_NAME:
            raise ValueError(f"a name claims {length:,} bytes")
        return self._take(length).decode(errors="replace")

    def skip_value(self, kind: int, size: int) -> int | None:
        """Go past a value of the metadata; returns it if it is a 32-bit integer."""
        if kind == 4:
            return self.number("I")
        if kind == _TEXT:
            self._skip(self.number(), size)
        elif kind == _ARRAY:
            inner, count = self.number("I"), self.number()
            if inner in _SIZES:
                self._skip(count * _SIZES[inner], size)
            elif inner == _TEXT:
                if count > size // 8:
                    raise ValueError(f"an array of {count:,} texts does not fit into the file")
                for _ in range(count):
                    self._skip(self.number(), size)
            else:
                raise ValueError(f"an array has the unknown type {inner}")
        else:
            self._skip(_SIZES[kind], size)
        return None

    def _take(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise EOFError("the file ends inside its header")
        return data

    def _skip(self, length: int, size: int) -> None:
        if self._file.tell() + length > size:
            raise EOFError("the file ends inside its metadata")
        self._file.seek(length, 1)


def _arrays(uri: str, file: DataFile, size: int, options: ReadOptions) -> list[NamedArray]:
    header = _Header(uri, file)
    num_tensors, num_values = header.number(), header.number()
    check_members(uri, max(num_tensors, num_values), options.max_members, "tensors or values")
    alignment = 32
    for _ in range(num_values):
        key = header.text()
        value = header.skip_value(header.number("I"), size)
        alignment = value if key == "general.alignment" and value else alignment
    tensors = [_read_tensor(header) for _ in range(num_tensors)]
    start = -(-file.tell() // alignment) * alignment
    # Each has the bytes up to the next one: several that begin with the same bytes have none, but for the last of them.
    in_order = sorted(range(num_tensors), key=lambda index: (tensors[index].offset, math.prod(tensors[index].shape)))
    ends = [*(tensors[index].offset for index in in_order[1:]), size - start]
    available = dict(zip(in_order, (min(end, size - start) for end in ends), strict=True)) if tensors else {}
    arrays: list[NamedArray] = []
    for index, tensor in enumerate(tensors):
        arrays += _of_tensor(file, tensor, start, available[index] - tensor.offset, header.order)
    return [one.as_sample() for one in arrays] if options.rows == "file" else arrays


def _read_tensor(header: _Header) -> _Tensor:
    name = header.text()
    num_dimensions = header.number("I")
    if num_dimensions > _MAX_DIMENSIONS:
        raise ValueError(f"the tensor {plain(name)!r} claims {num_dimensions:,} dimensions")
    shape = tuple(reversed([header.number() for _ in range(num_dimensions)]))
    return _Tensor(name, shape, header.number("I"), header.number())


def _of_tensor(
    file: DataFile, tensor: _Tensor, start: int, available: int, order: Literal["<", ">"]
) -> Iterator[NamedArray]:
    """The arrays to check of a tensor; ``available`` bytes are there before the next one begins."""
    described = _PLAIN.get(tensor.kind, ("", "u1", None))
    problem, available = "", max(available, 0)
    try:
        if tensor.num_bytes > available:
            problem = (
                f"it claims {tensor.num_bytes:,} bytes, and the next tensor or the end follows after {available:,}"
            )
    except ValueError as error:
        problem = str(error)
    blocks = _QUANTISED.get(tensor.kind)
    if blocks is not None and not blocks.scales:
        problem = problem or f"cannot check {blocks.name} blocks, which have no scale of their own"
    dtype = np.dtype(described[1]).newbyteorder(order)
    if problem or blocks is None:
        layout = ArrayLayout(tensor.name, dtype, tensor.shape, start + tensor.offset, logical=described[2])
        yield NamedArray(
            tensor.name, tensor.shape, dtype, partial(rows_of, file, layout), described[2], problem, is_parameter=True
        )
        return
    per_row = tensor.shape[-1] // blocks.num_values if tensor.shape else 0
    packed = (
        (*tensor.shape[:-1], per_row * blocks.num_bytes) if len(tensor.shape) > 1 else (1, per_row * blocks.num_bytes)
    )
    layout = ArrayLayout(tensor.name, np.dtype("u1"), packed, start + tensor.offset)
    for what, offset, kind in blocks.scales:
        scale = np.dtype(kind).newbyteorder(order)
        yield NamedArray(
            f"{tensor.name}.{what}",
            (*packed[:-1], per_row),
            scale,
            partial(_read_scales, partial(rows_of, file, layout), blocks.num_bytes, offset, scale),
            "float8_e8m0fnu" if kind == "u1" else None,
            is_parameter=True,
        )


def _read_scales(
    read: Callable[[int, int], Array], block_bytes: int, offset: int, dtype: np.dtype[Any], start: int, count: int
) -> Array:
    packed = read(start, count)
    by_block = packed.reshape(*packed.shape[:-1], packed.shape[-1] // block_bytes, block_bytes)
    scales = by_block[..., offset : offset + dtype.itemsize]
    return np.ascontiguousarray(scales).view(dtype)[..., 0]
