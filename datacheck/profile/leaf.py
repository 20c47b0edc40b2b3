"""Profiles of leaves: counts, extremes, list lengths, small vocabularies and samples, all from one pass and mergeable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.leaves import BoolArray, Leaf, arrow_validity
from datacheck.numerics import CACHED_BLOCK, nan_mask, neginf_mask, posinf_mask, suspicious, to_float
from datacheck.profile.sample import Sample
from datacheck.profile.vocabulary import Vocabulary

Array = np.ndarray[Any, Any]

BlockExtremes = Sequence[tuple[Any, Any]]

_MAX_WORDS = 3
_UNORDERED = ("complex64", "complex128", "clongdouble")


@dataclass(slots=True)
class LeafProfile:
    """The profile of the leaves of one path and dtype.

    ``low`` and ``high`` are the exact extremes of the present, finite values: integers, floats (long doubles as such),
    decimals, or the ticks of times. They are None if there is no such value, if the dtype has no order, or if they were
    not requested. ``num_words`` counts the cells of a text file that are not of the dtype, and ``words`` are the first ones.
    ``lengths`` are the least and greatest length of lists. ``vocabulary`` and ``sample`` are None if they were not requested.
    """

    path: str | None
    dtype: str
    num_slots: int = 0
    num_nulls: int = 0
    num_nan: int = 0
    num_posinf: int = 0
    num_neginf: int = 0
    num_words: int = 0
    words: list[str] = field(default_factory=list)
    low: Any = None
    high: Any = None
    lengths: tuple[int, int] | None = None
    vocabulary: Vocabulary | None = None
    sample: Sample | None = None
    with_extremes: bool = True

    @classmethod
    def of(
        cls,
        leaf: Leaf,
        max_distinct: int,
        *,
        with_sample: bool,
        with_extremes: bool = True,
        with_codes: bool = True,
        expected: int = 0,
    ) -> LeafProfile:
        """Create an empty profile for leaves like this one, with about ``expected`` values in total.

        ``with_codes`` gives integers a vocabulary, too.
        """
        profile = cls(leaf.path, leaf.dtype, with_extremes=with_extremes)
        if max_distinct and (is_text(leaf) or (with_codes and _is_integer(leaf)) or leaf.dtype == "bool"):
            profile.vocabulary = Vocabulary(max_distinct)
        if with_sample and is_ordered(leaf):
            # If some values are null, their number is not known yet, so none is left out in advance.
            profile.sample = Sample(0 if leaf.num_nulls else expected)
        return profile

    @property
    def num_present(self) -> int:
        """The values that are not null."""
        return self.num_slots - self.num_nulls - self.num_words

    @property
    def num_infinite(self) -> int:
        return self.num_posinf + self.num_neginf

    def add(
        self,
        leaf: Leaf,
        encoded: pa.DictionaryArray | None,
        start: int,
        seed: int = 0,
        *,
        ends: BlockExtremes | None = None,
    ) -> None:
        """Add a leaf. ``encoded`` is its text by dictionary; ``start`` tells this part of the data from others.

        ``seed`` is 0, or the seed of other samples of the same rows. ``ends`` are its :func:`block_extremes`, where
        they are known.
        """
        self.num_slots += len(leaf)
        num_words = 0 if leaf.unconvertible is None else int(np.count_nonzero(leaf.unconvertible))
        self.num_words += num_words
        self.num_nulls += leaf.num_nulls - num_words
        if leaf.values is None or leaf.num_nulls == len(leaf):
            return
        if leaf.is_numeric:
            self._add_numbers(leaf, start, seed, ends)
        elif self.vocabulary is not None:
            self.vocabulary.add_text(encoded)
        elif pa.types.is_nested(leaf.values.type):
            self._add_lengths(leaf.values)
        else:
            self._add_ordered(leaf.values, start, seed)

    def merge(self, other: LeafProfile) -> None:
        """Merge another profile of the same path and dtype, which must not be used afterwards."""
        for name in ("num_slots", "num_nulls", "num_nan", "num_posinf", "num_neginf", "num_words"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.add_words(other.words)
        if other.low is not None:
            self._extend_range(other.low, other.high)
        if other.lengths is not None:
            self._extend_lengths(*other.lengths)
        if self.vocabulary is not None and other.vocabulary is not None:
            self.vocabulary.merge(other.vocabulary)
        if self.sample is not None and other.sample is not None:
            self.sample.merge(other.sample)

    def add_words(self, words: Iterable[str]) -> None:
        """Keep the first few different words."""
        self.words = list(dict.fromkeys([*self.words, *words]))[:_MAX_WORDS]

    def _extend_range(self, low: Any, high: Any) -> None:
        self.low = low if self.low is None or low < self.low else self.low
        self.high = high if self.high is None or high > self.high else self.high

    def _extend_lengths(self, low: int, high: int) -> None:
        known = self.lengths or (low, high)
        self.lengths = (min(known[0], low), max(known[1], high))

    def _add_numbers(self, leaf: Leaf, start: int, seed: int, ends: BlockExtremes | None) -> None:
        values, validity = leaf.values, leaf.validity
        kind = values.dtype.kind
        if leaf.dtype in _UNORDERED:
            for part in suspicious(values, leaf.dtype):
                self._count_nonfinite(_present(values, validity, part), leaf.dtype)
            return
        if kind == "b":
            if self.vocabulary is not None:
                self.vocabulary.add_booleans(values if validity is None else values[validity])
            return
        if leaf.may_be_nonfinite and self.with_extremes:
            self._add_floats(leaf, ends)
        elif leaf.may_be_nonfinite:
            for part in suspicious(values, leaf.dtype):
                self._count_nonfinite(_present(values, validity, part), leaf.dtype)
        elif self.with_extremes or self.vocabulary is not None:
            present = values if validity is None else values[validity]
            low, high = int(np.minimum.reduce(present)), int(np.maximum.reduce(present))
            self._extend_range(low, high)
            if self.vocabulary is not None:
                self.vocabulary.add_integers(values, validity, low, high)
        if self.sample is not None:
            self.sample.add(values, leaf.dtype, validity, start, seed)

    def _add_floats(self, leaf: Leaf, ends: BlockExtremes | None) -> None:
        dtype = leaf.dtype
        for begin in range(0, len(leaf), CACHED_BLOCK):
            chunk = _present(leaf.values, leaf.validity, slice(begin, begin + CACHED_BLOCK))
            if not len(chunk):
                continue
            numbers = to_float(chunk, dtype)
            low, high = extremes(numbers) if ends is None else ends[begin // CACHED_BLOCK]
            if np.isnan(low):
                is_nan = np.isnan(numbers)
                self.num_nan += int(np.count_nonzero(is_nan))
                numbers = numbers[~is_nan]
                if not len(numbers):
                    continue
                low, high = extremes(numbers)
            if not (np.isfinite(low) and np.isfinite(high)):
                self.num_posinf += int(np.count_nonzero(numbers == np.inf))
                self.num_neginf += int(np.count_nonzero(numbers == -np.inf))
                numbers = numbers[np.isfinite(numbers)]
                if not len(numbers):
                    continue
                low, high = np.minimum.reduce(numbers), np.maximum.reduce(numbers)
            is_wide = numbers.dtype.itemsize > 8
            self._extend_range(low if is_wide else float(low), high if is_wide else float(high))

    def _count_nonfinite(self, present: Array, dtype: str) -> None:
        self.num_nan += int(np.count_nonzero(nan_mask(present, dtype)))
        self.num_posinf += int(np.count_nonzero(posinf_mask(present, dtype)))
        self.num_neginf += int(np.count_nonzero(neginf_mask(present, dtype)))

    def _add_lengths(self, values: pa.Array) -> None:
        if pa.types.is_struct(values.type):
            return
        found = pc.min_max(pc.list_value_length(values)).as_py()
        if found["min"] is not None:
            self._extend_lengths(found["min"], found["max"])

    def _add_ordered(self, values: pa.Array, start: int, seed: int) -> None:
        """The extremes of times and decimals."""
        types = pa.types
        is_time = types.is_temporal(values.type) and not types.is_interval(values.type)
        if not (is_time or types.is_decimal(values.type)):
            return
        numbers = values.view(_ticks(values.type)) if is_time else values
        if types.is_decimal(values.type) and values.type.bit_width < 128:
            numbers = values.cast(pa.decimal128(38, values.type.scale))
        if self.with_extremes or is_time:
            found = pc.min_max(numbers)
            self._extend_range(found["min"].as_py(), found["max"].as_py())
        if self.sample is not None:
            validity = arrow_validity(values)
            flat = (numbers if is_time else numbers.cast(pa.float64())).fill_null(0).to_numpy(zero_copy_only=False)
            self.sample.add(flat, flat.dtype.name, validity, start, seed)


def extremes(values: Array) -> tuple[Any, Any]:
    """The least and the greatest of some values; NaN if one is."""
    with np.errstate(invalid="ignore"):
        # minimum and maximum propagate NaN. fmin and fmax lose values beside a signalling one.
        return np.minimum.reduce(values), np.maximum.reduce(values)


def block_extremes(leaf: Leaf) -> BlockExtremes | None:
    """The extremes of each ``CACHED_BLOCK`` of a leaf of floats without nulls; None of others."""
    if leaf.values is None or not leaf.is_numeric or leaf.validity is not None or not leaf.may_be_nonfinite:
        return None
    if leaf.dtype in _UNORDERED:
        return None
    starts = range(0, len(leaf), CACHED_BLOCK)
    return [extremes(to_float(leaf.values[start : start + CACHED_BLOCK], leaf.dtype)) for start in starts]


def _present(values: Array, validity: BoolArray | None, part: slice) -> Array:
    chunk: Array = values[part]
    return chunk if validity is None else chunk[validity[part]]


def _ticks(kind: pa.DataType) -> pa.DataType:
    return pa.int32() if kind.bit_width == 32 else pa.int64()


def _is_integer(leaf: Leaf) -> bool:
    """Whether the values are integers, not another format stored as integers."""
    return leaf.is_numeric and leaf.dtype.startswith(("int", "uint"))


def is_text(leaf: Leaf) -> bool:
    """Whether the leaf's values are text."""
    return not leaf.is_numeric and leaf.values is not None and leaf.dtype == "string"


def is_ordered(leaf: Leaf) -> bool:
    """Whether the values are numbers or times that have an order; booleans do not count."""
    if leaf.values is None:
        return False
    if leaf.is_numeric:
        return leaf.dtype not in ("bool", *_UNORDERED)
    kind = leaf.values.type
    types = pa.types
    return bool((types.is_temporal(kind) and not types.is_interval(kind)) or types.is_decimal(kind))
