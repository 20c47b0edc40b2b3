"""Arrow's layouts: the one place that knows which of them Arrow's own functions support, and what to do for the others.

Views, run-end-encoded and dictionary arrays have the values of a plain array in another layout, and few Arrow functions
take them, least of all inside lists and structs. The functions here take any array. Arrays that repeat a value by
reference (dictionaries, runs, views) can be far larger once decoded: :func:`decoded_bytes` tells how large before it happens.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.leaves import BoolArray, IntArray, arrow_validity

#: Layouts that few Arrow functions support yet, and the equivalent ones that all support.
_WITH_KERNELS = {pa.string_view().id: pa.large_string(), pa.binary_view().id: pa.large_binary()}
#: More decoded bytes than any limit: nothing beyond is counted, as counting would take memory itself.
_TOO_FAR = 1 << 40


def is_view(kind: pa.DataType) -> bool:
    """Whether a type is text or bytes in the view layout."""
    return kind.id in _WITH_KERNELS


def is_encoded(kind: pa.DataType) -> bool:
    """Whether arrays of a type repeat a value by reference."""
    return bool(pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind))


@lru_cache(maxsize=4096)
def may_repeat(kind: pa.DataType) -> bool:
    """Whether values of a type can be far larger than their buffers: it holds encoded values, or views of text or lists."""
    if isinstance(kind, pa.BaseExtensionType):
        return may_repeat(kind.storage_type)
    is_one = is_encoded(kind) or is_view(kind) or _is_list_view(kind)
    return is_one or any(may_repeat(kind.field(index).type) for index in range(kind.num_fields))


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def with_kernels(array: pa.Array) -> pa.Array:
    """A view array as one of the layout that all Arrow functions take; any other array unchanged."""
    kind = _WITH_KERNELS.get(array.type.id)
    return array if kind is None else array.cast(kind)


def _indices(rows: IntArray) -> pa.Array:
    """Row numbers as Arrow takes them. ``pa.array`` of a NumPy array imports pandas, which takes a second."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def take_rows(array: pa.Array, rows: IntArray) -> pa.Array:
    """The rows of any array, in the order given, in the array's own type."""
    try:
        return array.take(_indices(rows))
    except pa.ArrowNotImplementedError:
        pass
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, take_rows(array.storage, rows))
    if kind.id in _WITH_KERNELS:
        return with_kernels(array).take(_indices(rows)).cast(kind)
    if not len(rows):
        return array.slice(0, 0)
    if pa.types.is_union(kind):
        return _take_union(array, rows)
    # Concatenating works for nearly every layout: whole runs of neighbouring rows.
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    lengths = np.diff(np.append(starts, len(rows)))
    pieces = zip(rows[starts].tolist(), lengths.tolist(), strict=True)
    try:
        return pa.concat_arrays([array.slice(start, length) for start, length in pieces])
    except pa.ArrowNotImplementedError:
        return _take_through_codes(array, rows)


def _take_union(array: pa.Array, rows: IntArray) -> pa.Array:
    kind, indices = array.type, _indices(rows)
    names, numbers = [kind.field(index).name for index in range(kind.num_fields)], kind.type_codes
    codes = array.type_codes.take(indices)
    children = [array.field(index) for index in range(kind.num_fields)]
    if kind.mode == "dense":
        return pa.UnionArray.from_dense(codes, array.offsets.take(indices), children, names, numbers)
    return pa.UnionArray.from_sparse(codes, [take_rows(child, rows) for child in children], names, numbers)


def _take_through_codes(array: pa.Array, rows: IntArray) -> pa.Array:
    """Rows of an array whose values Arrow cannot copy: of its fields, or of positions in its values."""
    kind, indices = array.type, _indices(rows)
    if pa.types.is_struct(kind):
        children = [take_rows(array.field(index), rows) for index in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null().take(indices))
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(array.indices.take(indices), array.dictionary, ordered=kind.ordered)
    if pa.types.is_run_end_encoded(kind):
        ends = np.searchsorted(array.run_ends.to_numpy(zero_copy_only=False), rows + array.offset, side="right")
        run_ends = pa.array(np.arange(1, len(rows) + 1), kind.run_end_type)
        return pa.RunEndEncodedArray.from_arrays(run_ends, take_rows(array.values, ends), kind)
    raise pa.ArrowNotImplementedError(f"rows of {kind} cannot be copied")


def split_encoded(array: pa.Array) -> tuple[pa.Array, IntArray, BoolArray | None]:
    """A dictionary or run-end-encoded array as its distinct values, the position of each row's value, and the validity.

    The values are decoded themselves. The position of a null is arbitrary.
    """
    if pa.types.is_dictionary(array.type):
        values, indices = decode(array.dictionary), array.indices
        present = arrow_validity(indices)
        codes = (indices if present is None else indices.fill_null(0)).to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        values, present = decode(array.values), None
        ends = array.run_ends.to_numpy(zero_copy_only=False)
        codes = np.searchsorted(ends, np.arange(array.offset, array.offset + len(array)), side="right")
    nulls = arrow_validity(values)
    if nulls is not None:
        present = nulls[codes] if present is None else present & nulls[codes]
    return values, codes, present


