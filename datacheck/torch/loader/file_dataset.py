"""Open files as a dataset whose samples know their file and row."""

from __future__ import annotations

import bisect
import itertools
import os
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset, Subset

from datacheck.batch import Batch, Column
from datacheck.checks.missing import is_of_numbers
from datacheck.checks.reading import reading_findings
from datacheck.distinct import distinct
from datacheck.errors import SourceError, UsageError
from datacheck.findings import MAX_EXAMPLES, Finding, Severity, merge_findings
from datacheck.formats import get_format
from datacheck.leaves import FLOAT_FORMATS, Regular
from datacheck.reports.text import render_finding
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.base import ReadOptions, RowsAre
from datacheck.sources.discover import discover
from datacheck.sources.indexes import check_indexes
from datacheck.sources.media import decoder_of, media_in, problem_of
from datacheck.text import ordinal_list, plain
from datacheck.torch.loader.errors import warn_at_caller
from datacheck.torch.loader.provenance import SampleOrigin
from datacheck.torch.loader.published import Part, parts_of_files, parts_of_output, parts_of_table

Array = np.ndarray[Any, Any]
PathLike: TypeAlias = str | os.PathLike[str]
#: Rows that stay in memory may take this many times the bytes of their files.
MAX_KEPT_RATIO = 64
#: Gives the value of a column at a row.
_Reader: TypeAlias = Callable[[int], Any]


def open_dataset(
    path: PathLike | Sequence[PathLike] | Mapping[str, PathLike],
    *,
    split: str | None = None,
    columns: Sequence[str] | None = None,
    rows: RowsAre | None = None,
    options: ReadOptions | None = None,
) -> FileDataset:
    """Open files as a map-style dataset; each sample knows its file and row.

    ::

        dataset = open_dataset("out/weather", split="train")      # what 'datacheck run' published
        dataset.origin(17)                                        # the row in the original file

    A sample is a dict of its fields: tensors for numbers, lists and arrays, Python values for strings and times, None for a
    null. The array of a single ``.npy`` file is a tensor, not a dict.

    Args:
        path: the output of ``datacheck run``, one of its splits, or a file in it: origins are then the *original* file and
            row. Or any files, folders and globs that datacheck reads. Or ``.npy`` files by field, which are aligned row by
            row.
        split: the split of an output.
        columns: the fields of the samples. Default: all. ``default_collate`` does not take strings and times.
        rows: ``"file"`` if each file of arrays is one sample, ``"first-axis"`` (the default) if it holds many along its first
            axis. An output of ``datacheck run`` has recorded it.
        options: how files are read, as for ``scan``; ``columns`` and ``rows`` above take precedence. Files whose rows stay in
            memory and take more than 64 times their size there, and more than ``max_expanded_bytes`` (by default 192 MiB), are
            refused (DC904).

    Images are tensors of their pixels, ``(height, width, channels)``, and recordings of their samples, ``(frames, channels)``;
    also those that are bytes in a column of a table or members of a tar shard.

    Parquet and CSV files are decoded on first use and stay in memory; ``.npy`` and Arrow files are memory-mapped.
    Warnings name shards that are absent although an index or a name says that they exist (DC911), malformed lines, text
    among numbers, and files whose fields differ from the first file. They also name numeric fields with nulls.
    ``default_collate`` fails on nulls, and for a ``SafeDataset`` such samples are bad (DC104) unless its schema says
    ``nullable``. A file that is one sample and cannot be read, such as an empty image or a Git LFS pointer among images, raises
    when its sample is asked for, and is a bad sample for a ``SafeDataset``. Raises ``UsageError`` and ``SourceError``.
    """
    options = options or ReadOptions()
    columns = options.columns if columns is None else tuple(columns)
    options = replace(options, columns=columns, rows=rows or options.rows)
    if isinstance(path, Mapping):
        files = {field: os.fspath(file) for field, file in path.items()}
        parts = parts_of_table(files, replace(options, columns=None, rows=None))
    elif isinstance(path, str | os.PathLike):
        published = parts_of_output(os.fspath(path), split, options)
        if published is None and split is not None:
            raise UsageError(f"{plain(os.fspath(path))}: is no output of 'datacheck run', so it has no split {split!r}")
        parts = published or _open_files([path], options)
    else:
        parts = _open_files(list(path), options)
    return FileDataset(parts, columns)


