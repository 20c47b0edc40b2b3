"""Sequences with few distinct values, such as the verdict, codes and reason of every row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa

from datacheck.leaves import IntArray

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Categorical(Sequence[Value], Generic[Value]):
    """A sequence whose item ``i`` is ``values[indices[i]]``, so that millions of items cost only their indices."""

    values: tuple[Value, ...]
    indices: IntArray

    @classmethod
    def of(cls, items: Sequence[Value]) -> Categorical[Value]:
        """From a sequence of hashable values."""
        if isinstance(items, Categorical):
            return items
        index_of: dict[Value, int] = {}
        indices = np.fromiter((index_of.setdefault(item, len(index_of)) for item in items), np.int64, count=len(items))
        return cls(tuple(index_of), indices)

    @classmethod
    def concatenate(cls, parts: Iterable[Categorical[Value]]) -> Categorical[Value]:
        """Several sequences, one after the other."""
        index_of: dict[Value, int] = {}
        indices = [np.empty(0, np.int64)]
        for part in parts:
            mapping = [index_of.setdefault(value, len(index_of)) for value in part.values]
            indices.append(np.array(mapping, np.int64)[part.indices])
        return cls(tuple(index_of), np.concatenate(indices))

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, item: int) -> Value: ...

    @overload
    def __getitem__(self, item: slice) -> Categorical[Value]: ...

    def __getitem__(self, item: int | slice) -> Value | Categorical[Value]:
        if isinstance(item, slice):
            return Categorical(self.values, self.indices[item])
        return self.values[int(self.indices[item])]

    def take(self, rows: IntArray) -> Categorical[Value]:
        """The items at ``rows``, in that order."""
        return Categorical(self.values, self.indices[rows])

    def counts(self) -> list[tuple[Value, int]]:
        """Each value that occurs, with its count."""
        counts = np.bincount(self.indices, minlength=len(self.values)).tolist()
        return [(value, count) for value, count in zip(self.values, counts, strict=True) if count]

    def to_arrow(self, kind: pa.DataType) -> Any:
        """The items as an Arrow array, with tuples as lists."""
        values = [list(value) if isinstance(value, tuple) else value for value in self.values]
        return pa.array(values, kind).take(pa.array(self.indices))
