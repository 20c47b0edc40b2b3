"""DC301: rows whose key stood in an earlier row of the data set.

Uniqueness is a property of the whole data set, never of a batch, so it is decided in two steps. Each unit gives, for
every key, 128 bits of hash a row, from two independently seeded mixers, so that two different keys share them about once in
10^20 pairs. The finder puts those of all units together, in memory or, beyond a bound, in partitions on
disk, and names every row but the first of each key. Nulls equal each other, and so do NaNs, as in pandas.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.batch import Batch, Column
from datacheck.checks.coerce import coerce_column
from datacheck.leaves import IntArray
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Schema

__all__ = ["DuplicateFinder", "KeyHashes", "hash_keys", "unique_keys"]

Hashes = np.ndarray[Any, np.dtype[np.uint64]]

#: Hashes that are kept in memory before they go to disk: 24 bytes a row.
SPILL_BYTES = 256 << 20
_NUM_PARTITIONS = 64
_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("ordinal", "<i8")])
_SEEDS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))
_STRING_KEYS = ("datacheck-key-01", "datacheck-key-02")
_NULL = np.uint64(0x6E756C6C)


@dataclass(frozen=True, slots=True)
class KeyHashes:
    """The hashes ``(rows, 2)`` of one key in one batch, and the rows of the file that they belong to.

    ``num_unknown`` rows of the batch have none, since a part of their key did not convert.
    """

    key: tuple[str, ...]
    hashes: Hashes
    rows: IntArray
    row_group: int | None
    num_unknown: int = 0


def hash_keys(batch: Batch, schema: Schema) -> Iterator[KeyHashes]:
    """The hashes of every key whose columns the batch has."""
    keys = unique_keys(schema)
    if not keys or not batch.num_rows:
        return
    columns = {column.name: column for column in batch.columns}
    rows = batch.file_rows(np.arange(batch.num_rows, dtype=np.int64))
    for key in keys:
        if None in columns and (not key or (len(schema.fields) == 1 and key == tuple(schema.fields))):
            nameless = [coerce_column(columns[None], schema)]
            yield _without_unconvertible(KeyHashes((), _combined(nameless), rows, batch.row_group), nameless)
            continue
        parts = [part for name in key if (part := _find_column(columns, name)) is not None]
        if key and len(parts) == len(key):
            parts = [coerce_column(part, schema) if part.name in columns else part for part in parts]
            yield _without_unconvertible(KeyHashes(key, _combined(parts), rows, batch.row_group), parts)


def _without_unconvertible(keys: KeyHashes, parts: Sequence[Column]) -> KeyHashes:
    """Without the rows of which a part of the key did not convert."""
    num_rows = len(keys.rows)
    unconvertible = [
        part.unconvertible.reshape(num_rows, -1).any(axis=1) for part in parts if part.unconvertible is not None
    ]
    if not unconvertible:
        return keys
    known = ~np.logical_or.reduce(unconvertible)
    num_unknown = int(num_rows - np.count_nonzero(known))
    return replace(keys, hashes=keys.hashes[known], rows=keys.rows[known], num_unknown=num_unknown)


def _find_column(columns: Mapping[str | None, Column], path: str) -> Column | None:
    """The column of that name, or the field inside a struct that the path leads to."""
    if path in columns:
        return columns[path]
    for name, column in columns.items():
        if name is not None and path.startswith(f"{name}."):
            inner = _find_inside(column.data, path.removeprefix(f"{name}."))
            if inner is not None:
                return replace(column, name=path, data=inner)
    return None


def _find_inside(data: Any, path: str) -> Any:
    """The values of a field of a struct, null where the struct is; None where there is no such field."""
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


def _combined(columns: Sequence[Column]) -> Hashes:
    combined = np.zeros((len(columns[0]), 2), np.uint64)
    for column in columns:
        for side in (0, 1):
            combined[:, side] = _mix(combined[:, side] ^ _hash_column(column, side), _SEEDS[side])
    return combined


def _mix(values: Hashes, seed: np.uint64) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014) over values moved by a seed."""
    with np.errstate(over="ignore"):
        mixed = values + seed
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _hash_column(column: Column, side: int) -> Hashes:
    data = column.data
    if isinstance(data, np.ndarray):
        if data.ndim == 1 and data.dtype.kind in "biuf" and data.dtype.itemsize <= 8:
            return _mix(_number_bits(data), _SEEDS[side])
        return _hash_objects([_digest_input(row) for row in data], side)
    if pa.types.is_dictionary(data.type):
        data = data.dictionary_decode()
    hashed = _hash_arrow(data, side)
    if data.null_count:
        hashed[data.is_null().to_numpy(zero_copy_only=False)] = _NULL
    return hashed


