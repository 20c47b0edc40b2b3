"""Records of JSON as columns: values by path, in Arrow arrays, with what is missing or of another type told apart from null.

Records need not have the same keys, nor a key values of one type. A key that a record lacks, and a value of another type than
most at its path, is neither a value nor a null: it is marked in ``Column.absent`` and reported as a ``Fault``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import take_rows
from datacheck.batch import Column, Fault
from datacheck.findings import MAX_EXAMPLES
from datacheck.leaves import BoolArray, IntArray
from datacheck.sources.dtypes import arrow_type
from datacheck.text import plain

#: The most keys of a record.
MAX_KEYS = 10_000
#: The most different paths of the records of a batch.
MAX_PATHS = 20_000
#: An object with more keys than this, in all records of a batch, is a map from keys to values rather than a struct.
MAX_STRUCT_KEYS = 1000
#: The most slots (keys times records) of the columns of one batch: records with few keys in common take memory by it.
MAX_SLOTS = 4_000_000
#: How deep objects and lists are searched.
MAX_DEPTH = 48

_NAMES = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
#: Which type the others are compared with where two are equally frequent.
_ORDER = ("object", "list", "number", "boolean", "string")


class TooManyKeysError(ValueError):
    """The records of a batch have too few keys in common: fewer records at a time take less memory."""


class TooManyPathsError(ValueError):
    """The records of a batch have more different paths than can be checked."""


class _Missing:
    """Stands for the value of a key that a record lacks."""


_MISSING = _Missing()


class JsonColumns:
    """Turns records into columns. ``dtypes`` are the schema's, by path: numbers are read as these.

    ``types`` has the type of the values at each path in the records before these, and is added to: values of another type are
    faults, whether or not some beside them have that type.

    Attributes:
        absent: for each path, where the array that was made last has neither a value nor a null.
        num_keys: the keys of all objects so far, each counted once an object.
        faults: keys that are missing, and values of another type than the others, in the order in which they were found.
    """

    def __init__(self, dtypes: Mapping[str, str], types: dict[str, str] | None = None) -> None:
        self.faults: list[Fault] = []
        self._types = {} if types is None else types
        self._num_paths = 0
        self.num_keys = 0
        self._dtypes = dtypes
        self.absent: dict[str, BoolArray] = {}

    def of(self, records: Sequence[dict[str, Any]], wanted: Sequence[str] | None = None) -> list[Column]:
        """The columns of records, one for each key (of ``wanted``). Raises ``TooManyKeysError``."""
        by_key = _transpose(records)
        if by_key is None or len(by_key) > MAX_KEYS:
            raise TooManyKeysError
        self.num_keys += sum(map(len, records))
        rows = np.arange(len(records), dtype=np.int64)
        columns = []
        for key, values in by_key.items():
            if wanted is None or key in wanted:
                self.absent = {}
                data = self.array(key, values, rows, 0)
                columns.append(Column(key, data, absent=self.absent or None))
        return columns

    def array(self, path: str, values: Sequence[Any], rows: IntArray | None = None, depth: int = 0) -> pa.Array:
        """Values at a path as an Arrow array; ``rows`` are the records that they lie in."""
        self._num_paths += 1
        if self._num_paths > MAX_PATHS:
            raise TooManyPathsError
        rows = np.arange(len(values), dtype=np.int64) if rows is None else rows
        kinds = set(map(type, values))
        if _Missing in kinds:
            values = self._without_missing(path, values, rows)
        names = {_NAMES[kind] for kind in kinds if kind in _NAMES}
        is_mixed = bool(names - {self._types.get(path, next(iter(names), ""))})
        if is_mixed:
            values, name = self._of_one_type(path, values, rows)
        else:
            name = next(iter(names), "")
        if name and len(self._types) < MAX_PATHS:
            self._types.setdefault(path, name)
        if name in ("object", "list") and depth >= MAX_DEPTH:
            self._report(path, rows, np.array([value is not None for value in values]), values, "nested too deeply")
            values, name = [None] * len(values), ""
        valid = None
        if name and (is_mixed or NoneType in kinds or _Missing in kinds):
            valid = np.fromiter((value is not None for value in values), np.bool_, len(values))
        if name == "number":
            is_integer = float not in kinds or (is_mixed and all(type(value) is not float for value in values))
            return _numbers(values, valid, self._dtypes.get(path), is_integer=is_integer)
        if name == "list":
            return self._list(path, values, valid, rows, depth)
        if name == "object":
            return self._object(path, values, valid, rows, depth)
        if not name:
            kind = arrow_type(self._dtypes.get(path, ""))
            return pa.nulls(len(values), None if kind is None or kind.num_fields else kind)
        return _FLAT[name](values, valid)

    def _without_missing(self, path: str, values: Sequence[Any], rows: IntArray) -> list[Any]:
        missing = np.fromiter((value is _MISSING for value in values), np.bool_, len(values))
        self.absent[path] = missing
        self.faults.append(Fault("DC107", path, len(values), rows[missing]))
        return [None if value is _MISSING else value for value in values]

    def _of_one_type(self, path: str, values: Sequence[Any], rows: IntArray) -> tuple[list[Any], str]:
        """The values of the type that those before have, or most of these; None for the others; and the name of the type."""
        names = [_NAMES.get(type(value), "") for value in values]
        counts = Counter(name for name in names if name)
        most = max(counts, key=lambda name: (counts[name], -_ORDER.index(name)))
        expected = self._types.get(path, most)
        others = np.fromiter((bool(name) and name != expected for name in names), np.bool_, len(names))
        found = " and ".join(f"{name}s" for name in _ORDER if name in counts and name != expected)
        self._report(path, rows, others, values, f"{found} among {expected}s")
        return [None if other else value for value, other in zip(values, others.tolist(), strict=True)], expected

    def _report(self, path: str, rows: IntArray, where: BoolArray, values: Sequence[Any], detail: str) -> None:
        positions = np.flatnonzero(where)
        if not len(positions):
            return
        self.absent[path] = where | self.absent.get(path, False)
        first = [(int(rows[position]), _shown(values[position])) for position in positions[:MAX_EXAMPLES].tolist()]
        num_checked = len(values) - int(np.count_nonzero([value is None for value in values]))
        self.faults.append(Fault("DC012", path, num_checked, rows[positions], tuple(first), detail))

    def _list(self, path: str, values: Sequence[Any], valid: BoolArray | None, rows: IntArray, depth: int) -> pa.Array:
        lists = values if valid is None else [value for value in values if value is not None]
        lengths = np.zeros(len(values), np.int32)
        lengths[slice(None) if valid is None else valid] = np.fromiter(map(len, lists), np.int32, len(lists))
        inner = self.array(f"{path}[]", list(chain.from_iterable(lists)), np.repeat(rows, lengths), depth + 1)
        buffers = [_bitmap(valid), _offsets(lengths)]
        return pa.Array.from_buffers(pa.list_(inner.type), len(values), buffers, children=[inner])

    def _object(
        self, path: str, values: Sequence[Any], valid: BoolArray | None, rows: IntArray, depth: int
    ) -> pa.Array:
        dicts = values if valid is None else [value for value in values if value is not None]
        self.num_keys += sum(map(len, dicts))
        by_key = _transpose(dicts)
        if by_key is None or len(by_key) > MAX_STRUCT_KEYS:
            return self._map(path, values, valid, rows, depth)
        inner_rows = rows if valid is None else rows[valid]
        children = [
            _spread(self.array(f"{path}.{key}", inner, inner_rows, depth + 1), valid) for key, inner in by_key.items()
        ]
        kind = pa.struct([pa.field(key, child.type) for key, child in zip(by_key, children, strict=True)])
        return pa.Array.from_buffers(kind, len(values), [_bitmap(valid)], children=children)

    def _map(self, path: str, values: Sequence[Any], valid: BoolArray | None, rows: IntArray, depth: int) -> pa.Array:
        dicts = [value or {} for value in values]
        lengths = np.fromiter(map(len, dicts), np.int32, len(dicts))
        keys = _strings(list(chain.from_iterable(dicts)), None)
        items = list(chain.from_iterable(value.values() for value in dicts))
        inner = self.array(f"{path}[].value", items, np.repeat(rows, lengths), depth + 1)
        kind = pa.map_(pa.string(), inner.type)
        fields = [pa.field("key", pa.string(), nullable=False), pa.field("value", inner.type)]
        entries = pa.StructArray.from_arrays([keys, inner], fields=fields)
        return pa.Array.from_buffers(kind, len(values), [_bitmap(valid), _offsets(lengths)], children=[entries])


def _shown(value: Any) -> str:
    return plain(value[:200] if isinstance(value, str) else repr(value)[:200], 60)


def _transpose(dicts: Sequence[dict[str, Any]]) -> Mapping[str, Sequence[Any]] | None:
    """The values of each key, in the order of the keys' first appearance; None if that would take too many slots."""
    first = dicts[0] if dicts else {}
    # As many keys as these in all, and these in each: then none has others.
    if sum(map(len, dicts)) == len(first) * len(dicts):
        try:
            return {key: list(map(itemgetter(key), dicts)) for key in first}
        except KeyError:
            pass
    keys = dict.fromkeys(chain.from_iterable(dict.fromkeys(map(tuple, dicts))))
    if len(keys) * len(dicts) > MAX_SLOTS and len(dicts) > 1:
        return None
    return {key: [one.get(key, _MISSING) for one in dicts] for key in keys}


