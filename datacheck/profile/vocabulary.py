"""The distinct values of a field and how often each stands, exactly, while there are few of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.leaves import BoolArray

__all__ = ["Vocabulary", "encode_text"]

Array = np.ndarray[Any, Any]

#: Values that are looked at first: where they have too many distinct ones already, the rest is not counted.
_PROBE = 4096
#: Bytes of a text beyond which it is no word of a vocabulary.
_LONGEST = 200
#: Integers so close together are counted by their place.
_SPAN = 4096


class Vocabulary:
    """Counts of at most ``limit`` distinct integers, booleans or texts.

    ``counts`` is None once there were more, or a text that cannot be listed.
    """

    __slots__ = ("counts", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts: dict[Any, int] | None = {}

    def merge(self, other: Vocabulary) -> None:
        """Add what another has counted."""
        if other.counts is None:
            self.counts = None
        else:
            self._count(other.counts.items())

    def add_booleans(self, values: Array) -> None:
        """Count booleans that are present."""
        true = int(np.count_nonzero(values))
        self._count((value, count) for value, count in ((False, len(values) - true), (True, true)) if count)

    def add_integers(self, values: Array, validity: BoolArray | None, low: int, high: int) -> None:
        """Count integers from ``low`` to ``high``."""
        if self.counts is None:
            return
        if high - low >= _SPAN and len(np.unique(values[:_PROBE])) > self.limit + (validity is not None):
            self.counts = None
            return
        if validity is not None:
            values = values[validity]
        if high - low < _SPAN:
            # Differences of unsigned integers do not wrap, and those of int64 are small.
            near = values - values.dtype.type(low) if values.dtype.kind == "u" else values.astype(np.int64) - low
            counts = np.bincount(near.astype(np.int64, copy=False))
            places = np.flatnonzero(counts)
            if len(places) > self.limit:
                self.counts = None
                return
            self._count(zip((low + place for place in places.tolist()), counts[places].tolist(), strict=True))
        else:
            distinct, counts = np.unique(values, return_counts=True)
            if len(distinct) > self.limit:
                self.counts = None
                return
            self._count(zip(distinct.tolist(), counts.tolist(), strict=True))

    def add_text(self, encoded: pa.DictionaryArray | None) -> None:
        """Count texts by their dictionary; None where it has too many."""
        if self.counts is None:
            return
        if encoded is None or len(encoded.dictionary) > self.limit:
            self.counts = None
            return
        if not len(encoded.dictionary):
            return
        longest = pc.max(pc.binary_length(encoded.dictionary)).as_py()
        try:
            words = encoded.dictionary.to_pylist() if longest <= _LONGEST else None
        except UnicodeDecodeError:
            words = None
        if words is None:
            self.counts = None
            return
        indices = encoded.indices.drop_null().to_numpy(zero_copy_only=False)
        counts = np.bincount(indices, minlength=len(words)).tolist()
        self._count((word, count) for word, count in zip(words, counts, strict=True) if count)

    def _count(self, counted: Iterable[tuple[Any, int]]) -> None:
        if self.counts is None:
            return
        for value, count in counted:
            self.counts[value] = self.counts.get(value, 0) + count
        if len(self.counts) > self.limit:
            self.counts = None


def encode_text(values: pa.Array, limit: int) -> pa.DictionaryArray | None:
    """Texts by dictionary; None where there are more than ``limit`` of them, which is seen from the first ones if it can."""
    if len(values) > _PROBE and pc.count_distinct(values.slice(0, _PROBE), mode="only_valid").as_py() > limit:
        return None
    encoded = values.dictionary_encode()
    return None if len(encoded.dictionary) > limit else encoded