def _hash_arrow(data: pa.Array, side: int) -> Hashes:
    types, kind = pa.types, data.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        zero = pa.scalar(False if types.is_boolean(kind) else 0).cast(kind)
        return _mix(_number_bits(pc.fill_null(data, zero).to_numpy(zero_copy_only=False)), _SEEDS[side])
    if types.is_timestamp(kind) or types.is_date64(kind) or types.is_time64(kind) or types.is_duration(kind):
        return _hash_arrow(data.cast(pa.int64()), side)
    if types.is_date32(kind) or types.is_time32(kind):
        return _hash_arrow(data.cast(pa.int32()), side)
    if types.is_string(kind) or types.is_large_string(kind):
        import pandas as pd

        encoded = data.dictionary_encode()
        uniques = encoded.dictionary.to_numpy(zero_copy_only=False)
        hashed = (
            pd.util.hash_array(uniques, hash_key=_STRING_KEYS[side], categorize=False)
            if len(uniques)
            else np.empty(0, np.uint64)
        )
        indices = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
        return np.array(hashed[indices] if len(uniques) else np.zeros(len(data), np.uint64), np.uint64)
    return _hash_objects([repr(value).encode() for value in data.to_pylist()], side)


def _hash_objects(values: Sequence[bytes], side: int) -> Hashes:
    digests = b"".join(hashlib.blake2b(value, digest_size=8, salt=bytes([side])).digest() for value in values)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _digest_input(row: Any) -> bytes:
    array = np.asarray(row)
    if array.dtype.kind in "fc":
        array = array + 0
        array[np.isnan(array)] = np.nan
    return array.tobytes()


def _number_bits(values: np.ndarray[Any, Any]) -> Hashes:
    """Numbers as bits that are equal where the numbers are: one zero, one NaN, one width."""
    if values.dtype.kind == "f":
        wide = values.astype(np.float64) + 0.0
        wide[np.isnan(wide)] = np.nan
        return wide.view(np.uint64)
    return values.astype(np.int64 if values.dtype.kind == "i" else np.uint64).view(np.uint64)


class DuplicateFinder:
    """Puts the hashes of one key together and names the rows that repeat an earlier one.

    Hand over batches in the order of the data set; ordinals are counted along. A context manager: what it keeps on disk goes
    with it.
    """

    def __init__(self, spill_bytes: int = SPILL_BYTES) -> None:
        self.num_rows = 0
        self._spill_bytes = spill_bytes
        self._held: list[np.ndarray[Any, Any]] = []
        self._held_bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> DuplicateFinder:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, hashes: Hashes) -> None:
        """Add the hashes ``(rows, 2)`` of the next rows."""
        records = np.empty(len(hashes), _RECORD)
        records["high"], records["low"] = hashes[:, 0], hashes[:, 1]
        records["ordinal"] = np.arange(self.num_rows, self.num_rows + len(hashes))
        self.num_rows += len(hashes)
        self._held.append(records)
        self._held_bytes += records.nbytes
        if self._held_bytes > self._spill_bytes:
            self._spill()

    def repeated(self) -> IntArray:
        """The ordinals, sorted, of the rows whose key stood in an earlier row."""
        if not self._files:
            return _repeated(np.concatenate(self._held)) if self._held else np.empty(0, np.int64)
        self._spill()
        found = []
        for file in self._files:
            file.flush()
            found.append(_repeated(np.fromfile(Path(file.name), _RECORD)))
        return np.sort(np.concatenate(found))

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="datacheck-keys-")
            self._files = [(Path(self._folder.name) / f"{number:02d}").open("ab") for number in range(_NUM_PARTITIONS)]
        if not self._held:
            return
        records = np.concatenate(self._held)
        self._held, self._held_bytes = [], 0
        partition = (records["high"] >> np.uint64(58)).astype(np.int64)
        order = np.argsort(partition, kind="stable")
        ends = np.searchsorted(partition[order], np.arange(_NUM_PARTITIONS + 1))
        for number, file in enumerate(self._files):
            records[order[ends[number] : ends[number + 1]]].tofile(file)


def _repeated(records: np.ndarray[Any, Any]) -> IntArray:
    order = np.lexsort((records["ordinal"], records["low"], records["high"]))
    ordered = records[order]
    same = (ordered["high"][1:] == ordered["high"][:-1]) & (ordered["low"][1:] == ordered["low"][:-1])
    repeated: IntArray = np.sort(ordered["ordinal"][1:][same])
    return repeated