def _numbers(values: Sequence[Any], valid: BoolArray | None, dtype: str | None, *, is_integer: bool) -> pa.Array:
    filled = values if valid is None else [0 if value is None else value for value in values]
    if not is_integer or dtype in _FLOATS:
        try:
            return _in_arrow(np.array(filled, np.float64), valid, dtype if dtype in _FLOATS else "float64")
        except OverflowError:  # an integer beyond float64 among them
            return _in_floats(filled, valid)
    try:
        integers = np.array(filled, np.int64)
    except OverflowError:
        return _large_integers(filled, valid)
    if dtype in _INTEGERS:
        limits = np.iinfo(dtype)
        if not len(integers) or (integers.min() >= limits.min and integers.max() <= limits.max):
            return _in_arrow(integers, valid, dtype)
    return _in_arrow(integers, valid, "int64")


_FLOATS = frozenset(("float16", "float32", "float64"))
_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def _in_arrow(values: np.ndarray[Any, Any], valid: BoolArray | None, dtype: str) -> pa.Array:
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(values.astype(dtype, copy=False))
    return pa.Array.from_buffers(_ARROW[dtype](), len(narrow), [_bitmap(valid), pa.py_buffer(narrow)])


def _in_floats(values: Sequence[float], valid: BoolArray | None) -> pa.Array:
    """Numbers of which some are beyond float64: those are infinite."""
    floats = [float(value) if abs(value) < 1 << 1023 else np.inf * (1 if value > 0 else -1) for value in values]
    return _in_arrow(np.array(floats, np.float64), valid, "float64")


