"""How MDS and LitData encode the fields of a sample, and the columns that such fields make."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Column, Fault
from datacheck.sources.json_columns import JsonColumns
from datacheck.sources.json_values import load_sample
from datacheck.text import plain

Array = np.ndarray[Any, Any]

_SHAPE_DTYPES = ("<u1", "<u2", "<u4", "<u8")
#: The numbers of dtypes in MDS, in LitData's tensors and in its NumPy arrays.
_MDS_DTYPES = {
    8: "u1",
    9: "i1",
    16: "<u2",
    17: "<i2",
    18: "<f2",
    32: "<u4",
    33: "<i4",
    34: "<f4",
    64: "<u8",
    65: "<i8",
    66: "<f8",
}
#: The dtypes of MDS, by its names for numbers.
MDS_DTYPES = {"int": "<i8", **{np.dtype(kind).name: kind for kind in _MDS_DTYPES.values()}}
_TORCH_DTYPES = [
    "<f4", "<f4", "<f8", "<f8", "<c8", "<c8", "<c16", "<c16", "<f2", "<f2", "bfloat16", "u1", "i1", "<i2", "<i2", "<i4", "<i4",
    "<i8", "<i8", "?",
]  # fmt: skip
_NUMPY_DTYPES = ["i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16", "?"]


class Encoding:
    """Bytes of any kind. ``check`` raises ``ValueError`` for a value that cannot be decoded.

    Attributes:
        faults: what is wrong with the values of the column that was made last.
    """

    faults: Sequence[Fault] = ()

    def check(self, data: memoryview) -> None:
        """Nothing can be wrong with bytes."""

    def column(self, name: str, values: Sequence[memoryview]) -> Column:
        return Column(name, pa.array([bytes(one) for one in values], pa.large_binary()))


class _Text(Encoding):
    def column(self, name: str, values: Sequence[memoryview]) -> Column:
        return Column(name, pa.array([bytes(one) for one in values], pa.large_binary()).view(pa.large_string()))


class _Unseen(Encoding):
    """Values that are not decoded."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def column(self, name: str, values: Sequence[memoryview]) -> Column:
        return Column(name, np.empty(len(values), np.uint8), problem=self._problem)


class _Scalar(Encoding):
    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)

    def check(self, data: memoryview) -> None:
        if len(data) != self._dtype.itemsize:
            raise ValueError(f"a value has {len(data):,} bytes, {self._dtype.name} has {self._dtype.itemsize}")

    def column(self, name: str, values: Sequence[memoryview]) -> Column:
        return Column(name, np.frombuffer(b"".join(values), self._dtype))


class _Number(Encoding):
    """A number as text."""

    def __init__(self, parse: Callable[[str], Any], kind: pa.DataType) -> None:
        self._parse, self._kind = parse, kind

    def check(self, data: memoryview) -> None:
        self._parse(bytes(data).decode())

    def column(self, name: str, values: Sequence[memoryview]) -> Column:
        return Column(name, pa.array([self._parse(bytes(one).decode()) for one in values], self._kind))


class _Json(Encoding):
    def __init__(self) -> None:
        #: The types of the values so far.
        self._types: dict[str, str] = {}

    def check(self, data: memoryview) -> None:
        try:
            load_sample(bytes(data))
        except RecursionError:
            raise ValueError("its JSON is nested too deeply") from None

    def column(self, name: str, values: Sequence[memoryview]) -> Column:
        records = [{name: load_sample(bytes(one))} for one in values]
        builder = JsonColumns({}, self._types)
        columns = builder.of(records) if records else []
        self.faults = builder.faults
        return columns[0] if columns else Column(name, pa.nulls(len(values)))


class _Array(Encoding):
    """An array: ``parse`` gives its dtype, shape and where its values begin. ``shape`` is None if samples may differ."""

    def __init__(
        self, parse: Callable[[memoryview], tuple[str, tuple[int, ...], int]], shape: tuple[int, ...] | None = None
    ) -> None:
        self._parse, self._shape = parse, shape

    def check(self, data: memoryview) -> None:
        dtype, shape, start = self._parse(data)
        num_bytes = math.prod(shape) * _storage(dtype).itemsize
        if start + num_bytes != len(data):
            raise ValueError(
                f"an array of shape {shape} takes {num_bytes:,} bytes, but there are {len(data) - start:,}"
            )

    def column(self, name: str, values: Sequence[memoryview]) -> Column:
        parsed = [self._parse(one) for one in values]
        logical = "bfloat16" if parsed and all(dtype == "bfloat16" for dtype, _, _ in parsed) else None
        arrays = [
            np.frombuffer(one[start:], _storage(dtype)) for one, (dtype, _, start) in zip(values, parsed, strict=True)
        ]
        if self._shape is not None and arrays:
            return Column(name, np.concatenate(arrays).reshape(len(arrays), *self._shape), logical)
        if logical is not None or len({one.dtype for one in arrays}) > 1:
            arrays = [_widened(one, dtype) for one, (dtype, _, _) in zip(arrays, parsed, strict=True)]
        offsets = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(one) for one in arrays], out=offsets[1:])
        flat = np.concatenate(arrays) if arrays else np.empty(0, np.float32)
        if flat.dtype.kind == "c":
            return Column(
                name, np.empty(len(values), np.uint8), problem="cannot check complex arrays of several shapes"
            )
        return Column(name, pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)))