def decode(array: pa.Array) -> pa.Array:
    """An array without dictionary, run-end and view layouts on the outside; those inside a list or struct stay."""
    if not is_encoded(array.type):
        return with_kernels(array)
    values, codes, present = split_encoded(array)
    if not len(values):
        return pa.nulls(len(array), values.type)
    if present is None:
        return take_rows(values, codes)
    padded = pa.concat_arrays([values, pa.nulls(1, values.type)])
    return take_rows(padded, np.where(present, codes, len(values)))


def decoded_bytes(array: pa.Array) -> int:
    """About how many bytes an array takes once it is decoded; 0 if nothing in it may repeat."""
    kind = array.type
    if not may_repeat(kind):
        return 0
    if isinstance(kind, pa.BaseExtensionType):
        return decoded_bytes(array.storage)
    if is_encoded(kind):
        inner = array.dictionary if pa.types.is_dictionary(kind) else array.values
        # Values that are encoded themselves are decoded first, all of them.
        extra = int(_value_bytes(inner).sum()) if may_repeat(inner.type) else 0
        return extra + (int(_value_bytes(array).sum()) if extra < _TOO_FAR else 0)
    if is_view(kind):
        return int(_view_lengths(array).sum())
    if _is_list_view(kind):
        return _list_view_bytes(array)
    if pa.types.is_map(kind):
        return decoded_bytes(array.keys) + decoded_bytes(array.items)
    if pa.types.is_union(kind) or pa.types.is_struct(kind):
        return sum(decoded_bytes(array.field(index)) for index in range(kind.num_fields))
    return decoded_bytes(array.flatten())


def _view_lengths(array: pa.Array) -> IntArray:
    """The bytes of each text of a view array."""
    views = np.frombuffer(array.buffers()[1], np.int32) if len(array) else np.zeros(0, np.int32)
    # Each view has 16 bytes, of which the first four are the length.
    lengths: IntArray = views[4 * array.offset :: 4][: len(array)].astype(np.int64)
    present = arrow_validity(array)
    return lengths if present is None else np.where(present, lengths, 0)


def viewed_bytes(array: pa.Array) -> int:
    """The bytes that all views in an array show, at any depth. Follows no offset, so that nothing need be validated."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return viewed_bytes(array.storage)
    if is_view(kind):
        return int(np.maximum(_view_lengths(array), 0).sum())
    if not may_repeat(kind):
        return 0
    if pa.types.is_dictionary(kind):
        return viewed_bytes(array.dictionary)
    if pa.types.is_map(kind):
        return viewed_bytes(array.keys) + viewed_bytes(array.items)
    if pa.types.is_union(kind) or pa.types.is_struct(kind):
        return sum(viewed_bytes(array.field(index)) for index in range(kind.num_fields))
    return viewed_bytes(array.values)


def _list_view_bytes(array: pa.Array) -> int:
    """About how many bytes lists take once they lie one after the other; 0 if they do so already, and repeat nothing."""
    starts = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    sizes = array.sizes.to_numpy(zero_copy_only=False).astype(np.int64)
    present = arrow_validity(array)
    is_used = (sizes > 0) if present is None else (sizes > 0) & present
    starts, sizes = starts[is_used], sizes[is_used]
    order = np.argsort(starts, kind="stable")
    if bool((starts[order][1:] >= (starts + sizes)[order][:-1]).all()):
        return decoded_bytes(array.flatten())
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(_value_bytes(array.values))])
    return int((ends[starts + sizes] - ends[starts]).sum())


def _value_bytes(values: pa.Array) -> IntArray:
    """About how many bytes each value takes once it is decoded, ``(values,)``."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _value_bytes(values.storage)
    if pa.types.is_dictionary(kind):
        codes = values.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return _value_bytes(values.dictionary)[codes] if len(values.dictionary) else np.zeros(len(values), np.int64)
    if pa.types.is_run_end_encoded(kind):
        ends = np.clip(values.run_ends.to_numpy(zero_copy_only=False) - values.offset, 0, len(values))
        return np.repeat(_value_bytes(values.values), np.diff(ends, prepend=0))
    if pa.types.is_nested(kind):
        # Which values are the large ones is not worth knowing: all count as the largest possible.
        return np.full(len(values), max(num_bytes_of(values), decoded_bytes(values)), np.int64)
    if is_view(kind):
        return _view_lengths(values) + 8
    if is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        lengths: IntArray = pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        return lengths.astype(np.int64) + 8
    return np.full(len(values), 16, np.int64)


