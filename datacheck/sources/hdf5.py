"""HDF5, and NetCDF 4, which is HDF5: every dataset by its path, in runs of whole chunks.

A file can name other files: by links, virtual datasets and external storage. None of them is ever opened, since a file could
have any file of the machine read as data. Objects are reached by walking the file, never by a path that it gives.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.findings import Finding
from datacheck.sources.arrays import ArrayLayout, rows_of
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import (
    HARMLESS_BYTES,
    check_members,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.named_arrays import (
    NamedArray,
    TooManyBytesError,
    missing_values,
    plan_arrays,
    ranges_without,
    read_arrays,
    read_masked,
)
from datacheck.sources.optional import import_library
from datacheck.sources.steps import count_step
from datacheck.storage.base import DataFile, Fingerprint
from datacheck.storage.registry import library_path, open_file, storage_of
from datacheck.text import join_limited, plain

Array = np.ndarray[Any, Any]
#: Values of different sizes that are read at a time.
_PIECE_BYTES = 8 << 20
#: What values of different sizes may take together in a batch.
_MAX_VARIABLE_BYTES = 64 << 20

_MAX_DEPTH = 256

#: Datasets that NetCDF makes for dimensions without values of their own.
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
_NETCDF_FILLS = {"f4": 9.969209968386869e36, "f8": 9.969209968386869e36, "i2": -32767, "i4": -2147483647}
_ELSEWHERE = "is in another file, which is never opened from here"


class Hdf5Source:
    """Reads ``.h5`` and ``.nc`` files: datasets of equal length as columns of one table, others one by one."""

    format: ClassVar[str] = "hdf5"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        with _Hdf5File(uri, fingerprint, options) as file:
            return plan_arrays(uri, self.format, fingerprint, file.arrays, options, fingerprint.size)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        # The first unit also says what lies in other files, for which it must look at all datasets.
        wanted = (unit.members or tuple(_known(unit.uri, unit.fingerprint).paths)) if unit.index else ()
        with _Hdf5File(unit.uri, unit.fingerprint, unit.options, wanted) as file:
            if unit.index == 0 and file.elsewhere:
                yield Batch((), 0, counts_rows=False, findings=tuple(file.elsewhere))
            yield from read_arrays(unit, file.arrays)


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The chunks of a dataset: ranges of rows without a stored one, how many there are, how many of them are not stored.

    ``places`` is where each is in the file, by its number, if it holds whole rows as they are in memory; else it is empty.
    """

    unwritten: tuple[tuple[int, int], ...] = ()
    total: int = 0
    num_unwritten: int = 0
    places: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Known:
    """What is found out once of a file, for all its units: the paths of its datasets, and their chunks, by name."""

    paths: dict[str, bytes] = field(default_factory=dict)
    chunks: dict[str, _Chunks] = field(default_factory=dict)


@lru_cache(maxsize=4)
def _known(uri: str, fingerprint: Fingerprint) -> _Known:  # noqa: ARG001 - of this version of this file
    return _Known()


@cache
def _load_filters() -> None:
    """Import the library that registers more filters, if it is installed; looking for it takes as long as opening a file."""
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401