_ARROW = {name: getattr(pa, name) for name in (*_FLOATS, *_INTEGERS)}


def _large_integers(values: Sequence[int], valid: BoolArray | None) -> pa.Array:
    """Integers beyond int64: exactly, unless they have more than 76 digits."""
    low, high = min(values), max(values)
    if low >= 0 and high < 1 << 64:
        return _in_arrow(np.array(values, np.uint64), valid, "uint64")
    if low > -(10**76) and high < 10**76:
        whole = [None if valid is not None and not valid[index] else value for index, value in enumerate(values)]
        return pa.array(whole, pa.decimal256(76, 0))
    return _in_floats(values, valid)


def _strings(values: Sequence[Any], valid: BoolArray | None) -> pa.Array:
    texts = values if valid is None else [value or "" for value in values]
    if all(map(str.isascii, texts)):  # as most text is: then a character is a byte
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        if lengths.sum() < 1 << 31:
            content = pa.py_buffer("".join(texts).encode())
            return pa.Array.from_buffers(pa.string(), len(texts), [_bitmap(valid), _offsets(lengths), content])
    # pa.array would import pandas.
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def _booleans(values: Sequence[Any], valid: BoolArray | None) -> pa.Array:
    packed = np.packbits(np.array([value is True for value in values], np.bool_), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [_bitmap(valid), pa.py_buffer(packed)])


_FLAT: dict[str, Callable[[Sequence[Any], BoolArray | None], pa.Array]] = {
    "boolean": _booleans,
    "string": _strings,
}


def _bitmap(valid: BoolArray | None) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _offsets(lengths: IntArray | np.ndarray[Any, Any]) -> pa.Buffer:
    return pa.py_buffer(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _spread(child: pa.Array, valid: BoolArray | None) -> pa.Array:
    """The values of the valid parents at their places, nulls in between."""
    if valid is None:
        return child
    if not len(child):
        return pa.nulls(len(valid), child.type)
    return take_rows(child, np.maximum(np.cumsum(valid) - 1, 0).astype(np.int64))