def longest_repeated(array: pa.Array) -> int:
    """The bytes of the longest value in the dictionaries inside an array."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return longest_repeated(array.storage)
    if pa.types.is_dictionary(kind):
        return int(_value_bytes(array.dictionary).max(initial=0))
    if pa.types.is_struct(kind):
        return sum(longest_repeated(array.field(index)) for index in range(kind.num_fields))
    if pa.types.is_map(kind):
        return longest_repeated(array.keys) + longest_repeated(array.items)
    return longest_repeated(array.values) if kind.num_fields == 1 else 0


def validate(batch: pa.RecordBatch) -> None:
    """Raise ``ArrowInvalid`` where offsets or indices of a batch are out of range; not for the encoding of its text."""
    for array in batch.columns:
        kind = array.type
        as_bytes = (
            pa.binary() if pa.types.is_string(kind) else pa.large_binary() if pa.types.is_large_string(kind) else kind
        )
        try:
            (array if as_bytes == kind else array.view(as_bytes)).validate(full=True)
        except pa.ArrowInvalid as error:
            # Text is the last that Arrow looks at in an array, and a check reports it by row.
            if not (is_encoded(kind) or pa.types.is_string_view(kind)) or "UTF8" not in str(error):
                raise


@lru_cache(maxsize=4096)
def holds_union(kind: pa.DataType) -> bool:
    """Whether a type is a union, or contains one: some of Arrow's functions end the process for those."""
    return bool(pa.types.is_union(kind)) or any(holds_union(kind.field(index).type) for index in range(kind.num_fields))


def num_bytes_of(data: pa.Array | pa.ChunkedArray | pa.RecordBatch | pa.Table) -> int:
    """The bytes of Arrow data, or of the data that it is a slice of: ``nbytes`` follows a buffer that empty unions lack."""
    kinds = data.schema.types if hasattr(data, "schema") else [data.type]
    return int(data.get_total_buffer_size() if any(map(holds_union, kinds)) else data.nbytes)


def no_rows(fields: Iterable[pa.Field]) -> pa.RecordBatch:
    """A record batch of these fields without rows, which Arrow itself cannot make of runs inside other types."""
    schema = fields if isinstance(fields, pa.Schema) else pa.schema(list(fields))
    return pa.RecordBatch.from_arrays([_empty(field.type) for field in schema], schema=schema)


def _empty(kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _empty(kind.storage_type))
    if pa.types.is_run_end_encoded(kind):
        return pa.RunEndEncodedArray.from_arrays(pa.nulls(0, kind.run_end_type), _empty(kind.value_type), kind)
    children = [kind.field(index) for index in range(kind.num_fields)]
    arrays = [_empty(child.type) for child in children]
    if pa.types.is_union(kind):
        names, codes = [child.name for child in children], pa.nulls(0, pa.int8())
        if kind.mode == "sparse":
            return pa.UnionArray.from_sparse(codes, arrays, names, kind.type_codes)
        return pa.UnionArray.from_dense(codes, pa.nulls(0, pa.int32()), arrays, names, kind.type_codes)
    if pa.types.is_struct(kind) and children:
        return pa.StructArray.from_arrays(arrays, fields=children)
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(
            pa.nulls(0, kind.index_type), _empty(kind.value_type), ordered=kind.ordered
        )
    if children:
        offsets = pa.py_buffer(bytes(8))
        num_buffers = 1 if pa.types.is_fixed_size_list(kind) else 3 if "view" in str(kind).partition("<")[0] else 2
        return pa.Array.from_buffers(kind, 0, [None, offsets, offsets][:num_buffers], children=arrays)
    return pa.nulls(0, kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text, in any layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list of any length, in any layout."""
    types = pa.types
    return bool(
        types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind)
    )


def python_value(value: pa.Scalar) -> Any:
    """A scalar as a Python value, or as text where Python has no such value: a time in the year 12,000, broken text."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.as_buffer().to_pybytes().decode("utf-8", "backslashreplace")
    except (OverflowError, ValueError, ArithmeticError):
        return _far_time(value)
    except Exception as error:
        return f"<{value.type}: {type(error).__name__}>"


def _far_time(value: pa.Scalar) -> str:
    """A time beyond Python's range, in ISO format as NumPy writes it."""
    kind = value.type
    unit = getattr(kind, "unit", None) or ("D" if pa.types.is_date32(kind) else "ms")
    ticks = getattr(value, "value", None)
    if ticks is None or not pa.types.is_temporal(kind):
        return str(ticks)
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        return f"{ticks} {unit}"
    text = str(np.array(int(ticks), f"datetime64[{unit}]"))
    return text if not getattr(kind, "tz", None) else f"{text}Z"
