"""Cleaned rows as data in memory, of the type that the data had: frames, tables, datasets, arrays, mappings, lists of dicts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import decode, is_encoded, take_rows
from datacheck.batch import Column
from datacheck.errors import UsageError
from datacheck.leaves import FLOAT_FORMATS, IntArray
from datacheck.sources.huggingface import is_dataset, is_dataset_dict
from datacheck.sources.memory import is_pandas
from datacheck.text import plain

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _RowDicts:
    """A list of dicts, one a row, and the table that they are."""

    rows: Sequence[Mapping[str, Any]]
    table: pa.Table

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class KeptColumn:
    """The kept rows of a column, batch by batch.

    ``is_repaired`` says that it has other values than the data, ``is_converted`` that it has another dtype.
    """

    name: str | None
    parts: Sequence[Column]
    is_repaired: bool
    is_converted: bool

    @property
    def arrays(self) -> list[Any]:
        return [part.data for part in self.parts]

    @property
    def is_numpy(self) -> bool:
        return isinstance(self.parts[0].data, np.ndarray)


def with_rows(data: Any) -> Any:
    """The data as what can be cleaned in memory, and read more than once; raises ``UsageError`` for anything else."""
    if is_dataset_dict(data):
        raise UsageError("got a dataset with several splits; clean each, with the statistics of the training split")
    if is_dataset(data):
        if not hasattr(data, "select"):
            raise UsageError(
                "a streamed dataset has no rows yet; wrap it in datacheck.torch.SafeDataset, or load it whole"
            )
        return data
    if isinstance(data, list | tuple) and data and all(isinstance(row, Mapping) for row in data):
        return _RowDicts(data, _table_of(data))
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, Mapping):
        _check_mapping(data)
        return data
    if _is_column(data) or _is_frame(data):
        if getattr(data, "ndim", 1) == 0:
            raise UsageError("an array without axes has no rows; pass one whose first axis is the rows")
        return data
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    if hasattr(data, "__array__"):
        return with_rows(np.asarray(data))
    kind = type(data).__name__
    hint = "; call .collect() first" if kind == "LazyFrame" else ""
    raise UsageError(
        f"cannot clean data of type {kind}{hint}; pass a pandas or polars frame, an Arrow table, a Hugging Face dataset, a "
        "NumPy array, a torch tensor, a mapping of arrays or lists with equal numbers of rows, or a list of dicts"
    )


def _table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    return pa.table({name: _arrow_of(name, [row.get(name) for row in rows]) for name in names})


def _arrow_of(name: str, values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise UsageError(f"{plain(name)!r}: values of different types: {plain(str(error), 200)}") from error


def _array_of(name: str, values: Sequence[Any]) -> Any:
    """A list as an array of NumPy if it is one of numbers, else of Arrow."""
    is_plain = all(isinstance(value, bool | int | float | complex) for value in values)
    return np.asarray(values) if is_plain else _arrow_of(name, values)


def readable(data: Any) -> Any:
    """What :func:`with_rows` returned, as data that can be checked: lists become arrays."""
    if isinstance(data, _RowDicts):
        return data.table
    if isinstance(data, Mapping):
        return {key: _array_of(str(key), v) if isinstance(v, list | tuple) else v for key, v in data.items()}
    return data


def _check_mapping(data: Mapping[Any, Any]) -> None:
    lengths = {}
    for key, value in data.items():
        if not _is_column(value) and not isinstance(value, list | tuple):
            raise UsageError(f"{plain(str(key))!r}: expected an array, got {type(value).__name__}")
        if getattr(value, "ndim", 1) == 0:
            raise UsageError(f"{plain(str(key))!r}: an array without axes has no rows")
        lengths[str(key)] = len(value)
    if not lengths:
        raise UsageError("got an empty mapping; pass arrays by name")
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{plain(name)!r} {number:,}" for name, number in list(lengths.items())[:5])
        raise UsageError(
            f"the arrays have different numbers of rows ({listed}), so they do not form a table; clean each on its own"
        )


def _is_frame(data: Any) -> bool:
    return (is_pandas(data) and hasattr(data, "columns")) or isinstance(data, pa.Table) or _is_polars(data, "DataFrame")


def _is_column(data: Any) -> bool:
    if isinstance(data, np.ndarray | pa.Array | pa.ChunkedArray) or _is_polars(data, "Series"):
        return True
    return _is_tensor(data) or (is_pandas(data) and hasattr(data, "iloc") and not hasattr(data, "columns"))


def _is_polars(data: Any, name: str) -> bool:
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(data, getattr(polars, name))


def _is_tensor(data: Any) -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(data, torch.Tensor):
        return False
    if data.layout is not torch.strided or data.is_quantized or data.is_nested:
        raise UsageError("only dense tensors can be cleaned; call .to_dense() or .dequantize() first")
    return True


def num_rows_of(data: Any) -> int:
    """The number of rows of what :func:`with_rows` returned."""
    return len(next(iter(data.values()))) if isinstance(data, Mapping) else len(data)


def take_rows_of(data: Any, rows: IntArray) -> Any:
    """Some rows of the data, in its own type. The result shares no memory with it, but for the files of a dataset."""
    if is_dataset(data):
        return data.select(rows)
    if isinstance(data, _RowDicts):
        return [dict(data.rows[row]) for row in rows]
    if isinstance(data, Mapping):
        return {key: take_rows_of(value, rows) for key, value in data.items()}
    if is_pandas(data):
        return data.iloc[rows].copy()
    if isinstance(data, pa.Table):
        return pa.Table.from_arrays([_take(column, rows) for column in data.columns], schema=data.schema)
    if isinstance(data, pa.Array):
        return take_rows(data, rows)
    if isinstance(data, pa.ChunkedArray):
        return _take(data, rows)
    if _is_tensor(data):
        return data.detach()[sys.modules["torch"].from_numpy(rows)]
    return [data[row] for row in rows] if isinstance(data, list | tuple) else data[rows]


def _take(data: pa.ChunkedArray, rows: IntArray) -> pa.ChunkedArray:
    """Rows of a column, in ascending order, in its own type."""
    starts = np.cumsum([0, *map(len, data.chunks)])
    parts = np.split(rows, np.searchsorted(rows, starts[1:-1]))
    chunks = zip(data.chunks, parts, starts.tolist(), strict=False)
    return pa.chunked_array([take_rows(chunk, part - start) for chunk, part, start in chunks], data.type)


def column_type(column: Column) -> object:
    """What tells whether a column was converted: its dtype, or its Arrow type."""
    return column.data.dtype if isinstance(column.data, np.ndarray) else column.data.type


def rebuild_data(data: Any, columns: Sequence[KeptColumn], rows: IntArray, is_dropped: Callable[[str], bool]) -> Any:
    """The kept ``rows`` of the data, in its own type, with its columns and those that were added.

    A column of the data that neither ``is_dropped`` nor is among ``columns`` could not be read, and keeps its values.
    """
    if _is_column(data):
        return _rebuilt(data, columns[0], rows) if columns else take_rows_of(data, rows)
    labels, originals = _columns_of(data)
    left = dict(zip(_identities(column.name for column in columns), columns, strict=True))
    kept: list[tuple[Any, Any]] = []
    for label, identity, original in zip(labels, _identities(map(str, labels)), originals, strict=True):
        column = left.pop(identity, None)
        if column is not None:
            kept.append((label, _rebuilt(original, column, rows)))
        elif not is_dropped(str(label)):
            kept.append((label, take_rows_of(original, rows)))
    kept += [(column.name, _added(originals[0], column)) for column in left.values()]
    return _assembled(data, kept, rows)


def _identities(names: Iterable[str | None]) -> list[tuple[str | None, int]]:
    """Each name with how often it occurred before: two columns may have the same."""
    seen: Counter[str | None] = Counter()
    identities = []
    for name in names:
        identities.append((name, seen[name]))
        seen[name] += 1
    return identities


def _columns_of(data: Any) -> tuple[list[Any], list[Any]]:
    if isinstance(data, Mapping):
        return list(data), list(data.values())
    if is_dataset(data) or isinstance(data, _RowDicts):
        return _columns_of(_table_in(data))
    if isinstance(data, pa.Table):
        return list(data.column_names), list(data.columns)
    if is_pandas(data):
        return list(data.columns), [data.iloc[:, index] for index in range(data.shape[1])]
    return list(data.columns), list(data.get_columns())


def _table_in(data: Any) -> pa.Table:
    return data.table if isinstance(data, _RowDicts) else data.with_format("arrow")[:]


def _dataset_of(data: Any, table: pa.Table) -> Any:
    """A dataset like another one, with the rows of a table. A feature whose type has changed gets the table's type."""
    datasets = sys.modules["datasets"]
    features = datasets.Features.from_arrow_schema(table.schema.remove_metadata())
    known = data.features.arrow_schema
    for name in set(features) & set(data.features):
        if known.field(name).type == table.schema.field(name).type:
            features[name] = data.features[name]
    info = data.info.copy()
    info.features = features
    made = datasets.Dataset(table.replace_schema_metadata(None), info=info, split=data.split)
    shown = data.format
    return made.with_format(shown["type"], **shown["format_kwargs"]) if shown["type"] else made