def _open_files(paths: Sequence[PathLike], options: ReadOptions) -> list[Part]:
    """The parts of files that no run published. Warns of shards that are missing or promised by no index."""
    inputs = discover(paths, options)
    parts = parts_of_files(inputs)
    _warn_of(check_indexes(inputs))
    return parts


def _warn_of(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.severity is not Severity.INFO:
            warn_at_caller(render_finding(finding))


class FileDataset(Dataset[Any]):
    """See :func:`open_dataset`."""

    def __init__(self, parts: Sequence[Part], columns: tuple[str, ...] | None = None) -> None:
        self.parts = tuple(part for part in parts if part.num_rows)
        self.columns = columns
        self._starts = list(itertools.accumulate((part.num_rows for part in self.parts), initial=0))
        self._loaded: dict[int, _LoadedPart] = {}
        #: What the loaded parts take in memory, and their size.
        self._memory = _Memory()
        self._numbers: set[str] = set()
        self._dtypes: dict[str | None, str] | None = None
        #: Files, differences and fields that were warned of.
        self._reported: set[tuple[str, str]] = set()

    def is_number(self, path: str | None) -> bool:
        """Whether a field holds numbers or booleans in the files that were loaded."""
        return path is not None and any(path == name or path.startswith(f"{name}.") for name in self._numbers)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": {}, "_memory": _Memory()}

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Any:
        number, row = self._locate(index)
        return self._load(number).sample(row)

    def origin(self, index: int) -> SampleOrigin:
        """The file and row that a sample comes from."""
        number, row = self._locate(index)
        return replace(self.parts[number].origin(row), index=index if index >= 0 else index + len(self))

    def fingerprint(self) -> str:
        """Identifies these rows: their files, and which rows of them."""
        parts = [f"{part.uri} {part.row_start} {part.num_rows} {part.info.num_bytes}" for part in self.parts]
        return f"opened {self.columns} {parts}"

    def _locate(self, index: int) -> tuple[int, int]:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range: there are {len(self):,} samples")
        number = bisect.bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    def _load(self, number: int) -> _LoadedPart:
        if (unreadable := self.parts[number].error) is not None:
            raise unreadable.with_traceback(None)
        loaded = self._loaded.get(number)
        if loaded is None:
            memory = self._memory.with_file(self.parts[number])
            try:
                loaded = _LoadedPart(self.parts[number], self.columns, memory)
            except SourceError as error:
                # The error is kept, and the rows that were read would stay in its frames.
                traceback.clear_frames(error.__traceback__)
                raise
            # Files that are one sample each are many, and stay in the cache of the operating system.
            if self.parts[number].info.units[0].options.rows != "file":
                self._loaded[number], self._memory = loaded, memory
            self._numbers |= loaded.numbers
            self._warn_of_faults(self.parts[number], loaded)
            for field, rows in loaded.nulls.items():
                self._warn_of_nulls(self.parts[number], field, rows)
        return loaded

    def _warn_of_faults(self, part: Part, loaded: _LoadedPart) -> None:
        """Warn once of what could not be read of a file, and of fields that differ from the first file."""
        if not self._is_first("file", part.info.uri):
            return
        _warn_of(merge_findings(loaded.findings))
        if not loaded.dtypes:
            return
        self._dtypes = self._dtypes or loaded.dtypes
        others = "; ".join(islice(_differences(self._dtypes, loaded.dtypes), 3))
        if others and self._is_first("difference", others):
            warn_at_caller(
                f"{plain(part.info.uri)} has {plain(others, 300)}, unlike {plain(self.parts[0].info.uri)}: a batch of"
                " samples of both cannot be collated, or changes their dtypes; 'datacheck scan' compares all files"
            )

    def _is_first(self, kind: str, name: str) -> bool:
        """Whether nothing was reported of this name before."""
        known = len(self._reported)
        self._reported.add((kind, name))
        return len(self._reported) > known

    def _warn_of_nulls(self, part: Part, field: str, rows: Sequence[int]) -> None:
        if not self._is_first("field", field):
            return
        where = f"{plain(part.info.uri)}, {ordinal_list('row', rows[:MAX_EXAMPLES], len(rows) > MAX_EXAMPLES)}"
        warn_at_caller(
            f"DC104 '{plain(field)}' is null in {len(rows):,} of {part.num_rows:,} rows ({where}): samples hold None there,"
            " on which default_collate fails; wrap the dataset in SafeDataset, or drop or impute the nulls"
            " with 'datacheck run'"
        )


@dataclass(slots=True)
class _Memory:
    """The bytes in memory of the files that were loaded, and the bytes that the files have."""

    num_bytes: int = 0
    file_bytes: int = 0

    def with_file(self, part: Part) -> _Memory:
        return _Memory(self.num_bytes, self.file_bytes + part.info.num_bytes)

    def add(self, batch: Batch, part: Part) -> None:
        """Count a batch that stays in memory; raises ``SourceError`` (DC904) for far more than the files have."""
        self.num_bytes += sum(column.num_bytes for column in batch.columns)
        limit = max(part.info.units[0].options.max_bytes_kept, self.file_bytes * MAX_KEPT_RATIO)
        if self.num_bytes > limit:
            problem = (
                f"with its rows, those of the files opened so far take more than {limit:,} bytes of memory, and these files"
                f" have {self.file_bytes:,}"
            )
            remedy = (
                "if they are trusted, raise max_expanded_bytes: open_dataset(...,"
                " options=datacheck.ReadOptions(max_expanded_bytes=...))"
            )
            raise SourceError("DC904", part.info.uri, problem, remedy)


class _LoadedPart:
    """The batches of a part, with a reader for each column."""

    def __init__(self, part: Part, columns: tuple[str, ...] | None, memory: _Memory) -> None:
        batches = list(_read_bounded(part, memory))
        self._starts = list(itertools.accumulate((batch.num_rows for batch in batches), initial=0))
        if self._starts[-1] != part.num_rows:
            raise UsageError(f"{part.info.uri}: expected {part.num_rows:,} rows, got {self._starts[-1]:,}")
        self._readers = [_readers(batch, columns, part.info.uri) for batch in batches]
        if (decode := decoder_of(part.info.format)) is not None:
            self._readers = [
                {name: partial(_decoded, read, decode) for name, read in some.items()} for some in self._readers
            ]
        else:
            self._decode_media(batches, part.info.uri)
        self.dtypes = {column.name: _dtype_of(column, part) for column in batches[0].columns} if batches else {}
        self.findings = [finding for batch in batches for finding in reading_findings(batch, part.info.uri, Schema())]
        self.numbers: set[str] = set()
        self.nulls: dict[str, list[int]] = {}
        for batch, readers in zip(batches, self._readers, strict=True):
            self._find_nulls(batch, readers)

    def _decode_media(self, batches: Sequence[Batch], uri: str) -> None:
        """Let the bytes of images and recordings be read as tensors, in all batches of a column where they are in one."""
        for name in {name: None for some in self._readers for name in some}:
            columns = (column for batch in batches for column in batch.columns if column.name == name)
            if (kind := next(filter(None, map(media_in, columns)), None)) is None:
                continue
            try:
                decode = decoder_of(kind)
            except ImportError:
                library = {"image": "Pillow", "audio": "soundfile"}[kind]
                warn_at_caller(
                    f"DC008 '{plain(name or '')}' stays bytes, and whether they can be decoded is not checked"
                    f" ({plain(uri)}): {library} is not installed"
                )
                continue
            assert decode is not None
            for some in self._readers:
                if name in some:
                    some[name] = partial(_decoded_bytes, some[name], decode, (uri, name or ""))

    def _find_nulls(self, batch: Batch, names: Container[str | None]) -> None:
        """Note the columns of numbers, and the rows with nulls in them."""
        for column in batch.columns:
            if column.name is None or column.name not in names or isinstance(column.data, np.ndarray):
                continue
            for leaf in column.leaves():
                if not is_of_numbers(leaf):
                    continue
                self.numbers.add(column.name)
                if leaf.validity is not None:
                    rows = batch.file_rows(distinct(leaf.rows(np.flatnonzero(~leaf.validity))))
                    self.nulls.setdefault(leaf.path or column.name, []).extend(rows.tolist())

    def sample(self, row: int) -> Any:
        number = bisect.bisect_right(self._starts, row) - 1
        readers, position = self._readers[number], row - self._starts[number]
        if None in readers:
            return readers[None](position)
        return {name: read(position) for name, read in readers.items()}


def _read_bounded(part: Part, memory: _Memory) -> Iterator[Batch]:
    """The batches of a part, which stay in memory; raises ``SourceError`` (DC904) for too many bytes."""
    for unit in part.info.units:
        for batch in get_source(unit.format).read(unit):
            memory.add(batch, part)
            if batch.counts_rows:
                yield batch


def _dtype_of(column: Column, part: Part) -> str:
    """The dtype of a column; empty in a format without dtypes, where each file gives its own."""
    if not get_format(part.info.format).has_dtypes:
        return ""
    kind = column.data.dtype if isinstance(column.data, np.ndarray) else column.data.type
    return column.dtype or str(kind)


def _differences(known: Mapping[str | None, str], here: Mapping[str | None, str]) -> Iterator[str]:
    yield from (f"no {name!r}" for name in known if name not in here)
    yield from (f"an extra {name!r}" for name in here if name not in known)
    changed = [name for name in known if here.get(name, known[name]) != known[name]]
    yield from (f"{name!r} as {here[name]} instead of {known[name]}" for name in changed)


def numbers_of(dataset: Any) -> Callable[[str | None], bool] | None:
    """The function that tells which fields of a dataset of files hold numbers; None for any other dataset."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset.is_number if isinstance(dataset, FileDataset) else None


def _readers(batch: Batch, columns: tuple[str, ...] | None, uri: str) -> dict[str | None, _Reader]:
    chosen = {column.name: column for column in batch.columns}
    if columns is not None and None not in chosen:
        missing = [name for name in columns if name not in chosen]
        if missing:
            raise UsageError(f"{uri}: no column {missing[0]!r}; columns: {', '.join(map(str, chosen))}")
        chosen = {name: chosen[name] for name in columns}
    return {name: _reader(column) for name, column in chosen.items()}


def _reader(column: Column) -> _Reader:
    if isinstance(column.data, np.ndarray):
        return _array_reader(column.data, column.dtype)
    dense = _dense(column, column.data.type)
    if dense is not None:
        return _array_reader(dense, None)
    data = column.data
    if pa.types.is_list(data.type) or pa.types.is_large_list(data.type):
        return lambda row: _list_value(data[row])
    flat = next(iter(column.leaves()))
    if flat.is_numeric and flat.validity is not None:
        read, validity = _array_reader(flat.values, None), flat.validity
        return lambda row: read(row) if validity[row] else None
    return lambda row: data[row].as_py()


def _dense(column: Column, kind: pa.DataType) -> Array | None:
    """An Arrow column of numbers, or of lists of equal shape, as an array with rows first; None for any other."""
    leaves = list(column.leaves())
    last = leaves[-1]
    if (
        len(leaves) > 2
        or pa.types.is_struct(kind)
        or not last.is_numeric
        or any(leaf.validity is not None for leaf in leaves)
    ):
        return None
    values: Array = last.values
    if not last.levels:
        return values
    level = last.levels[0]
    if len(last.levels) > 1 or not isinstance(level, Regular) or level.axes is not None:
        return None
    return values.reshape(level.shape)


def _decoded(read: _Reader, decode: Callable[[Any], Array], row: int) -> torch.Tensor:
    return _tensor(decode(read(row)))


def _decoded_bytes(read: _Reader, decode: Callable[[Any], Array], place: tuple[str, str], row: int) -> Any:
    """A value of a column of images or recordings; ``place`` is its file and its name."""
    value = read(row)
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None:
        return value
    uri, name = place
    try:
        return _tensor(decode(content))
    except Exception as error:  # libraries raise anything on damaged bytes
        raise SourceError("DC901", uri, f"'{name}' cannot be decoded: {problem_of(error)}") from error


def _list_value(scalar: Any) -> Any:
    if not scalar.is_valid:
        return None
    values = scalar.values
    if values.null_count or not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return scalar.as_py()
    return _tensor(values.to_numpy(zero_copy_only=False))


def _array_reader(data: Array, dtype: str | None) -> _Reader:
    if dtype in FLOAT_FORMATS:
        wanted = getattr(torch, dtype)
        return lambda row: _tensor(data[row]).view(wanted)
    if data.dtype.kind in "?biufc" and data.dtype.itemsize <= 16 and data.dtype != np.longdouble:
        if not data.dtype.isnative:
            native = data.dtype.newbyteorder("=")
            return lambda row: torch.from_numpy(np.array(data[row], native))
        return lambda row: _tensor(data[row])
    return lambda row: data[row]


def _tensor(values: Any) -> torch.Tensor:
    # A copy, since files are mapped read-only.
    return torch.from_numpy(np.array(values))
