"""Hashes of unique keys (DC301).

Uniqueness concerns the whole dataset, never one batch, so it is decided in two steps: each unit hashes its keys, 128 bits
a row, and a :class:`~datacheck.hashing.store.HashStore` collects the hashes of all units and finds every row but the first
of each key. Two different keys share a hash about once in 10^38 pairs. Nulls equal each other, and so do NaNs, as in
pandas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.hashing.cast import cast
from datacheck.hashing.exact import add_exact
from datacheck.hashing.numbers import Hashes, seed_of
from datacheck.hashing.rows import add_leaf
from datacheck.leaves import FLOAT_FORMATS, BoolArray, IntArray
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Schema


@dataclass(frozen=True, slots=True)
class KeyHashes:
    """The hashes ``(rows, 2)`` of one key in one batch, and the rows of the file that they belong to.

    ``num_unknown`` rows of the batch have no hash because part of their key did not convert.
    """

    key: tuple[str, ...]
    hashes: Hashes
    rows: IntArray
    row_group: int | None
    num_unknown: int = 0


def hash_unique_keys(batch: Batch, schema: Schema) -> Iterator[KeyHashes]:
    """Yield the hashes of every unique key whose columns the batch has; its columns must be coerced already."""
    keys = unique_keys(schema)
    if not keys or not batch.num_rows:
        return
    columns = {column.name: column for column in batch.columns}
    rows = batch.file_rows(np.arange(batch.num_rows, dtype=np.int64))
    for key in keys:
        if None in columns and (not key or (len(schema.fields) == 1 and key == tuple(schema.fields))):
            key, parts = (), [columns[None]]
        else:
            parts = [part for name in key if (part := find_column(columns, name)) is not None]
        if parts and len(parts) == len(key or parts):
            yield _without_unconvertible(KeyHashes(key, hash_columns(parts), rows, batch.row_group), parts)


def _without_unconvertible(keys: KeyHashes, parts: Sequence[Column]) -> KeyHashes:
    """Leave out the rows in which part of the key did not convert."""
    known = convertible_rows(parts, len(keys.rows))
    if known is None:
        return keys
    num_unknown = int(len(known) - np.count_nonzero(known))
    return replace(keys, hashes=keys.hashes[known], rows=keys.rows[known], num_unknown=num_unknown)


def convertible_rows(columns: Sequence[Column], num_rows: int) -> BoolArray | None:
    """True for the rows in which every value converted; None if all are."""
    unconvertible = [
        column.unconvertible.reshape(num_rows, -1).any(axis=1) for column in columns if column.unconvertible is not None
    ]
    known: BoolArray | None = ~np.logical_or.reduce(unconvertible) if unconvertible else None
    return known


def find_column(columns: Mapping[str | None, Column], path: str) -> Column | None:
    """Find the column of that name, or the field of a struct at that path."""
    if path in columns:
        return columns[path]
    for name, column in columns.items():
        if name is not None and path.startswith(f"{name}."):
            inner = _find_inside(column.data, path.removeprefix(f"{name}."))
            if inner is not None:
                return replace(column, name=path, data=inner)
    return None


def _find_inside(data: Any, path: str) -> Any:
    """Find the values of a field of a struct, null where the struct is null; None if there is no such field."""
    if isinstance(data, np.ndarray):
        fields = {name: data[name] for name in data.dtype.names or ()}
    elif pa.types.is_struct(data.type):
        fields = {field.name: values for field, values in zip(data.type, data.flatten(), strict=True)}
    else:
        return None
    for name, values in fields.items():
        inner = values if name == path else None
        if inner is None and path.startswith(f"{name}."):
            inner = _find_inside(values, path.removeprefix(f"{name}."))
        if inner is not None:
            return inner
    return None


def hash_columns(columns: Sequence[Column]) -> Hashes:
    """Hash the keys that columns form together, as 128 bits in two words: ``(rows, 2)``.

    Values are equal across dtypes (:mod:`datacheck.hashing.exact`), lists across layouts. Rows of NumPy arrays of two and
    more dimensions are equal only in the same dtype: widening them would multiply their memory.
    """
    hashes = np.zeros((2, len(columns[0])), np.uint64)
    for column in columns:
        is_arrow = not isinstance(column.data, np.ndarray)
        is_scalar = is_arrow or column.data.ndim < 2
        for leaf in column.leaves():
            if leaf.values is None:
                for salt in (0, 1):
                    hashes[salt] += _hash_objects(column, salt)
                continue
            if is_scalar:
                add_exact(leaf, hashes, slotwise=is_arrow)
                continue
            if leaf.dtype in FLOAT_FORMATS:
                leaf = cast(leaf, "float32")
            hashes += np.uint64(seed_of(leaf.dtype))
            for salt in (0, 1):
                add_leaf(leaf, hashes[salt], slotwise=is_arrow, salt=salt)
    return hashes.T


def _hash_objects(column: Column, salt: int) -> Hashes:
    """Hash values that have no leaf, such as Python objects and unions, by their ``repr`` or bytes."""
    values = list(column.data) if isinstance(column.data, np.ndarray) else column.data.to_pylist()
    salted = bytes([salt])
    digests = [
        hashlib.blake2b(
            value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode("utf-8", "surrogatepass"),
            digest_size=8,
            salt=salted,
        ).digest()
        for value in values
    ]
    return np.frombuffer(b"".join(digests), np.uint64)