def _storage(dtype: str) -> np.dtype[Any]:
    return np.dtype("<u2" if dtype == "bfloat16" else dtype)


def _widened(values: Array, dtype: str) -> Array:
    """Values in a dtype that can hold the values of other arrays: float32 for bfloat16, else float64."""
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float64)


# MDS


def mds_encoding(kind: str) -> Encoding:
    """The encoding that the index of an MDS dataset names."""
    name, _, arguments = kind.partition(":")
    if name in ("bytes", "jpeg", "png"):
        return Encoding()
    if name in MDS_DTYPES:
        return _Scalar(MDS_DTYPES[name])
    if name == "ndarray":
        return _mds_array(arguments)
    simple: dict[str, Encoding] = {
        "str": _Text(),
        "json": _Json(),
        "str_int": _Number(int, pa.int64()),
        "str_float": _Number(float, pa.float64()),
        "str_decimal": _Number(float, pa.float64()),
        "pkl": _Unseen("its values are pickles, which can run code and are never loaded"),
    }
    return simple.get(name) or _Unseen(f"the encoding {plain(name, 40)} is not decoded")


def _mds_array(arguments: str) -> Encoding:
    dtype_name, _, shape = arguments.partition(":")
    if dtype_name and dtype_name not in MDS_DTYPES:
        return _Unseen(f"arrays of {plain(dtype_name, 40)} are not decoded")
    is_fixed = bool(dtype_name and shape)
    return _Array(
        lambda data: mds_array_header(arguments, data), tuple(map(int, shape.split(","))) if is_fixed else None
    )


def mds_array_header(arguments: str, data: memoryview) -> tuple[str, tuple[int, ...], int]:
    """The dtype and the shape of an array, and where its values begin; ``arguments`` are those of ``ndarray``."""
    dtype_name, _, shape = arguments.partition(":")
    at = 0 if dtype_name else 1
    dtype = MDS_DTYPES[dtype_name] if dtype_name else _MDS_DTYPES[data[0]]
    if shape:
        return dtype, tuple(map(int, shape.split(","))), at
    width = np.dtype(_SHAPE_DTYPES[data[at] & 3])
    num_axes = data[at] >> 2
    found = np.frombuffer(data, width, num_axes, at + 1)
    return dtype, tuple(map(int, found)), at + 1 + num_axes * width.itemsize


# LitData


def litdata_encoding(kind: str) -> Encoding:
    """The encoding of a leaf that the index of a LitData dataset names."""
    name, _, argument = kind.partition(":")
    if name in ("bytes", "jpeg", "file"):
        return Encoding()
    if name in ("no_header_tensor", "no_header_numpy"):
        dtypes = _TORCH_DTYPES if name == "no_header_tensor" else _NUMPY_DTYPES
        dtype = dtypes[int(argument)]
        return _Array(lambda data: (dtype, (len(data) // _storage(dtype).itemsize,), 0))
    if name in ("tensor", "numpy"):
        return _Array(_with_header(_TORCH_DTYPES if name == "tensor" else _NUMPY_DTYPES))
    simple: dict[str, Encoding] = {
        "str": _Text(),
        "string": _Text(),
        "int": _Scalar("<i8"),
        "float": _Scalar("<f8"),
        "bool": _Scalar("?"),
        "json": _Json(),
        "pickle": _Unseen("its values are pickles, which can run code and are never loaded"),
    }
    return simple.get(name) or _Unseen(f"the serializer {plain(kind, 40)} is not decoded")


def _with_header(dtypes: Sequence[str]) -> Callable[[memoryview], tuple[str, tuple[int, ...], int]]:
    def parse(data: memoryview) -> tuple[str, tuple[int, ...], int]:
        number, num_axes = np.frombuffer(data, "<u4", 2).tolist()
        if num_axes > 64:
            raise ValueError(f"an array claims {num_axes:,} axes")
        shape = np.frombuffer(data, "<u4", num_axes, 8).tolist()
        return dtypes[number], tuple(shape), 8 + 4 * num_axes

    return parse
