"""Zarr stores, of versions 2 and 3: every array by its path, in runs of whole chunks or shards.

A chunk that is not stored reads as the fill value, without an error, and most codecs notice no damage. So the store is asked
which chunks are there, and each chunk how far it expands, before it is decompressed.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import posixpath
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.dataset_folders import read_bounded
from datacheck.sources.error_translation import (
    check_bytes,
    check_members,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.named_arrays import (
    NamedArray,
    missing_values,
    plan_arrays,
    ranges_without,
    read_arrays,
    read_masked,
)
from datacheck.sources.optional import import_library
from datacheck.storage.base import DataFile
from datacheck.storage.ranges import RangeFile
from datacheck.storage.registry import open_file, storage_of
from datacheck.text import plain

Array = np.ndarray[Any, Any]

#: Codecs whose output can be bounded, by how.
_SIZES_IN_HEAD = {"blosc": (4, 4), "lz4": (0, 4)}
_INFLATED = {"gzip": 31, "zlib": 15}
_HARMLESS = frozenset({
    "bytes", "endian", "transpose", "crc32c", "shuffle", "fletcher32", "delta", "fixedscaleoffset", "vlen-utf8",
})  # fmt: skip
#: Files that describe groups and arrays, and the most bytes that one of them may have: JSON takes many times as much in memory.
_METADATA, _MAX_METADATA_BYTES = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"}), 32 << 20
_PICKLED = "its values are pickled, and datacheck never runs code from a file"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: Warnings are silenced for the whole process, by one thread at a time.
_OPENING = threading.Lock()


class ZarrSource:
    """Reads Zarr stores: arrays of equal length as columns of one table, others one by one."""

    format: ClassVar[str] = "zarr"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        with _quiet():
            arrays = _arrays(uri, options)
        num_bytes = sum(one.stored_bytes or 0 for one in arrays)
        return plan_arrays(uri, self.format, fingerprint_of(uri), arrays, options, num_bytes)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        wanted = set(unit.members) or None
        with _quiet():
            arrays = _arrays(unit.uri, unit.options, wanted)
        yield from read_arrays(unit, arrays)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings that a format has no specification yet."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_wanted_log(record: logging.LogRecord) -> bool:
    """Whether it is not about the other arrays of a group, which the library opens at once, after one could not be opened."""
    message = record.getMessage()
    return "never retrieved" not in message or "zarr" not in message


def _arrays(uri: str, options: ReadOptions, wanted: set[str] | None = None) -> list[NamedArray]:
    zarr = import_library(uri, "zarr", "zarr")
    # asyncio logs them once they are freed, whenever that is.
    logging.getLogger("asyncio").addFilter(_is_wanted_log)
    if storage_of(uri).stat(uri, recent=True).kind != "folder":
        raise SourceError("DC901", uri, "it is not the folder of a Zarr store", "unpack or copy the store to a folder")
    path = storage_of(uri).local_path(uri)
    if path is None:
        from datacheck.sources.zarr_store import StorageStore

        store: Any = StorageStore(uri, lambda key, size: _check_metadata(uri, key, size))
    else:
        for key, size in _local_metadata(path):
            _check_metadata(uri, key, size)
        store = zarr.storage.LocalStore(path, read_only=True)
    root = _open(zarr, store, uri)
    named = [("array", root)] if isinstance(root, zarr.Array) else _members(zarr, root, store, uri)
    check_members(uri, len(named), options.max_members, "arrays")
    return [_array(uri, name, one, options) for name, one in sorted(named) if wanted is None or name in wanted]


def _local_metadata(path: str) -> Iterator[tuple[str, int]]:
    """The files that describe groups and arrays, below a folder, with their sizes."""
    for inner, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "c" and not name.isdecimal()]
        for name in _METADATA.intersection(names):
            file = os.path.join(inner, name)  # noqa: PTH118 - as os.walk gives them
            yield posixpath.relpath(file, path), os.path.getsize(file)  # noqa: PTH202


def _check_metadata(uri: str, key: str, num_bytes: int) -> None:
    """Raise ``SourceError`` (DC904) for metadata so large that they hardly describe arrays."""
    if posixpath.basename(key) in _METADATA:
        check_bytes(uri, num_bytes, _MAX_METADATA_BYTES, f"the metadata in {plain(key, 80)}")


def _open(zarr: Any, store: Any, uri: str) -> Any:
    """The root of a store. Consolidated metadata are not used: they do not have what was added later."""
    try:
        if _node_type(uri) == "array":
            return zarr.open_array(store, mode="r")
        return zarr.open_group(store, mode="r", use_consolidated=False)
    except SourceError:
        raise
    except Exception as error:  # which one depends on the version of the library
        if (problem := _said(error)) == _PICKLED:
            raise SourceError("DC901", uri, problem, "write them as numbers or text") from error
        raise SourceError("DC901", uri, f"its metadata cannot be read ({problem})", "write the store again") from error


def _members(zarr: Any, root: Any, store: Any, uri: str) -> list[tuple[str, Any]]:
    """Every array of a group by its path; the reason instead of one that cannot be opened."""
    try:
        return [(name, one) for name, one in root.members(max_depth=None) if isinstance(one, zarr.Array)]
    except SourceError:
        raise
    except Exception:  # of a node that it does not name
        folders = {posixpath.dirname(key) for key, _ in storage_of(uri).walk(uri) if _describes_node(key)}
        nodes = [name for name in folders if _node_type(posixpath.join(uri, name)) != "group"]
        named = [(name, _member(zarr, store, name)) for name in nodes]
        if not any(isinstance(one, str) for _, one in named):
            raise
        return named


def _member(zarr: Any, store: Any, name: str) -> Any:
    try:
        return zarr.open_array(store, path=name, mode="r")
    except SourceError:
        raise
    except Exception as error:  # which one depends on what is wrong
        return f"cannot open it ({_said(error)})"


def _describes_node(key: str) -> bool:
    return posixpath.basename(key) in (".zarray", "zarr.json")


def _node_type(folder: str) -> str:
    """``array`` or ``group``, as the metadata in a folder say; empty where they say neither."""
    storage = storage_of(folder)
    if storage.exists(posixpath.join(folder, ".zarray")):
        return "array"
    described = posixpath.join(folder, "zarr.json")
    if storage.exists(described):
        with suppress(ValueError, RecursionError):
            record = json.loads(read_bounded(described, _MAX_METADATA_BYTES))
            return str(record.get("node_type", "")) if isinstance(record, dict) else ""
    return ""


def _said(error: Exception) -> str:
    """What an error of the library says; of pickled values, why they are not read."""
    said = str(error).partition("\n")[0]
    if "pickle" in said:
        return _PICKLED
    return plain(said, 200) if said else type(error).__name__


def _array(uri: str, name: str, array: Any, options: ReadOptions) -> NamedArray:
    if isinstance(array, str):
        return NamedArray(name, (0,), np.dtype("u1"), partial(_read, array), problem=array)
    shape, dtype = tuple(map(int, array.shape)), np.dtype(array.dtype)
    chunks = tuple(map(int, array.shards or array.chunks))
    problem = _problem(array, chunks, dtype, options)
    if problem:
        return NamedArray(name, shape, dtype, partial(_read, array), problem=problem)
    folder = posixpath.join(uri, array.path) if array.path else uri
    sizes = _chunk_sizes(folder, len(shape))
    grid = tuple(-(-length // max(1, size)) for length, size in zip(shape, chunks, strict=True))
    total = math.prod(grid)
    stored = {coords: size for coords, size in sizes.items() if all(map(int.__lt__, coords, grid))}
    rows = ranges_without(sorted({coords[0] for coords in stored} if shape else set()), grid[0] if grid else 0)
    unwritten = [(first * chunks[0], min(stop * chunks[0], shape[0]) - first * chunks[0]) for first, stop in rows]
    read: Any = partial(_read_checked, uri, folder, array, chunks)
    if missing := missing_values(dict(array.attrs), dtype):
        read = partial(read_masked, read, missing)
    fill = array.fill_value
    found = NamedArray(
        name,
        shape,
        dtype,
        read,
        chunk_rows=chunks[0] if chunks else 1,
        unwritten=tuple(unwritten) if total and shape else (),
        num_chunks=total,
        num_unwritten=total - len(stored) if math.prod(shape) else 0,
        fill=fill,
        stored_bytes=sum(stored.values()),
    ).checked(options)
    return found.as_sample() if options.rows == "file" else found


def _problem(array: Any, chunks: tuple[int, ...], dtype: np.dtype[Any], options: ReadOptions) -> str:
    # A chunk is decoded into memory, and copied from there.
    num_bytes = 2 * max(math.prod(map(int, array.chunks)), math.prod(chunks)) * dtype.itemsize
    if num_bytes > options.max_bytes_at_once:
        return f"decoding one of its chunks would take {num_bytes:,} bytes, more than {options.max_bytes_at_once:,}"
    if array.shards is not None:
        used = [type(codec).__name__ for codec in array.metadata.codecs[0].index_codecs]
        if used != ["BytesCodec", "Crc32cCodec"]:
            return f"the indexes of its shards are encoded with {plain(', '.join(used), 80)}, which is not supported"
    unknown = [name for name in _codecs(array) if name not in (*_SIZES_IN_HEAD, *_INFLATED, *_HARMLESS, "zstd")]
    if unknown:
        return f"it is encoded with {plain(unknown[0], 40)}, whose output cannot be bounded before it is made"
    packed = [name for name in _codecs(array) if name not in _HARMLESS]
    if len(packed) > 1:
        return f"it is compressed more than once ({plain(', '.join(packed), 80)}), so that its output cannot be bounded"
    return ""


def _codecs(array: Any) -> list[str]:
    """The names of the codecs of an array, innermost last."""
    codecs = [*getattr(array, "filters", ()), *getattr(array, "compressors", ())]
    names = [getattr(codec, "codec_id", None) or type(codec).__name__.removesuffix("Codec") for codec in codecs]
    return [str(name).lower().removeprefix("numcodecs.") for name in names]


def _chunk_sizes(folder: str, num_axes: int) -> dict[tuple[int, ...], int]:
    """The bytes of each stored chunk or shard, by its place in the grid."""
    found: dict[tuple[int, ...], int] = {}
    for key, size in storage_of(folder).walk(folder):
        parts = [part for part in key.replace(".", "/").split("/") if part != "c"]
        if not parts and num_axes == 0:
            found[()] = size
        elif all(part.isdecimal() for part in parts) and len(parts) == max(1, num_axes):
            found[tuple(map(int, parts)) if num_axes else ()] = size
    return found


# Values


def _read(array: Any, start: int, count: int) -> Array:
    return np.asarray(array[start : start + count] if array.shape else array[()])


def _read_checked(uri: str, folder: str, array: Any, chunks: tuple[int, ...], start: int, count: int) -> Array:
    """Rows, after the expansion of each of their chunks has been bounded."""
    codec = next((name for name in _codecs(array) if name not in _HARMLESS), "")
    if codec or array.shards is not None:
        limit = math.prod(map(int, array.chunks)) * np.dtype(array.dtype).itemsize * 2 + 4096
        grid = [-(-int(length) // size) for length, size in zip(array.shape, chunks, strict=True)]
        inner = math.prod(size // int(one) for size, one in zip(chunks, array.chunks, strict=True))
        rows = range(start // chunks[0], -(-(start + count) // chunks[0])) if chunks else ()
        for row in rows:
            for rest in np.ndindex(*grid[1:]):
                path = posixpath.join(folder, array.metadata.encode_chunk_key((row, *rest)))
                _check_chunk(uri, path, codec, limit, _shard_index(array, inner))
    return _read(array, start, count)


def _shard_index(array: Any, num_chunks: int) -> tuple[int, bool] | None:
    """How many bytes the index of each shard has, and whether it is at the end; None for an array without shards."""
    if array.shards is None:
        return None
    sharding = array.metadata.codecs[0]
    return 16 * num_chunks + 4, sharding.index_location.value == "end"


def _check_chunk(uri: str, path: str, codec: str, limit: int, index: tuple[int, bool] | None) -> None:
    """Raise ``SourceError`` for a chunk, or one in a shard, that would expand to more than ``limit`` bytes."""
    try:
        with open_file(path) as file:
            parts = [(0, file.seek(0, os.SEEK_END))] if index is None else _parts_of(uri, path, file, *index)
            for offset, length in parts:
                source, start = file, offset
                if codec == "zstd" and isinstance(file, RangeFile):
                    # Its blocks say one by one how long they are: in a bucket each would be a request.
                    source, start = DataFile(io.BytesIO(file.read_at(offset, length))), 0
                size = _expanded_size(source, start, length, codec, limit) if codec else 0
                if size > limit:
                    problem = (
                        f"the chunk {plain(posixpath.relpath(path, uri), 80)} would expand to {size:,} bytes or more"
                    )
                    raise SourceError("DC904", uri, f"{problem}, its array declares fewer", "write the store again")
    except FileNotFoundError:
        return


def _parts_of(uri: str, path: str, file: DataFile, index_bytes: int, is_at_end: bool) -> list[tuple[int, int]]:
    """Where the chunks of a shard begin, and their bytes; the library verifies the checksum of the index."""
    size = file.seek(0, os.SEEK_END)
    if size < index_bytes:
        # The library asks for each of its chunks, which may be millions, and takes an empty shard for one never written.
        problem = f"the shard {plain(posixpath.relpath(path, uri), 80)} is shorter than the index of its chunks"
        raise SourceError("DC901", uri, problem, "write the store again")
    content = file.read_at(size - index_bytes if is_at_end else 0, index_bytes)
    places = np.frombuffer(content[: len(content) // 16 * 16], "<u8").reshape(-1, 2)
    return [(int(offset), min(int(length), size - int(offset))) for offset, length in places if offset < size]


def _expanded_size(file: DataFile, offset: int, length: int, codec: str, limit: int) -> int:
    """How far bytes of a file expand, up to a little more than ``limit``."""
    if codec in _SIZES_IN_HEAD:
        start, width = _SIZES_IN_HEAD[codec]
        return int.from_bytes(file.read_at(offset + start, width), "little")
    if codec == "zstd" and (size := _declared_size(file, offset, length)) is not None:
        return size
    content = file.read_at(offset, length)
    return _inflated_size(content, _INFLATED[codec], limit) if codec in _INFLATED else _zstd_size(content, limit)


def _declared_size(file: DataFile, offset: int, length: int) -> int | None:
    """The size that the only frame of a zstd chunk declares; None if it declares none, or there may be more frames."""
    head = file.read_at(offset, min(length, 18))
    if not head.startswith(_ZSTD_MAGIC) or len(head) < 6:
        return None
    flags = head[4]
    at = 5 + (0 if flags & 0x20 else 1) + (0, 1, 2, 4)[flags & 3]
    width = (1 if flags & 0x20 else 0, 2, 4, 8)[flags >> 6]
    position, is_last = at + width, False
    while not is_last and position + 3 <= length:
        block = int.from_bytes(file.read_at(offset + position, 3), "little")
        is_last = bool(block & 1)
        # A block of one repeated byte takes one byte.
        position += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
    is_only = is_last and position + (4 if flags & 4 else 0) == length
    # Sizes of two bytes are counted from 256 on.
    return int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0) if is_only and width else None


def _zstd_size(content: bytes, limit: int) -> int:
    size = 0
    with suppress(OSError), pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
        while size <= limit and (part := stream.read(1 << 20)):
            size += len(part)
    return size


def _inflated_size(data: bytes, window: int, limit: int) -> int:
    """The size of what a stream inflates to, which in gzip may consist of several."""
    inflater, size = zlib.decompressobj(window), 0
    with suppress(zlib.error):
        while data and size <= limit:
            if inflater.eof:
                inflater = zlib.decompressobj(window)
            size += len(inflater.decompress(data, 1 << 20))
            data = inflater.unconsumed_tail or inflater.unused_data
    return size
