"""Data in memory: NumPy, Arrow, pandas, polars and torch objects, and mappings and sequences of them.

Of these libraries only NumPy and Arrow are imported here: a pandas object can only exist once pandas is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import no_rows, num_bytes_of
from datacheck.batch import Batch, Column
from datacheck.errors import UsageError
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, split_rows
from datacheck.sources.huggingface import batches_of_dataset, is_dataset, is_dataset_dict
from datacheck.sources.media import with_media
from datacheck.sources.members import plan_members
from datacheck.sources.pandas_columns import pandas_columns
from datacheck.sources.structure import batches_of_array, batches_of_table, find_arrays, to_column
from datacheck.storage.base import Fingerprint
from datacheck.text import join_limited

#: The name of data in memory, in place of a path.
MEMORY_URI = "<memory>"

Array = np.ndarray[Any, Any]

_KNOWN = "paths, NumPy, Arrow, pandas, polars, Hugging Face or torch data, or mappings and sequences of them"


class MemorySource:
    """Reads the data of a unit that is in memory already."""

    format: ClassVar[str] = "memory"

    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        raise NotImplementedError("data in memory has no header")

    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        return map(with_media, [unit.data] if isinstance(unit.data, Batch) else _batches(unit.data))


def parts_of(data: Any) -> dict[str, Any]:
    """The datasets that data in memory consists of, by what findings call them: each split of a ``DatasetDict``."""
    return (
        {f"{MEMORY_URI}/{split}": part for split, part in data.items()} if is_dataset_dict(data) else {MEMORY_URI: data}
    )


def batches_of(data: object) -> tuple[str, Iterator[Batch]]:
    """Data in memory as batches, and ``MEMORY_URI``.

    NaN stays NaN and null stays null, and images and audio are looked into. Raises ``UsageError`` for data of an unknown type.
    """
    return MEMORY_URI, map(with_media, _batches(data))


def _batches(data: Any) -> Iterator[Batch]:
    torch = sys.modules.get("torch")
    if is_dataset(data):
        return batches_of_dataset(data)
    if is_dataset_dict(data):
        raise UsageError(f"got a dataset with the splits {join_limited(list(data))}; pass one of them")
    if is_pandas(data):
        return _of_columns(pandas_columns(data), len(data))
    if isinstance(data, pa.Table | pa.RecordBatch | pa.RecordBatchReader):
        return _of_record_batches(data)
    if isinstance(data, pa.Array | pa.ChunkedArray):
        return _of_arrow_array(data)
    if isinstance(data, np.ndarray):
        return _of_array(data)
    if torch is not None and isinstance(data, torch.nn.Module):
        return _of_structure(data.state_dict())
    if isinstance(data, Mapping) and any(map(_is_frame_or_series, data.values())):
        return _of_mapping(data)
    is_of_torch = torch is not None and isinstance(data, torch.Tensor | torch.utils.data.TensorDataset)
    if is_of_torch or isinstance(data, Mapping | list | tuple | set | float | complex | np.generic):
        return _of_structure(data, is_all=True)
    if hasattr(data, "__arrow_c_stream__"):
        return _of_stream(data)
    if hasattr(data, "__array__"):
        return _of_array(np.asarray(data))
    raise UsageError(f"cannot check data of type {type(data).__name__}; pass {_KNOWN}")


def _nothing_in(data: Any) -> str:
    kind = type(data).__name__
    if not len(data):
        return f"got an empty {kind}; pass {_KNOWN}"
    if isinstance(data, list | tuple) and any(isinstance(item, str) for item in data):
        other = next(type(item).__name__ for item in data if not isinstance(item, str))
        return f"expected a {kind} of paths only, got one with a {other}, too"
    if isinstance(data, list | tuple) and all(isinstance(item, Mapping) for item in data):
        return f"got a {kind} of records; pass pyarrow.Table.from_pylist(data), or {_KNOWN}"
    example = "pandas.DataFrame(data)" if isinstance(data, Mapping) else "numpy.asarray(data)"
    return f"got a {kind} of plain integers or text without an array; pass {example}, or {_KNOWN}"


def is_pandas(data: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame | pandas.Series | pandas.Index)


def _is_frame_or_series(data: object) -> bool:
    return is_pandas(data) or isinstance(data, pa.Array | pa.ChunkedArray) or hasattr(data, "__arrow_c_stream__")


def _of_columns(columns: list[Column], num_rows: int) -> Iterator[Batch]:
    """Whole columns, in slices."""
    row_bytes = sum(column.num_bytes for column in columns) / max(num_rows, 1)
    usable = [column for column in columns if not column.problem]
    for start, count in split_rows(num_rows, row_bytes):
        parts = [replace(column, data=column.data[start : start + count]) for column in usable]
        yield Batch(tuple(parts), count, start)
    for column in columns:
        if column.problem:
            yield Batch((column,), 0, counts_rows=False)


def _of_array(data: Array) -> Iterator[Batch]:
    if data.ndim == 0 or (data.flags.f_contiguous and not data.flags.c_contiguous):
        # Rows of an array in Fortran order are not contiguous: it is checked in place, as a whole.
        yield Batch((Column(None, data),), len(data) if data.ndim else 1)
        return
    for start, count in split_rows(len(data), data.nbytes / max(len(data), 1)):
        yield Batch((Column(None, data[start : start + count]),), count, start)


def _of_record_batches(data: pa.Table | pa.RecordBatch | pa.RecordBatchReader) -> Iterator[Batch]:
    parts = [data] if isinstance(data, pa.RecordBatch) else data.to_batches() if isinstance(data, pa.Table) else data
    row = 0
    for part in parts:
        for start, count in split_rows(part.num_rows, num_bytes_of(part) / max(part.num_rows, 1)):
            yield Batch.from_arrow(part.slice(start, count), row + start)
        row += part.num_rows
    if row == 0:
        yield Batch.from_arrow(no_rows(data.schema))


def _of_arrow_array(data: pa.Array | pa.ChunkedArray) -> Iterator[Batch]:
    row = 0
    for chunk in data.chunks if isinstance(data, pa.ChunkedArray) else [data]:
        yield Batch((Column(None, chunk),), len(chunk), row)
        row += len(chunk)


def _of_stream(data: Any) -> Iterator[Batch]:
    """Anything that exports Arrow memory: a polars DataFrame or Series, a DuckDB relation."""
    try:
        reader = pa.RecordBatchReader.from_stream(data)
    except (pa.ArrowInvalid, TypeError):
        batches, name = _of_arrow_array(pa.chunked_array(data)), getattr(data, "name", None)
        return _named(batches, str(name)) if name else batches
    return _of_record_batches(reader)


def _of_mapping(data: Mapping[Any, Any]) -> Iterator[Batch]:
    """A mapping with frames or series: columns of one table if they have equal lengths, else each value on its own."""
    columns = [_as_column(str(key), value) for key, value in data.items()]
    whole = [column for column in columns if column is not None]
    if len(whole) == len(columns) and len({len(column) for column in whole if not column.problem}) == 1:
        yield from _of_columns(whole, max(map(len, whole)))
        return
    for (key, value), column in zip(data.items(), columns, strict=True):
        if column is not None:
            yield from _of_columns([column], len(column))
        elif _is_frame_or_series(value):
            yield from _named(_batches(value), str(key))
        else:
            yield from _of_structure({key: value})


def _as_column(name: str, value: Any) -> Column | None:
    """A series, array or dense tensor as a column; None for anything else."""
    if is_pandas(value) and not hasattr(value, "columns"):
        return replace(pandas_columns(value)[0], name=name)
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return Column(name, value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value)
    if not isinstance(value, np.ndarray):
        found = find_arrays(MEMORY_URI, value, 1) if _is_tensor(value) else []
        value = next((one.values for one in found if not one.problem and one.rows is None), None)
    return to_column(name, value) if value is not None and value.ndim else None


def _is_tensor(data: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(data, torch.Tensor)


def _named(batches: Iterator[Batch], prefix: str) -> Iterator[Batch]:
    for batch in batches:
        columns = [replace(one, name=f"{prefix}.{one.name}" if one.name else prefix) for one in batch.columns]
        yield batch.with_columns(tuple(columns))


def _of_structure(data: object, *, is_all: bool = False) -> Iterator[Batch]:
    """The arrays in a structure. If the structure ``is_all`` that the user passed, finding none is an error."""
    options = ReadOptions()
    found = find_arrays(MEMORY_URI, data, options.max_members)
    if is_all and not found:
        raise UsageError(_nothing_in(data))
    info = plan_members(MEMORY_URI, "memory", Fingerprint(0), [one.member() for one in found], options)
    if info.aligned:
        num_rows = info.num_rows or 0
        yield from batches_of_table(found, 0, num_rows)
        return
    for one in found:
        yield from (replace(batch, is_alone=True) for batch in batches_of_array(one, 0, one.num_rows))