def _assembled_dicts(data: _RowDicts, columns: list[tuple[Any, Any]], rows: IntArray) -> list[dict[str, Any]]:
    """Rows with their own values in every column that is as it was: Arrow would make lists of arrays in them."""
    names = {name for name, _ in columns}
    made = [{key: value for key, value in row.items() if key in names} for row in take_rows_of(data, rows)]
    for name, values in columns:
        old = _take(data.table[name], rows) if name in data.table.column_names else None
        if not values.equals(old):
            for row, value in zip(made, values.to_pylist(), strict=True):
                row[name] = value
    return made


def _assembled(data: Any, columns: list[tuple[Any, Any]], rows: IntArray) -> Any:
    if isinstance(data, Mapping):
        return dict(columns)
    values = [value for _, value in columns]
    if isinstance(data, _RowDicts):
        return _assembled_dicts(data, columns, rows)
    if is_dataset(data):
        return _dataset_of(data, _assembled(_table_in(data), columns, rows))
    if isinstance(data, pa.Table):
        fields = [
            data.schema.field(index).with_type(value.type)
            if (index := data.schema.get_field_index(name)) >= 0
            else pa.field(name, value.type)
            for name, value in columns
        ]
        return pa.Table.from_arrays(values, schema=pa.schema(fields, data.schema.metadata))
    if is_pandas(data):
        pandas = sys.modules["pandas"]
        index = data.index[rows]
        frame = pandas.concat([value.set_axis(index) for value in values], axis=1) if values else pandas.DataFrame()
        labels = [label for label, _ in columns]
        is_multi = isinstance(data.columns, pandas.MultiIndex) and all(isinstance(label, tuple) for label in labels)
        make = pandas.MultiIndex.from_tuples if is_multi else pandas.Index
        frame.columns = make(labels, names=data.columns.names) if is_multi else make(labels, name=data.columns.name)
        frame.index = index
        frame.attrs = dict(data.attrs)
        return frame
    return sys.modules["polars"].DataFrame([value.alias(name) for name, value in columns])


