"""Hypothesis strategies for tables and arrays with every awkward value."""

from __future__ import annotations

import math
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

__all__ = ["arrays", "canonical_columns", "tables"]

_TEXT = st.text(max_size=6) | st.sampled_from(
    ["", "NA", "null", "nan", "# x", "- a", "a: b", "\n", "\x85", "\u2028", "'", "🙂"]
)
_FLOATS = {width: st.floats(width=width) for width in (16, 32, 64)}


def _integers(dtype: str) -> st.SearchStrategy[int]:
    info = np.iinfo(dtype)
    edges = st.sampled_from([int(info.min), int(info.max), 0, 1])
    return st.integers(int(info.min), int(info.max)) | edges | st.integers(0, 3)


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**precision) + 1, 10**precision - 1).map(
        lambda digits: Decimal((int(digits < 0), Decimal(abs(digits)).as_tuple().digits, -scale))
    )


_TICKS = st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(10**6), 10**6)


def _viewed(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Ticks of a type of time, as integers."""
    if kind.bit_width == 32:
        return st.integers(-(2**31), 2**31 - 1)
    return _TICKS


_TIMES = [
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    pa.timestamp("us", "UTC"),
    pa.timestamp("s", "+01:00"),
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time64("ns"),
    *(pa.duration(unit) for unit in ("s", "ns")),
]
_PLAIN: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *((pa.type_for_alias(name), _integers(name)) for name in ("int8", "uint8", "int32", "int64", "uint64")),
    (pa.float16(), _FLOATS[16].map(np.float16)),
    (pa.float32(), _FLOATS[32]),
    (pa.float64(), _FLOATS[64]),
    (pa.bool_(), st.booleans()),
    (pa.string(), _TEXT),
    (pa.large_string(), _TEXT),
    (pa.string_view(), _TEXT),
    (pa.binary(), st.binary(max_size=4)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.decimal128(10, 2), _decimals(10, 2)),
    (pa.decimal128(38, 10), _decimals(38, 10)),
    (pa.decimal256(76, 0), _decimals(76, 0)),
    (pa.decimal32(5, 2), _decimals(5, 2)),
    (pa.null(), st.none()),
]


@st.composite
def _column(draw: st.DrawFn, num_rows: int) -> pa.Array:
    if draw(st.integers(0, 3)) == 0:
        kind = draw(st.sampled_from(_TIMES))
        ticks = draw(st.lists(_viewed(kind) | st.none(), min_size=num_rows, max_size=num_rows))
        return pa.array(ticks, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    kind, values = draw(st.sampled_from(_PLAIN))
    drawn = draw(_values(values, num_rows))
    wrapped = draw(st.sampled_from(["plain", "plain", "dictionary", "list", "fixed", "struct", "nested"]))
    array = pa.array(drawn, kind)
    if wrapped == "plain" or kind == pa.null() or kind == pa.string_view():
        return array
    if wrapped == "dictionary":
        return array.dictionary_encode() if not pa.types.is_decimal(kind) else array
    if wrapped == "struct":
        return pa.StructArray.from_arrays([array, pa.array(range(num_rows))], names=["x", "y z"])
    if wrapped == "fixed":
        items = pa.array(draw(_values(values, 2 * num_rows)), kind)
        mask = pa.array(draw(st.lists(st.booleans(), min_size=num_rows, max_size=num_rows)), pa.bool_())
        return pa.FixedSizeListArray.from_arrays(items, 2, mask=mask if draw(st.booleans()) else None)
    lists = draw(st.lists(st.lists(values | st.none(), max_size=3) | st.none(), min_size=num_rows, max_size=num_rows))
    if wrapped == "list":
        return pa.array(lists, pa.list_(kind))
    return pa.array([None if one is None else [one, []] for one in lists], pa.list_(pa.list_(kind)))


def _values(values: st.SearchStrategy[Any], num_rows: int) -> st.SearchStrategy[list[Any]]:
    few = st.lists(values, min_size=1, max_size=2).flatmap(
        lambda chosen: st.lists(st.sampled_from(chosen), min_size=num_rows, max_size=num_rows)
    )
    return few | st.lists(values | st.none(), min_size=num_rows, max_size=num_rows)


_NAMES = st.text(max_size=8) | st.sampled_from(
    ["id", "user_id", "a.b", "a[]", "s", "s.x", "l", "l[]", "null", "~", "on", "1", "#"]
)


@st.composite
def tables(draw: st.DrawFn, max_columns: int = 4) -> pa.Table:
    """A table, perhaps with rows repeated often enough for vocabularies, perhaps with duplicate names."""
    num_rows = draw(st.integers(0, 6))
    names = draw(st.lists(_NAMES, max_size=max_columns))
    columns = [draw(_column(num_rows)) for _ in names]
    table = pa.Table.from_arrays(columns, names=names) if names else pa.table({"a": pa.array([], pa.int8())})
    times = draw(st.sampled_from([1, 1, 3, 40]))
    return pa.concat_tables([table] * times)


_DTYPES = [
    *(f"{order}{code}" for code in ("f2", "f4", "f8", "i4", "u8", "c8", "c16") for order in "<>"),
    "?", "u1", "g", "G", "U3", "S2", "M8[us]", "M8[D]", "m8[s]", "O", "i4,f4",
]  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """An array of any dtype, shape, order and bits."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    dtype = np.dtype(draw(st.sampled_from(_DTYPES)))
    if dtype.hasobject:
        return np.full(shape, None, dtype)
    if dtype.kind in "gG" or dtype.char in "gG":
        return _long_doubles(draw, shape, dtype)
    if dtype.kind in "US":
        letters = draw(st.lists(st.sampled_from(["", "a", "b~"]), min_size=1, max_size=3))
        return np.resize(np.array(letters, dtype), shape)
    size = int(np.prod(shape)) * dtype.itemsize
    pattern = draw(st.binary(min_size=1, max_size=48)) if draw(st.booleans()) else bytes(range(7))
    array = np.frombuffer((pattern * (size // len(pattern) + 1))[:size], np.uint8)
    if dtype.kind == "b":
        array = array % 2
    array = array.copy().view(dtype).reshape(shape) if size else np.empty(shape, dtype)
    return np.asfortranarray(array) if draw(st.booleans()) and array.ndim > 1 else array


def _long_doubles(draw: st.DrawFn, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    values = draw(st.lists(st.floats() | st.sampled_from([1e308, 5e-324]), min_size=1, max_size=4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.resize(np.array(values, np.longdouble), shape) * np.longdouble("1.0000000000000000001")
        if draw(st.booleans()):
            array = array * np.longdouble("1e300")
        return array.astype(dtype)


def _canonical(value: Any) -> Any:
    """A value that Python compares by the rules for leaks."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    return [_canonical(inner) for inner in value] if isinstance(value, list) else value


def canonical_columns(table: pa.Table) -> list[list[Any]]:
    """Columns of a table as Python values; times as ticks, because Python has a smaller range of times."""
    columns = []
    for column in table.columns:
        array = column.combine_chunks()
        if pa.types.is_temporal(array.type):
            array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
        columns.append([_canonical(value) for value in array.to_pylist()])
    return columns
