"""For each of many rows one of a few values: what becomes of it, with which codes, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa

from datacheck.leaves import IntArray

__all__ = ["Categorical"]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Categorical(Sequence[Value], Generic[Value]):
    """A sequence whose item ``i`` is ``values[indices[i]]``: millions of items cost no more than their indices."""

    values: tuple[Value, ...]
    indices: IntArray

    @classmethod
    def of(cls, items: Sequence[Value]) -> Categorical[Value]:
        """Any sequence of values that can be hashed."""
        if isinstance(items, Categorical):
            return items
        places: dict[Value, int] = {}
        indices = np.fromiter((places.setdefault(item, len(places)) for item in items), np.int64, count=len(items))
        return cls(tuple(places), indices)

    @classmethod
    def joined(cls, parts: Iterable[Categorical[Value]]) -> Categorical[Value]:
        """Several sequences, one after the other."""
        places: dict[Value, int] = {}
        indices = [np.empty(0, np.int64)]
        for part in parts:
            there = [places.setdefault(value, len(places)) for value in part.values]
            indices.append(np.array(there, np.int64)[part.indices])
        return cls(tuple(places), np.concatenate(indices))

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
        """Each value that there is, and how many items are it."""
        found = np.bincount(self.indices, minlength=len(self.values)).tolist()
        return [(value, number) for value, number in zip(self.values, found, strict=True) if number]

    def to_arrow(self, kind: pa.DataType) -> Any:
        """The items as an Arrow array; tuples as lists."""
        values = [list(value) if isinstance(value, tuple) else value for value in self.values]
        return pa.array(values, kind).take(pa.array(self.indices))
