"""Folders of ``torch.distributed.checkpoint``: tensors in chunks, in ``.distcp`` files that ``.metadata`` describes.

``.metadata`` is a pickle, and so is the head of each chunk. Both are read by an unpickler that knows the few names such files
have and makes inert records of them: no function of a file is called, and torch is not needed.
"""

from __future__ import annotations

import functools
import io
import math
import pickle
import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.leaves import FLOAT_FORMATS
from datacheck.sources.archive import data_offset
from datacheck.sources.base import REWRITE_FILE, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.dataset_folders import part_of, read_bounded
from datacheck.sources.error_translation import check_members, translate_inspect_errors, translate_read_errors
from datacheck.sources.folder_recognizers import DCP_METADATA, DCP_SUFFIX
from datacheck.sources.named_arrays import NamedArray, plan_arrays, read_arrays
from datacheck.storage.base import DataFile, Fingerprint
from datacheck.storage.registry import open_file, storage_of
from datacheck.text import join_limited, plain

Array = np.ndarray[Any, Any]

_PATHS = {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"}
#: Modules and names that the files of torch have, by module; everything else is refused.
_NAMES = {
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,  # in Python 3.13
    "collections": {"OrderedDict"},
    "torch": {"Size", "device"},
    "torch.serialization": {"_get_layout"},
    "torch._utils": {"_rebuild_tensor_v2", "_rebuild_tensor_v3"},
    "torch.storage": {"UntypedStorage", "TypedStorage"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
        "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING",
    },
}  # fmt: skip


class DcpSource:
    """Reads checkpoints that ``torch.distributed.checkpoint`` wrote: each tensor as one array, wherever its chunks are."""

    format: ClassVar[str] = "dcp"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        index = _index(uri)
        check_members(uri, len(index.tensors), options.max_members, "tensors")
        arrays = [_array(uri, tensor, options) for tensor in index.tensors]
        return plan_arrays(uri, self.format, fingerprint_of(uri), arrays, options, index.num_bytes)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        index = _index(unit.uri)
        if unit.index == 0 and (found := tuple(_check_files(unit.uri, index))):
            yield Batch((), 0, counts_rows=False, findings=found)
        wanted = set(unit.members)
        tensors = [tensor for tensor in index.tensors if not wanted or tensor.name in wanted]
        yield from read_arrays(unit, [_array(unit.uri, tensor, unit.options) for tensor in tensors])


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A box of a tensor: where it begins, its size, and the file and bytes in it that hold its archive."""

    start: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[_Chunk, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Index:
    """The tensors of a checkpoint, and the bytes that each file must have."""

    tensors: tuple[_Tensor, ...]
    files: dict[str, int]

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())


def _index(uri: str) -> _Index:
    path = posixpath.join(uri, DCP_METADATA)
    if not storage_of(path).exists(path):
        problem = f"its {DCP_METADATA!r} is missing, which is written last: the checkpoint was not saved to its end"
        raise SourceError("DC911", uri, problem, "load an earlier checkpoint, or save this one again")
    return _read_index(uri, storage_of(path).stat(path).fingerprint)


@functools.lru_cache(maxsize=4)
def _read_index(uri: str, fingerprint: Fingerprint) -> _Index:  # noqa: ARG001 - changed metadata are read again
    record = _load(uri, io.BytesIO(read_bounded(posixpath.join(uri, DCP_METADATA))))
    stored: dict[tuple[str, tuple[int, ...]], _Chunk] = {}
    files: dict[str, int] = {}
    for key, info in record["storage_data"].items():
        offset, length = _number(info["offset"]), _number(info["length"])
        name = str(info["relative_path"])
        files[name] = max(files.get(name, 0), offset + length)
        start = _lengths(key.fields.get("offset") or ())
        if not info.fields.get("transform_descriptors"):
            stored[str(key["fqn"]), start] = _Chunk(start, (), name, offset, length)
    tensors = []
    for name, described in record["state_dict_metadata"].items():
        # What is not a tensor is a pickle, which is not read.
        if described.kind == "TensorStorageMetadata":
            tensors.append(_tensor(str(name), described, stored))
    return _Index(tuple(tensors), files)


def _tensor(name: str, described: _Record, stored: dict[tuple[str, tuple[int, ...]], _Chunk]) -> _Tensor:
    shape = _lengths(described["size"])
    dtype = str(described["properties"].state[0]).removeprefix("torch.")
    chunks: list[_Chunk] = []
    problem = ""
    for part in described["chunks"]:
        start, sizes = _lengths(part["offsets"]), _lengths(part["sizes"])
        chunk = stored.get((name, start))
        ends = [first + size for first, size in zip(start, sizes, strict=False)]
        if len(start) != len(shape) or len(sizes) != len(shape) or any(map(int.__gt__, ends, shape)):
            problem = f"a chunk at {start} of size {sizes} lies outside its shape {shape}"
        elif chunk is None:
            problem = f"the metadata do not say where the chunk at {start} is stored, or it is transformed"
        else:
            chunks.append(_Chunk(start, sizes, chunk.file, chunk.offset, chunk.length))
    covered = sum(math.prod(chunk.sizes) for chunk in chunks)
    if not problem and covered != math.prod(shape):
        problem = f"its chunks have {covered:,} values, its shape {shape} has {math.prod(shape):,}"
    if _numpy_dtype(dtype) is None:
        problem = problem or f"cannot check the dtype {plain(dtype, 40)}"
    return _Tensor(name, dtype, shape, tuple(chunks), problem)


def _numpy_dtype(dtype: str) -> np.dtype[Any] | None:
    if dtype in FLOAT_FORMATS:
        return FLOAT_FORMATS[dtype]
    try:
        found = np.dtype(dtype)
    except TypeError:
        return None
    return found if found.kind in "?biufc" else None


def _array(uri: str, tensor: _Tensor, options: ReadOptions) -> NamedArray:
    problem = tensor.problem
    for name in dict.fromkeys(chunk.file for chunk in tensor.chunks):
        if not problem and not storage_of(uri).exists(part_of(uri, name)):
            problem = f"its file {plain(repr(name), 80)} is missing"
    dtype = _numpy_dtype(tensor.dtype)
    array = NamedArray(
        tensor.name,
        tensor.shape,
        dtype or np.dtype("u1"),
        partial(_read_rows, uri, tensor),
        tensor.dtype if dtype is None or tensor.dtype in FLOAT_FORMATS else None,
        problem,
        is_parameter=True,
        stored_bytes=sum(chunk.length for chunk in tensor.chunks),
    ).checked(options)
    return array.as_sample() if options.rows == "file" else array


def _check_files(uri: str, index: _Index) -> Iterator[Finding]:
    """Findings on the files that the metadata name: absent or cut ones, and others that they do not name."""
    here = {entry.name for entry in storage_of(uri).list(uri) if entry.name.endswith(DCP_SUFFIX)}
    missing = sorted(name for name in index.files if "/" not in name and name not in here)
    for name in sorted(index.files.keys() & here):
        size = storage_of(uri).stat(part_of(uri, name)).fingerprint.size
        if size < index.files[name]:
            detail = f"{name!r} has {size:,} bytes, the metadata name bytes up to {index.files[name]:,}; {REWRITE_FILE}"
            yield Finding("DC901", uri, None, 1, 1, rule=name, detail=detail)
    if missing:
        detail = f"{len(missing):,} of {len(index.files):,} files are missing: {join_limited(missing)}"
        yield Finding("DC911", uri, None, len(missing), len(index.files), detail=detail)
    if unnamed := sorted(here - index.files.keys()):
        yield Finding(
            "DC912", uri, None, len(unnamed), len(unnamed), detail=f".metadata does not name {join_limited(unnamed)}"
        )


# Values


def _read_rows(uri: str, tensor: _Tensor, start: int, count: int) -> Array:
    """Rows of a tensor: a view of its chunk if one has them all, else put together."""
    dtype = _numpy_dtype(tensor.dtype)
    assert dtype is not None
    shape = (count, *tensor.shape[1:]) if tensor.shape else ()
    rows = slice(start, start + count)
    found: Array | None = None
    for chunk in tensor.chunks:
        if not tensor.shape:
            return _chunk_values(uri, chunk, dtype)
        first, stop = max(rows.start, chunk.start[0]), min(rows.stop, chunk.start[0] + chunk.sizes[0])
        if first >= stop:
            continue
        values = _chunk_values(uri, chunk, dtype)[first - chunk.start[0] : stop - chunk.start[0]]
        if values.shape == shape:
            return values
        if found is None:
            found = np.zeros(shape, dtype)
        inner = tuple(slice(begin, begin + size) for begin, size in zip(chunk.start[1:], chunk.sizes[1:], strict=True))
        found[(slice(first - start, stop - start), *inner)] = values
    return np.zeros(shape, dtype) if found is None else found


def _chunk_values(uri: str, chunk: _Chunk, dtype: np.dtype[Any]) -> Array:
    """The values of a chunk, mapped where the storage can; raises where they are not stored as torch does."""
    path = part_of(uri, chunk.file)
    with open_file(path) as file:
        part = _Slice(file, chunk.offset, chunk.length)
        with zipfile.ZipFile(part) as archive:
            names = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
            head, entry = names["data.pkl"], names["data/0"]
            if entry.compress_type != zipfile.ZIP_STORED or head.file_size > 1 << 16:
                raise SourceError("DC901", uri, "a chunk is compressed, which torch never does", REWRITE_FILE)
            record = _load(uri, io.BytesIO(archive.read(head)))
            first, size, strides = (
                _number(record.arguments[1]),
                _lengths(record.arguments[2]),
                _lengths(record.arguments[3]),
            )
            at = chunk.offset + data_offset(part, entry)
        last = first + sum((length - 1) * step for length, step in zip(size, strides, strict=True))
        num_values = math.prod(size)
        if size != chunk.sizes or (num_values and (last + 1) * dtype.itemsize > entry.file_size):
            problem = f"a chunk holds a tensor of shape {size}, the metadata say {chunk.sizes}"
            raise SourceError("DC901", uri, problem, REWRITE_FILE)
        if not num_values:
            return np.zeros(size, dtype)
        num_bytes = (last + 1) * dtype.itemsize
        view = file.map(at, num_bytes) or file.read_at(at, num_bytes)
    if len(view) < num_bytes:
        raise EOFError("the file ends inside a chunk")
    steps = tuple(step * dtype.itemsize for step in strides)
    return np.ndarray(size, dtype, view, first * dtype.itemsize, steps)


class _Slice(DataFile):
    """A range of an open file as a file of its own."""

    def __init__(self, file: DataFile, offset: int, length: int) -> None:
        super().__init__(_RawSlice(file, offset, length))


class _RawSlice(io.RawIOBase):
    def __init__(self, file: DataFile, offset: int, length: int) -> None:
        self._file, self._offset, self._length, self._at = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError("negative position in a chunk")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        left = max(0, min(len(buffer), self._length - self._at))
        data = self._file.read_at(self._offset + self._at, left) if left else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


# The pickles


class _Record:
    """What stands for an object of a pickle: the name of its class or function, what it was called with, its fields."""

    __slots__ = ("arguments", "fields", "kind", "state")

    def __init__(self, kind: str, arguments: tuple[Any, ...] = ()) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: Any = None
        self.fields: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def __setstate__(self, state: Any) -> None:
        self.state = state
        if isinstance(state, dict):
            self.fields = state


def _class_of(kind: str) -> type[_Record]:
    """A class whose instances are records of ``kind``, however a pickle makes them."""

    def create(cls: type[_Record], *arguments: Any) -> _Record:
        made = object.__new__(cls)
        _Record.__init__(made, kind, arguments)
        return made

    return type("Record", (_Record,), {"__slots__": (), "__new__": create, "__init__": lambda *_: None})


class _Unpickler(pickle.Unpickler):
    """Knows the names of ``_NAMES`` and of dtypes, and makes records of them."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "collections" and name == "OrderedDict":
            return dict
        if module == "torch" and name not in _NAMES["torch"]:
            if _numpy_dtype(name) is None and not name.endswith("Storage"):
                raise pickle.UnpicklingError(f"{module}.{name}")
            return _Record(f"torch.{name}") if name.endswith("Storage") else f"torch.{name}"
        if name not in _NAMES.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return tuple if name == "Size" else _class_of(name)

    def persistent_load(self, identifier: Any) -> Any:
        return identifier


def _load(uri: str, file: io.BytesIO) -> Any:
    try:
        return _Unpickler(file).load()
    except pickle.UnpicklingError as error:
        name = plain(str(error).partition("\n")[0], 120)
        remedy = "write the checkpoint with torch.distributed.checkpoint: datacheck never runs code from a file"
        raise SourceError(
            "DC903", uri, f"its metadata need {name!r}, which can run code or are damaged", remedy
        ) from None


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected a length, got {plain(repr(value), 40)}")
    return value


def _lengths(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list):
        raise ValueError(f"expected lengths, got {plain(repr(value), 40)}")
    return tuple(map(_number, value))