def _added(like: Any, column: KeptColumn) -> Any:
    """A column that was added, in the library of ``like``."""
    values = np.concatenate([np.asarray(array) for array in column.arrays])
    if is_pandas(like):
        return sys.modules["pandas"].Series(values)
    if isinstance(like, pa.Array | pa.ChunkedArray):
        return pa.array(values)
    if _is_polars(like, "Series"):
        return sys.modules["polars"].Series(values)
    return sys.modules["torch"].from_numpy(values) if _is_tensor(like) else values


def _rebuilt(original: Any, column: KeptColumn, rows: IntArray) -> Any:
    """One column of the data, with what is left of it."""
    if not (column.is_repaired or column.is_converted):
        return take_rows_of(original, rows)
    if column.is_numpy:
        values = _from_numpy(original, column)
        return values.tolist() if isinstance(original, list | tuple) else values
    array = pa.chunked_array(column.arrays)
    if is_pandas(original):
        return _pandas_series(array, original, is_converted=column.is_converted)
    if _is_polars(original, "Series"):
        series = sys.modules["polars"].Series(original.name, array)
        return series if column.is_converted else series.cast(original.dtype)
    if isinstance(original, pa.Array):
        return array.combine_chunks()
    if isinstance(original, list | tuple):
        return array.to_pylist()
    return np.asarray(array) if isinstance(original, np.ndarray) else array


def _from_numpy(original: Any, column: KeptColumn) -> Any:
    is_masked = any(isinstance(array, np.ma.MaskedArray) for array in column.arrays)
    values: Array = (np.ma.concatenate if is_masked else np.concatenate)(column.arrays)
    if is_pandas(original):
        return sys.modules["pandas"].Series(values, name=original.name)
    if not _is_tensor(original):
        # NumPy concatenates in native byte order.
        return values.astype(column.arrays[0].dtype, copy=False)
    torch = sys.modules["torch"]
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    dtype = column.parts[0].dtype
    if dtype in FLOAT_FORMATS:
        tensor = tensor.view(getattr(torch, str(dtype)))
    return tensor.to(original.device)


def _pandas_series(array: pa.ChunkedArray, original: Any, *, is_converted: bool) -> Any:
    """An Arrow column as a Series of the dtype that it had or, once converted, of one that holds its values."""
    pandas = sys.modules["pandas"]
    dtype, name = original.dtype, original.name
    if is_encoded(array.type):
        array = pa.chunked_array([decode(chunk) for chunk in array.chunks])
    if is_converted:
        has_gaps = array.null_count and (pa.types.is_integer(array.type) or pa.types.is_boolean(array.type))
        series = pandas.Series(pandas.arrays.ArrowExtensionArray(array), name=name)
        return series.convert_dtypes(dtype_backend="numpy_nullable") if has_gaps else array.to_pandas().rename(name)
    if isinstance(dtype, pandas.CategoricalDtype):
        values = pandas.Series(array.to_pylist(), name=name)
        new = [value for value in values.dropna().unique() if value not in dtype.categories]
        categories = (
            dtype.categories.append(pandas.Index(new, dtype=dtype.categories.dtype)) if new else dtype.categories
        )
        return values.astype(pandas.CategoricalDtype(categories, dtype.ordered))
    if hasattr(dtype, "__from_arrow__"):
        return pandas.Series(dtype.__from_arrow__(array), name=name)
    if dtype.kind == "O":
        values = np.empty(len(array), object)
        values[:] = array.to_pylist()
        return pandas.Series(values, name=name)
    return array.to_pandas().rename(name)