class _Hdf5File:
    """An open file: its datasets as arrays, those ``wanted`` or all, and findings on what lies in other files."""

    def __init__(self, uri: str, fingerprint: Fingerprint, options: ReadOptions, wanted: tuple[str, ...] = ()) -> None:
        self._h5py = import_library(uri, "h5py", "hdf5")
        _load_filters()
        self._uri, self._size, self._options = uri, fingerprint.size, options
        self._known = _known(uri, fingerprint)
        self.arrays: list[NamedArray] = []
        self.elsewhere: list[Finding] = []
        self._opened: dict[bytes, Any] = {}
        self._raw: DataFile = open_file(uri)
        try:
            path = library_path(uri)
            self._file = self._h5py.File(path or self._raw, "r", **({"locking": False} if path else {}))
            self._walk(wanted)
        except BaseException:
            self._raw.close()
            raise

    def __enter__(self) -> _Hdf5File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._raw.close()

    def _walk(self, wanted: tuple[str, ...]) -> None:
        """Look at the datasets, without ``wanted`` at all. No link that may lead elsewhere is followed."""
        # Another process may have planned the units.
        found = [] if wanted and self._known.paths else self._visit_all()
        if wanted:
            found = [(name, self._open(self._known.paths[name])) for name in wanted]
        for name, dataset in found:
            count_step()
            with suppress(_NoValuesError):
                self.arrays.append(self._array(name, self._h5py.Dataset(dataset)))

    def _visit_all(self) -> list[tuple[str, Any]]:
        """Every dataset once, in the order of the names, with the first of its paths.

        What h5py has for this looks each path up from the root, step by step: in deep groups that takes hours.
        """
        h5o, found = self._h5py.h5o, list[tuple[str, Any]]()
        seen = {h5o.get_info(self._file.id).addr}
        left = [(self._file.id, name, b"") for name in _link_names(self._file.id)]
        while left:
            count_step()
            group, link, above = left.pop()
            path = above + link
            item = self._follow(group, link, path)
            if item is None or (address := h5o.get_info(item).addr) in seen:
                continue
            seen.add(address)
            if isinstance(item, self._h5py.h5d.DatasetID):
                name = path.decode(errors="backslashreplace")
                found.append((name, item))
                self._known.paths[name] = path
                check_members(self._uri, len(found), self._options.max_members, "datasets")
            elif isinstance(item, self._h5py.h5g.GroupID):
                if path.count(b"/") == _MAX_DEPTH:
                    raise ValueError(f"its groups are nested more than {_MAX_DEPTH} deep")
                left += [(item, inner, path + b"/") for inner in _link_names(item)]
        return found

    def _follow(self, group: Any, link: bytes, path: bytes) -> Any:
        """What a hard link of a group leads to; None for other links, of which those into other files are findings."""
        h5l, kind = self._h5py.h5l, group.links.get_info(link).type
        if b"/" in link or link == b".":
            raise ValueError(f"a link has the name {plain(repr(link), 40)}, which would lead elsewhere")
        if kind == h5l.TYPE_HARD:
            return self._h5py.h5o.open(group, link)
        if kind == h5l.TYPE_EXTERNAL:
            file, inner = (one.decode(errors="backslashreplace") for one in group.links.get_val(link))
            detail = f"it links to {plain(repr(inner), 80)} in {plain(repr(file), 80)}: its data {_ELSEWHERE}"
            self.elsewhere.append(self._not_looked_into(path.decode(errors="backslashreplace"), detail, [file]))
        elif kind != h5l.TYPE_SOFT:
            raise ValueError(f"{plain(repr(path), 80)} is a link of a kind that its writer defined")
        return None

    def _open(self, path: bytes) -> Any:
        """The object at a path on which it was visited, which consists of hard links."""
        if path not in self._opened:
            above, _, link = path.rpartition(b"/")
            group = self._open(above) if above else self._file.id
            self._opened[path] = self._follow(group, link, path)
        return self._opened[path]

    def _not_looked_into(self, name: str, detail: str, files: list[str]) -> Finding:
        """A note on data that are in files beside this one, which can be scanned; an error if they are not there."""
        folder = posixpath.dirname(self._uri)
        beside = all(
            one == "."
            or ("/" not in one and "\0" not in one and storage_of(self._uri).exists(posixpath.join(folder, one)))
            for one in files
        )
        code, hint = ("DC008", "scan that file, too") if beside else ("DC005", "copy its data into this file")
        return Finding(code, self._uri, name, 1, 1, detail=f"{detail}; {hint}")

    # One dataset

    def _array(self, name: str, dataset: Any) -> NamedArray:
        if dataset.shape is None or _is_dimension_only(dataset):
            raise _NoValuesError
        if dataset.is_virtual:
            files = sorted({source.file_name for source in dataset.virtual_sources()})
            detail = f"it is a view of datasets in {join_limited(files)}, and is not followed: its data {_ELSEWHERE}"
            self.elsewhere.append(self._not_looked_into(name, detail, files))
            raise _NoValuesError
        dtype, kind = np.dtype(dataset.dtype), None
        shape = tuple(map(int, dataset.shape))
        array = NamedArray(name, shape, dtype, partial(_read_plain, dataset))
        if problem := self._problem(dataset):
            return NamedArray(name, shape, dtype, array.read, problem=problem)
        if dtype.hasobject:
            kind = self._reader_of_objects(dataset, dtype)
            if kind is None:
                problem = f"cannot check values of the kind {plain(str(dtype))}"
                return NamedArray(name, shape, dtype, array.read, problem=problem)
        if (chunks := self._known.chunks.get(name)) is None:
            chunks = self._known.chunks[name] = _chunks_of(dataset, shape, self._file.userblock_size)
        mapped = None if kind else self._mapped_reader(dataset, dtype, shape, chunks.places)
        read = mapped or kind or partial(_read_plain, dataset)
        if not dtype.hasobject and (missing := missing_values(dataset.attrs, dtype) or _netcdf_fill(dataset, dtype)):
            read, mapped = partial(read_masked, read, missing), None
        found = NamedArray(
            name,
            shape,
            dtype,
            read,
            chunk_rows=int(dataset.chunks[0]) if dataset.chunks else 1,
            unwritten=chunks.unwritten,
            num_chunks=chunks.total,
            num_unwritten=chunks.num_unwritten,
            fill=_fill_value(dataset) if chunks.num_unwritten else None,
            stored_bytes=dataset.id.get_storage_size(),
            is_mapped=mapped is not None and dataset.chunks is None,
        ).checked(self._options)
        if self._options.rows != "file":
            return found
        return found if dtype.hasobject else found.as_sample()

    def _problem(self, dataset: Any) -> str:
        """Why the values of a dataset are not read."""
        if dataset.external is not None:
            files = [plain(repr(str(name)), 80) for name, _, _ in dataset.external[:3]]
            return f"its values are bytes of other files ({', '.join(files)}), which are never opened from here"
        filters = dataset.id.get_create_plist()
        for index in range(filters.get_nfilters()):
            number, _, _, name = filters.get_filter(index)
            if not self._h5py.h5z.filter_avail(number):
                label = plain(name.decode(errors="replace"), 40) or f"number {number}"
                return f"it is compressed with the filter {label}, which is not installed: pip install hdf5plugin"
        if dataset.chunks:
            num_bytes = math.prod(map(int, dataset.chunks)) * dataset.dtype.itemsize
            stored = dataset.id.get_storage_size()
            limit = min(
                self._options.max_bytes_at_once, max(HARMLESS_BYTES, stored * self._options.max_expansion_ratio)
            )
            if num_bytes > limit and math.prod(dataset.shape):
                return f"one of its chunks would take {num_bytes:,} bytes, more than {limit:,}"
        return ""

    def _mapped_reader(
        self, dataset: Any, dtype: np.dtype[Any], shape: tuple[int, ...], places: dict[int, int]
    ) -> Callable[[int, int], Any] | None:
        """A reader of values that lie in the file as in memory, which are mapped; all others go through the library."""
        offset = dataset.id.get_offset() if dataset.chunks is None else None
        layout = ArrayLayout(None, dtype, shape, offset or 0)
        if offset and shape and dtype.kind in "iufc" and offset + layout.num_bytes <= self._size:
            return partial(rows_of, self._raw, layout)
        if dtype.kind in "iufc" and places:
            return partial(_read_chunks, self._raw, self._size, dataset, places)
        return None

    def _reader_of_objects(self, dataset: Any, dtype: np.dtype[Any]) -> Any:
        """A reader of text and of lists of numbers; None for references and other objects."""
        if self._h5py.check_string_dtype(dtype) is not None:
            return partial(_read_text, dataset)
        inner = self._h5py.check_vlen_dtype(dtype)
        if isinstance(inner, np.dtype) and inner.kind in "biuf" and len(dataset.shape) == 1:
            return partial(_read_lists, dataset, inner.newbyteorder("="))
        return None


