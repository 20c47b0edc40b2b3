"""The quarantine: original, unrepaired rows, bit for bit, each with its codes, reason and origin.

It is Parquet whatever the input's format, so that one tool opens all of it. The input's columns are followed by ``codes``
(list of strings), ``reason``, ``file``, ``row_group`` and ``row``. If the data already has a column of that name, it is
``datacheck_codes`` and so on. The second of two input columns with the same name becomes ``name.2``, since few readers
accept duplicate names. Types that Parquet lacks are stored as follows:

- NumPy arrays as floats with a last axis of 2 (complex numbers) or as raw bytes (long doubles, structured dtypes);
- Arrow columns (unions, intervals) in an Arrow IPC file instead of a Parquet file.

The schema's metadata has dtype and shape of the rows of each NumPy array, from which :func:`restored_array` makes it again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column, MalformedRow
from datacheck.codes import MALFORMED_ROW
from datacheck.errors import AccountingError, OutputError, UsageError
from datacheck.leaves import FLOAT_FORMATS
from datacheck.sinks.arrays import npy_description
from datacheck.sinks.arrow import ArrowSink
from datacheck.sinks.categorical import Categorical
from datacheck.sinks.columns import LOGICAL_DTYPE_KEY, arrow_array, arrow_schema, column_name, tensor_array
from datacheck.sinks.options import TableSink
from datacheck.sinks.parquet import ParquetSink, leaf_paths
from datacheck.sinks.writer import FileWriter
from datacheck.text import plain, valid_text

#: Schema metadata: JSON with the dtype and row shape of each NumPy array, and whether it has no name.
NUMPY_KEY = b"datacheck:numpy"
_EXTRA_TYPES: dict[str, pa.DataType] = {
    "codes": pa.list_(pa.string()),
    "reason": pa.string(),
    "file": pa.string(),
    "row_group": pa.int32(),
    "row": pa.int64(),
}
_PREFIX = "datacheck_"


class QuarantineWriter:
    """Writes the quarantined rows of one unit of ``input_uri`` to ``<uri_base>.parquet``.

    The file is created with the first row; without rows there is none. ``template`` gives the columns.
    """

    def __init__(self, uri_base: str, template: Batch, input_uri: str) -> None:
        self.input_uri = input_uri
        self.num_rows = 0
        named = _with_unique_names(template)
        self._template = _storable(named)
        kinds = {
            column_name(column): _numpy_kind(column) for column in named.columns if isinstance(column.data, np.ndarray)
        }
        metadata: dict[str | bytes, str | bytes] = {NUMPY_KEY: json.dumps(kinds).encode()} if kinds else {}
        self._sink: TableSink = ParquetSink(metadata=metadata)
        try:
            leaf_paths(arrow_schema(self._template), self._template.columns)
        except OutputError:
            self._sink = ArrowSink(metadata=metadata)
        self.uri = uri_base + self._sink.suffix
        self._names = _extra_names({column_name(column) for column in self._template.columns})
        self._writer: FileWriter | None = None

    def write(self, batch: Batch, codes: Sequence[tuple[str, ...]], reasons: Sequence[str]) -> None:
        """Append rows as they were read, each with its codes and reason; raises ``OutputError``.

        The batch's malformed lines are not among its rows: pass them to ``write_malformed``.
        """
        if not len(codes) == len(reasons) == batch.num_rows:
            raise AccountingError(
                f"{batch.num_rows} quarantined rows have {len(codes)} codes and {len(reasons)} reasons"
            )
        columns = _storable(_with_unique_names(batch)).columns
        rows = batch.file_rows(np.arange(batch.num_rows))
        self._append([*columns], codes, reasons, rows, batch.row_group)

    def write_malformed(self, malformed: Sequence[MalformedRow], codes: tuple[str, ...] = (MALFORMED_ROW,)) -> None:
        """Append malformed lines: nulls in the data's columns, the problem and the line's text as the reason."""
        columns = [_nulls(column, len(malformed)) for column in self._template.columns]
        reasons = [f"{line.problem}: {line.text}" for line in malformed]
        rows = np.array([line.row for line in malformed], np.int64)
        self._append(columns, [codes] * len(malformed), reasons, rows, None)

    def _append(
        self,
        columns: list[Column],
        codes: Sequence[tuple[str, ...]],
        reasons: Sequence[str],
        rows: np.ndarray[Any, np.dtype[np.int64]],
        row_group: int | None,
    ) -> None:
        count = len(rows)
        if not count:
            return
        texts = Categorical.of(reasons)
        extras = {
            "codes": Categorical.of(codes).to_arrow(_EXTRA_TYPES["codes"]),
            "reason": Categorical(tuple(map(valid_text, texts.values)), texts.indices).to_arrow(pa.string()),
            "file": pa.repeat(pa.scalar(valid_text(self.input_uri)), count),
            "row_group": pa.nulls(count, pa.int32())
            if row_group is None
            else pa.repeat(pa.scalar(row_group, pa.int32()), count),
            "row": pa.array(rows),
        }
        columns += [Column(self._names[name], array) for name, array in extras.items()]
        if self._writer is None:
            self._writer = self._sink.open(self.uri, self._whole_template())
        self._writer.write(Batch(tuple(columns), count))
        self.num_rows += count

    def _whole_template(self) -> Batch:
        extras = [Column(self._names[name], pa.array([], kind)) for name, kind in _EXTRA_TYPES.items()]
        return Batch((*self._template.columns, *extras), 0)

    def close(self) -> int:
        """Finish the file; returns its size in bytes, 0 if there were no rows and there is no file."""
        return self._writer.close() if self._writer is not None else 0

    def abort(self) -> None:
        """Remove what was written."""
        if self._writer is not None:
            self._writer.abort()


def _extra_names(taken: set[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in _EXTRA_TYPES:
        chosen = name
        while chosen in taken:
            chosen = _PREFIX + chosen
        names[name] = chosen
        taken = taken | {chosen}
    return names


def _with_unique_names(batch: Batch) -> Batch:
    """The batch with unique column names: the second ``name`` becomes ``name.2``, and so on."""
    taken = {column_name(column) for column in batch.columns}
    if len(taken) == len(batch.columns):
        return batch
    seen: set[str] = set()
    columns = []
    for column in batch.columns:
        name, number = column_name(column), 1
        while name in seen or (number > 1 and name in taken):
            number += 1
            name = f"{column_name(column)}.{number}"
        seen.add(name)
        columns.append(replace(column, name=name))
    return batch.with_columns(tuple(columns))


def _storable(batch: Batch) -> Batch:
    """The batch with replacements for NumPy arrays that Arrow has no type for."""
    return batch.with_columns(tuple(map(_replacement, batch.columns)))


def _replacement(column: Column) -> Column:
    if not isinstance(column.data, np.ndarray):
        return column
    try:
        arrow_array(column)
    except OutputError:
        if column.problem or column.data.dtype.hasobject:
            raise
    else:
        return column
    values = column.data.reshape(1) if column.data.ndim == 0 else column.data
    native_dtype = values.dtype.newbyteorder("=")
    if native_dtype in (np.complex64, np.complex128) and 0 not in values.shape[1:]:
        native = np.ascontiguousarray(values, native_dtype)
        return replace(column, data=tensor_array(native.view(native.real.dtype).reshape(*values.shape, 2)))
    size = math.prod(values.shape[1:]) * values.dtype.itemsize
    if not size:
        return replace(column, data=pa.array([b""] * len(values), pa.binary()))
    buffer = pa.py_buffer(np.ascontiguousarray(values).tobytes())
    return replace(column, data=pa.Array.from_buffers(pa.binary(size), len(values), [None, buffer]))


def _numpy_kind(column: Column) -> dict[str, object]:
    values = column.data
    assert isinstance(values, np.ndarray)
    kind: dict[str, object] = {"dtype": npy_description(values.dtype), "shape": list(values.shape[1:])}
    return kind if column.name is not None else {**kind, "has_name": False}


def restored_array(values: pa.ChunkedArray, field: pa.Field, kind: Mapping[str, Any]) -> Column:
    """The NumPy array whose rows are in a column of a quarantine, which may have been edited since.

    ``field`` is the column as it was written, ``kind`` what the schema's metadata says of the array. In arrays of floats a
    null is NaN, as which pandas writes it. Raises ``UsageError`` for rows of another shape, and for values that do not fit.
    """
    logical = (field.metadata or {}).get(LOGICAL_DTYPE_KEY, b"").decode() or None
    dtype = FLOAT_FORMATS[logical] if logical else np.lib.format.descr_to_dtype(kind["dtype"])
    shape, stored = tuple(kind["shape"]), field.type
    row_shape = tuple(stored.shape) if isinstance(stored, pa.FixedShapeTensorType) else ()
    item = stored.value_type if row_shape else stored
    flat = _flat_rows(values, math.prod(row_shape), field.name, shape)
    if logical and not pa.types.is_integer(flat.type):
        raise UsageError(
            f"column {plain(field.name)!r} of the fixed rows is {flat.type}, and the quarantine has {logical} as the integers"
            f" of its bits: give them as {item}"
        )
    if flat.type != item:
        try:
            flat = flat.cast(item)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UsageError(
                f"column {plain(field.name)!r} of the fixed rows is {flat.type}, and the array has"
                f" {logical or dtype.name}: {plain(str(error), 120)}"
            ) from None
    if flat.null_count:
        if not pa.types.is_floating(item):
            raise UsageError(f"column {plain(field.name)!r} of the fixed rows has a null, which an array cannot hold")
        flat = flat.fill_null(math.nan)
    if pa.types.is_fixed_size_binary(item) or pa.types.is_binary(item):
        data = np.frombuffer(b"".join(flat.to_pylist()), dtype)
    else:
        data = np.ascontiguousarray(flat.to_numpy(zero_copy_only=False))
        data = data.view(dtype.newbyteorder("=")) if dtype.kind == "c" else data
    name = field.name if kind.get("has_name", True) else None
    return Column(name, data.astype(dtype, copy=False).reshape(len(values), *shape), logical)


def _flat_rows(values: pa.ChunkedArray, size: int, name: str, shape: tuple[int, ...]) -> pa.Array:
    """The values of all rows, each of which has ``size`` of them in lists of any depth."""
    flat = values.combine_chunks()
    flat = flat.storage if isinstance(flat.type, pa.BaseExtensionType) else flat
    bounds = np.arange(len(flat) + 1)
    while pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        if flat.null_count:
            raise UsageError(f"column {plain(name)!r} of the fixed rows has a null in place of a list")
        if pa.types.is_fixed_size_list(flat.type):
            bounds = bounds * flat.type.list_size
        else:
            offsets = flat.offsets.to_numpy()
            bounds = (offsets - offsets[0])[bounds]
        flat = flat.flatten()
    if (wrong := np.flatnonzero(np.diff(bounds) != size)).size:
        found = int(np.diff(bounds)[wrong[0]])
        raise UsageError(
            f"column {plain(name)!r} of the fixed rows: row {wrong[0]} has {found:,} values, and rows of the array have"
            f" {size:,}, of shape {list(shape)}"
        )
    return flat


def _nulls(column: Column, count: int) -> Column:
    return replace(column, data=pa.nulls(count, arrow_array(column).type))
