"""Find samples that repeat a unique key, while a scan goes over the whole dataset."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.coerce import coerce_batch
from datacheck.hashing.keys import hash_unique_keys
from datacheck.hashing.store import HashStore
from datacheck.schema.keys import key_field
from datacheck.schema.model import Schema
from datacheck.torch.loader.lists import ListPaths
from datacheck.torch.loader.walker import walk_sample

__all__ = ["KeyHashes", "RepeatedKeys", "batch_of_sample", "hashes_of_sample"]

#: For each key of a sample, its fields and the hash of its value.
KeyHashes: TypeAlias = dict[tuple[str, ...], np.ndarray[Any, np.dtype[np.uint64]]]


def hashes_of_sample(sample: Any, schema: Schema, lists: ListPaths) -> KeyHashes:
    """Hash the unique keys that a sample has."""
    batch = batch_of_sample(sample, schema, lists)
    return {found.key: found.hashes for found in hash_unique_keys(batch, schema) if len(found.hashes)}


def batch_of_sample(sample: Any, schema: Schema, lists: ListPaths, index: int = 0) -> Batch:
    """A sample as one row, in the dtypes of the schema."""
    columns = [one.column for one in walk_sample(sample, lists=lists) if one.column is not None]
    return coerce_batch(Batch(tuple(columns), 1, index), schema)


class RepeatedKeys:
    """Finds samples that repeat an earlier key. A context manager: leaving it deletes what was spilled to disk."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, ...], HashStore] = {}
        self._indices: dict[tuple[str, ...], array[int]] = {}

    def __enter__(self) -> RepeatedKeys:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores.values():
            store.__exit__()

    def add(self, found: Sequence[tuple[int, KeyHashes]]) -> None:
        """Add the next samples by their indices, in dataset order."""
        for key in dict.fromkeys(key for _, hashes in found for key in hashes):
            have = [(index, hashes[key]) for index, hashes in found if key in hashes]
            self._stores.setdefault(key, HashStore()).add(np.concatenate([one for _, one in have]))
            self._indices.setdefault(key, array("q")).extend(index for index, _ in have)

    def repeated(self) -> Iterator[tuple[int, list[str | None]]]:
        """The index of each sample that repeats a key, and which keys, as findings name them."""
        found: dict[int, list[str | None]] = {}
        for key, store in self._stores.items():
            for ordinal in store.repeated().tolist():
                found.setdefault(self._indices[key][ordinal], []).append(key_field(key))
        yield from sorted(found.items())