def _link_names(group: Any) -> list[bytes]:
    """The names of the links in a group, the last first."""
    names: list[bytes] = []
    group.links.iterate(names.append)
    return names[::-1]


class _NoValuesError(Exception):
    """A dataset has no values of its own."""


def _is_dimension_only(dataset: Any) -> bool:
    name = dataset.attrs.get("NAME") if "CLASS" in dataset.attrs else None
    return isinstance(name, bytes) and name.startswith(_NO_VARIABLE)


def _netcdf_fill(dataset: Any, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """The fill value that NetCDF gives variables without ``_FillValue``, and that its readers take for a missing value."""
    default = _NETCDF_FILLS.get(dtype.str[1:])
    fill = None if default is None else _fill_value(dataset)
    return (fill,) if default is not None and fill == dtype.type(default) else ()


def _fill_value(dataset: Any) -> Any:
    try:
        return dataset.fillvalue
    except (RuntimeError, TypeError):
        return None


def _chunks_of(dataset: Any, shape: tuple[int, ...], user_bytes: int) -> _Chunks:
    if not math.prod(shape):
        return _Chunks()
    chunks: tuple[int, ...] | None = dataset.chunks
    if chunks is None:
        is_stored = dataset.id.get_storage_size() > 0
        return _Chunks(total=1) if is_stored else _Chunks(((0, shape[0] if shape else 1),), 1, 1)
    per_axis = [-(-length // size) for length, size in zip(shape, chunks, strict=True)]
    total, stored = math.prod(per_axis), dataset.id.get_num_chunks()
    is_plain = chunks[1:] == shape[1:] and not user_bytes and not dataset.id.get_create_plist().get_nfilters()
    if stored >= total and not is_plain:
        return _Chunks(total=total)
    places: dict[int, int] = {}
    # Asking for one chunk by its number takes as long as all chunks before it.
    dataset.id.chunk_iter(lambda info: places.__setitem__(info.chunk_offset[0] // chunks[0], info.byte_offset))
    missing = ranges_without(sorted(places), per_axis[0]) if stored < total else []
    rows = tuple((first * chunks[0], min(stop * chunks[0], shape[0]) - first * chunks[0]) for first, stop in missing)
    return _Chunks(rows, total, max(0, total - stored), places if is_plain else {})


# Values


def _read_plain(dataset: Any, start: int, count: int) -> Any:
    return dataset[start : start + count] if dataset.shape else np.asarray(dataset[()])


def _read_chunks(raw: DataFile, size: int, dataset: Any, places: dict[int, int], start: int, count: int) -> Any:
    """Rows of chunks, mapped if the chunks follow each other in the file."""
    rows, shape, dtype = int(dataset.chunks[0]), dataset.shape[1:], np.dtype(dataset.dtype)
    row_bytes = math.prod(shape) * dtype.itemsize
    numbers = range(start // rows, -(-(start + count) // rows))
    first, chunk_bytes = places.get(numbers[0], size) if count else size, rows * row_bytes
    is_one_run = all(places.get(one) == first + index * chunk_bytes for index, one in enumerate(numbers))
    if not is_one_run or first + len(numbers) * chunk_bytes > size:
        return _read_plain(dataset, start, count)
    return rows_of(raw, ArrayLayout(None, dtype, (count, *shape), first + (start % rows) * row_bytes), 0, count)


def _in_pieces(dataset: Any, start: int, count: int, size_of: Callable[[Any], int]) -> Array:
    """Rows whose values differ in size, read few at a time until their sizes are known; raises ``TooManyBytesError``."""
    if not dataset.shape:
        return np.asarray(dataset[()], object)
    parts: list[Array] = []
    at, step, num_bytes = start, 1, 0
    while at < start + count:
        part = np.asarray(dataset[at : min(at + step, start + count)], object)
        found = sum(map(size_of, part.reshape(-1)))
        parts.append(part)
        at, num_bytes = at + len(part), num_bytes + found
        if num_bytes > _MAX_VARIABLE_BYTES and count > 1:
            raise TooManyBytesError
        step = max(1, min(step * 8, _PIECE_BYTES * len(part) // max(found, 1)))
    return np.concatenate(parts) if parts else np.asarray(dataset[start:start], object)


def _read_text(dataset: Any, start: int, count: int) -> pa.Array:
    """Text as Arrow strings; whether it is valid is checked as in other files."""
    values = _in_pieces(dataset, start, count, lambda one: len(one) if isinstance(one, bytes | str) else 0)
    texts = pa.array([_as_bytes(value) for value in values.reshape(-1)], pa.large_binary()).view(pa.large_string())
    inner = math.prod(values.shape[1:])
    return texts if values.ndim < 2 else pa.FixedSizeListArray.from_arrays(texts, inner)


def _as_bytes(value: Any) -> bytes | None:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _read_lists(dataset: Any, inner: np.dtype[Any], start: int, count: int) -> pa.Array:
    lists = [np.asarray(one, inner) for one in _in_pieces(dataset, start, count, lambda one: one.nbytes)]
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(one) for one in lists], out=offsets[1:])
    flat = np.concatenate(lists) if lists else np.zeros(0, inner)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat))
