"""Zarr stores, of versions 2 and 3: every array by its path, in runs of whole chunks or shards.

A chunk that is not stored reads as the fill value, without an error, and most codecs notice no damage. So the store is asked
which chunks are there, and each chunk how far it expands, before it is decompressed.
"""

from __future__ import annotations

import math
import os
import posixpath
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import numpy as np

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors
from datacheck.sources.named_arrays import (
    NamedArray,
    missing_values,
    plan_arrays,
    ranges_without,
    read_arrays,
    read_masked,
)
from datacheck.sources.optional import import_library
from datacheck.storage.registry import open_file, storage_of
from datacheck.text import plain

__all__ = ["ZarrSource"]

Array = np.ndarray[Any, Any]

#: Codecs whose output can be bounded, by how.
_SIZES_IN_HEAD = {"blosc": (4, 4), "lz4": (0, 4)}
_INFLATED = {"gzip": 31, "zlib": 15}
_HARMLESS = frozenset({
    "bytes", "endian", "transpose", "crc32c", "shuffle", "fletcher32", "delta", "fixedscaleoffset", "vlen-utf8",
})  # fmt: skip
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


def _arrays(uri: str, options: ReadOptions, wanted: set[str] | None = None) -> list[NamedArray]:
    zarr = import_library(uri, "zarr", "zarr")
    path = storage_of(uri).local_path(uri)
    if path is None or not os.path.isdir(path):  # noqa: PTH112 - a storage's path is text
        raise SourceError("DC901", uri, "it is not the folder of a Zarr store on this machine", "copy the store here")
    store = zarr.storage.LocalStore(path, read_only=True)
    root = _open(zarr, store, uri)
    if isinstance(root, zarr.Array):
        named = [("array", root)]
    else:
        named = [(name, one) for name, one in root.members(max_depth=None) if isinstance(one, zarr.Array)]
    if len(named) > options.max_members:
        problem = f"it has {len(named):,} arrays, more than {options.max_members:,}"
        raise SourceError("DC904", uri, problem, "if the store is trusted, raise the limit max_members")
    return [_array(uri, name, one, options) for name, one in sorted(named) if wanted is None or name in wanted]


def _open(zarr: Any, store: Any, uri: str) -> Any:
    """The root of a store. Consolidated metadata are not used: they do not have what was added later."""
    try:
        return zarr.open_group(store, mode="r", use_consolidated=False)
    except Exception as error:  # which exception says that the root is an array depends on the version
        try:
            return zarr.open_array(store, mode="r")
        except Exception:
            problem = plain(str(error).partition("\n")[0], 200)
            raise SourceError(
                "DC901", uri, f"its metadata cannot be read ({problem})", "write the store again"
            ) from error


def _array(uri: str, name: str, array: Any, options: ReadOptions) -> NamedArray:
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
    num_bytes = math.prod(map(int, array.chunks)) * dtype.itemsize
    if max(num_bytes, math.prod(chunks) * dtype.itemsize) > options.max_bytes_at_once:
        return f"one of its chunks would take {num_bytes:,} bytes, more than {options.max_bytes_at_once:,}"
    unknown = [name for name in _codecs(array) if name not in (*_SIZES_IN_HEAD, *_INFLATED, *_HARMLESS, "zstd")]
    if unknown:
        return f"it is encoded with {plain(unknown[0], 40)}, whose output cannot be bounded before it is made"
    return ""


def _codecs(array: Any) -> list[str]:
    """The names of the codecs of an array, innermost last."""
    codecs = [*getattr(array, "filters", ()), *getattr(array, "compressors", ())]
    names = [getattr(codec, "codec_id", None) or type(codec).__name__.removesuffix("Codec") for codec in codecs]
    return [str(name).lower().removeprefix("numcodecs.") for name in names]


def _chunk_sizes(folder: str, num_axes: int) -> dict[tuple[int, ...], int]:
    """The bytes of each stored chunk or shard, by its place in the grid."""
    path = storage_of(folder).local_path(folder) or folder
    found: dict[tuple[int, ...], int] = {}
    for inner, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name == "c" or name.isdecimal()]
        below = os.path.relpath(inner, path)
        for name in names:
            key = name if below == "." else f"{below}/{name}"
            parts = [part for part in key.replace(".", "/").split("/") if part != "c"]
            if not parts and num_axes == 0:
                found[()] = os.path.getsize(os.path.join(inner, name))  # noqa: PTH118, PTH202 - as os.walk gives them
            elif all(part.isdecimal() for part in parts) and len(parts) == max(1, num_axes):
                found[tuple(map(int, parts)) if num_axes else ()] = os.path.getsize(os.path.join(inner, name))  # noqa: PTH118, PTH202
    return found


# Values


def _read(array: Any, start: int, count: int) -> Array:
    return np.asarray(array[start : start + count] if array.shape else array[()])


def _read_checked(uri: str, folder: str, array: Any, chunks: tuple[int, ...], start: int, count: int) -> Array:
    """Rows, after the expansion of each of their chunks has been bounded."""
    codec = (_codecs(array) or ["bytes"])[-1]
    if array.shards is None and (codec == "zstd" or codec in _SIZES_IN_HEAD or codec in _INFLATED):
        limit = math.prod(chunks) * np.dtype(array.dtype).itemsize * 2 + 4096
        grid = [-(-int(length) // size) for length, size in zip(array.shape, chunks, strict=True)]
        rows = range(start // chunks[0], -(-(start + count) // chunks[0])) if chunks else ()
        for row in rows:
            for rest in np.ndindex(*grid[1:]):
                _check_chunk(uri, posixpath.join(folder, array.metadata.encode_chunk_key((row, *rest))), codec, limit)
    return _read(array, start, count)


def _check_chunk(uri: str, path: str, codec: str, limit: int) -> None:
    """Raise ``SourceError`` for a chunk that would expand to more than ``limit`` bytes."""
    try:
        with open_file(path) as file:
            head = file.read_at(0, 20)
            size = _expanded_size(head, codec)
            if codec in _INFLATED:
                size = _inflated_size(file, _INFLATED[codec], limit)
    except FileNotFoundError:
        return
    if size > limit:
        problem = f"the chunk {plain(posixpath.relpath(path, uri), 80)} would expand to {size:,} bytes or more"
        raise SourceError("DC904", uri, f"{problem}, its array declares fewer", "write the store again")


def _expanded_size(head: bytes, codec: str) -> int:
    if codec in _SIZES_IN_HEAD:
        offset, length = _SIZES_IN_HEAD[codec]
        return int.from_bytes(head[offset : offset + length], "little")
    if codec != "zstd" or not head.startswith(_ZSTD_MAGIC) or len(head) < 6:
        return 0
    flags = head[4]
    at = 5 + (0 if flags & 0x20 else 1) + (0, 1, 2, 4)[flags & 3]
    width = (1 if flags & 0x20 else 0, 2, 4, 8)[flags >> 6]
    return int.from_bytes(head[at : at + width], "little")


def _inflated_size(file: Any, window: int, limit: int) -> int:
    """The size of what a stream inflates to, up to a little more than ``limit``."""
    file.seek(0)
    inflater, size = zlib.decompressobj(window), 0
    data = file.read(1 << 16)
    while data and size <= limit and not inflater.eof:
        size += len(inflater.decompress(data, 1 << 20))
        data = inflater.unconsumed_tail or file.read(1 << 16)
    return size
