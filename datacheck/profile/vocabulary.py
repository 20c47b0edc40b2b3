"""The distinct values of a field with their exact counts, as long as there are few of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import take_rows
from datacheck.distinct import distinct
from datacheck.leaves import BoolArray, Leaf

Array = np.ndarray[Any, Any]

#: Leading values to probe: if they already have too many distinct ones, the rest is not counted.
_PROBE = 4096
#: Longer texts, in bytes, are not counted.
_MAX_BYTES = 200
#: Integers within so small a range are counted by their offset from the least one.
_SPAN = 4096


class Vocabulary:
    """Counts of at most ``limit`` distinct integers, booleans or texts.

    ``counts`` is None once there are more, or a text is too long or not valid UTF-8.
    """

    __slots__ = ("counts", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts: dict[Any, int] | None = {}

    def merge(self, other: Vocabulary) -> None:
        """Add the counts of another vocabulary."""
        if other.counts is None:
            self.counts = None
        else:
            self._count(other.counts.items())

    def add_booleans(self, values: Array) -> None:
        """Count booleans, none of them null."""
        true = int(np.count_nonzero(values))
        self._count((value, count) for value, count in ((False, len(values) - true), (True, true)) if count)

    def add_integers(self, values: Array, validity: BoolArray | None, low: int, high: int) -> None:
        """Count integers from ``low`` to ``high``."""
        if self.counts is None:
            return
        if high - low >= _SPAN and len(distinct(values[:_PROBE])) > self.limit + (validity is not None):
            self.counts = None
            return
        if validity is not None:
            values = values[validity]
        if high - low < _SPAN:
            # Differences of unsigned integers do not wrap, and differences of int64 are small.
            near = values - values.dtype.type(low) if values.dtype.kind == "u" else values.astype(np.int64) - low
            counts = np.bincount(near.astype(np.int64, copy=False))
            offsets = np.flatnonzero(counts)
            if len(offsets) > self.limit:
                self.counts = None
                return
            self._count(zip((low + offset for offset in offsets.tolist()), counts[offsets].tolist(), strict=True))
        else:
            different, counts = np.unique(values, return_counts=True)
            if len(different) > self.limit:
                self.counts = None
                return
            self._count(zip(different.tolist(), counts.tolist(), strict=True))

    def add_text(self, encoded: pa.DictionaryArray | None) -> None:
        """Count texts by their dictionary; None stands for texts with too many distinct values."""
        if self.counts is None:
            return
        if encoded is None or len(encoded.dictionary) > self.limit:
            self.counts = None
            return
        if not len(encoded.dictionary):
            return
        longest = pc.max(pc.binary_length(encoded.dictionary)).as_py()
        try:
            texts = encoded.dictionary.to_pylist() if longest <= _MAX_BYTES else None
        except UnicodeDecodeError:
            texts = None
        if texts is None:
            self.counts = None
            return
        indices = encoded.indices.drop_null().to_numpy(zero_copy_only=False)
        counts = np.bincount(indices, minlength=len(texts)).tolist()
        self._count((text, count) for text, count in zip(texts, counts, strict=True) if count)

    def _count(self, counted: Iterable[tuple[Any, int]]) -> None:
        if self.counts is None:
            return
        for value, count in counted:
            self.counts[value] = self.counts.get(value, 0) + count
        if len(self.counts) > self.limit:
            self.counts = None


def encode_codes(leaf: Leaf) -> pa.DictionaryArray:
    """Texts or bytes of a leaf that holds each value once (``Leaf.codes``) by dictionary, without a copy for each position."""
    encoded = leaf.values.dictionary_encode()
    codes = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)[leaf.codes]
    used = np.bincount(codes if leaf.validity is None else codes[leaf.validity], minlength=len(encoded.dictionary)) > 0
    indices = (np.cumsum(used) - 1)[codes].astype(np.int64)
    bits = None if leaf.validity is None else pa.py_buffer(np.packbits(leaf.validity, bitorder="little"))
    places = pa.Array.from_buffers(pa.int64(), len(indices), [bits, pa.py_buffer(indices)])
    return pa.DictionaryArray.from_arrays(places, take_rows(encoded.dictionary, np.flatnonzero(used)))


def encode_text(values: pa.Array, limit: int) -> pa.DictionaryArray | None:
    """Encode texts by dictionary; None if there are more than ``limit`` distinct ones, which the first ones may show."""
    if len(values) > _PROBE and pc.count_distinct(values.slice(0, _PROBE), mode="only_valid").as_py() > limit:
        return None
    encoded = values.dictionary_encode()
    return None if len(encoded.dictionary) > limit else encoded
