"""Files as a data set of samples that know where they come from."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from datacheck.batch import Batch, Column
from datacheck.errors import UsageError
from datacheck.leaves import FLOAT_FORMATS, Regular
from datacheck.sources import get_source
from datacheck.sources.base import ReadOptions
from datacheck.torch.loader.provenance import SampleOrigin
from datacheck.torch.loader.published import Part, parts_of_files, parts_of_output, parts_of_table

__all__ = ["OpenedDataset", "open_dataset"]

Array = np.ndarray[Any, Any]
PathLike: TypeAlias = str | os.PathLike[str]
#: Gives the value of a column at a row.
_Reader: TypeAlias = Callable[[int], Any]


def open_dataset(
    path: PathLike | Sequence[PathLike] | Mapping[str, PathLike],
    *,
    split: str | None = None,
    columns: Sequence[str] | None = None,
) -> OpenedDataset:
    """A map-style data set over files; each sample knows its file and row.

    ::

        dataset = open_dataset("out/weather", split="train")      # what 'datacheck run' published
        dataset.origin(17)                                        # the row of the original file

    A sample is a dict of its fields: tensors for numbers, lists and arrays, Python's own values for text and times, None
    for a null. The one array of an ``.npy`` without a name is a tensor, not a dict.

    Args:
        path: the output of ``datacheck run``, a split of it, or a file in it: origins are then the *original* file and
            row. Or any files that datacheck reads, folders and globs, whose origins they are themselves. Or ``.npy`` files
            by field, which belong together row by row.
        split: which split of an output.
        columns: the fields of the samples; all unless set. Text and times cannot be collated by default.

    Parquet and CSV are decoded when a sample of a file is first asked for, and stay in memory; ``.npy`` and Arrow files
    are mapped. Raises ``UsageError`` and ``SourceError``.
    """
    options = ReadOptions() if columns is None else ReadOptions(columns=tuple(columns))
    if isinstance(path, Mapping):
        parts = parts_of_table({field: os.fspath(file) for field, file in path.items()}, ReadOptions())
    elif isinstance(path, str | os.PathLike):
        parts = parts_of_output(Path(path), split, options) or parts_of_files([path], options)
    else:
        parts = parts_of_files(list(path), options)
    return OpenedDataset(parts, None if columns is None else tuple(columns))


class OpenedDataset(Dataset[Any]):
    """See :func:`open_dataset`."""

    def __init__(self, parts: Sequence[Part], columns: tuple[str, ...] | None = None) -> None:
        self.parts = tuple(part for part in parts if part.num_rows)
        self.columns = columns
        self._starts = list(itertools.accumulate((part.num_rows for part in self.parts), initial=0))
        self._tables: dict[int, _Table] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}}

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Any:
        number, row = self._place(index)
        return self._table(number).sample(row)

    def origin(self, index: int) -> SampleOrigin:
        """The file and the row that a sample comes from."""
        number, row = self._place(index)
        return replace(self.parts[number].origin(row), index=index if index >= 0 else index + len(self))

    def fingerprint(self) -> str:
        """What tells these rows from others: the files they come from, and which of their rows they are."""
        told = [f"{part.uri} {part.row_start} {part.num_rows} {part.info.num_bytes}" for part in self.parts]
        return f"opened {self.columns} {told}"

    def _place(self, index: int) -> tuple[int, int]:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range: there are {len(self):,} samples")
        number = bisect.bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    def _table(self, number: int) -> _Table:
        table = self._tables.get(number)
        if table is None:
            table = self._tables[number] = _Table(self.parts[number], self.columns)
        return table


class _Table:
    """The batches of a part, each column with a reader of its values."""

    def __init__(self, part: Part, columns: tuple[str, ...] | None) -> None:
        batches = [
            batch for unit in part.info.units for batch in get_source(unit.format).read(unit) if batch.counts_rows
        ]
        self._starts = list(itertools.accumulate((batch.num_rows for batch in batches), initial=0))
        if self._starts[-1] != part.num_rows:
            raise UsageError(f"{part.info.uri}: it has {self._starts[-1]:,} rows, and should have {part.num_rows:,}")
        self._readers = [_readers(batch, columns, part.info.uri) for batch in batches]

    def sample(self, row: int) -> Any:
        number = bisect.bisect_right(self._starts, row) - 1
        readers, place = self._readers[number], row - self._starts[number]
        if None in readers:
            return readers[None](place)
        return {name: read(place) for name, read in readers.items()}


def _readers(batch: Batch, columns: tuple[str, ...] | None, uri: str) -> dict[str | None, _Reader]:
    chosen = {column.name: column for column in batch.columns}
    if columns is not None and None not in chosen:
        missing = [name for name in columns if name not in chosen]
        if missing:
            raise UsageError(f"{uri}: there is no column {missing[0]!r}; there are {', '.join(map(str, chosen))}")
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
    """An Arrow column of numbers, or of lists of one shape, as an array with the rows first; None for any other."""
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
    # A copy, since files are mapped for reading only.
    return torch.from_numpy(np.array(values))
