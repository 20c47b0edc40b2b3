"""Row hashes of 64 or 128 bits, computed at some gigabytes a second.

A row's hash is the sum, modulo 2**64, of one term for each of its values: the value's bits, mixed, times an odd number
that depends on the field and on the position inside it. A sum needs no order, so columns may come in any order and in any
number of batches. Equal rows have equal hashes; two different rows share a hash about once in 10^19 pairs. A second
``salt`` gives an independent hash, which confirms a match (:func:`add_leaf`) or makes 128 bits (:mod:`datacheck.hashing.keys`).

Zeros are equal whatever their sign, NaNs whatever their bits, and nulls equal each other. Other values are equal if their
bits are, so a number in another dtype is a different value until it is cast (:mod:`datacheck.hashing.cast`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.hashing.numbers import FACTORS, Hashes, coefficients, fold, mix, number_words, seed_of, term_blocks
from datacheck.leaves import Leaf, Picked, Regular

Array = np.ndarray[Any, Any]

#: Eight-byte values per block: the block and its intermediate results fit the second-level cache.
_BLOCK_WORDS = 1 << 15
#: With ``quick``, a row of more than ``_MANY_WORDS`` words is hashed by ``_FEW_WORDS`` of them.
_MANY_WORDS, _FEW_WORDS = 32, 8
#: Texts per block. Arrays of 128 KB and more come fresh from the operating system, which would dominate the time.
_BLOCK_TEXTS = 1 << 13
#: Texts longer than this, in bytes, are hashed one by one.
_LONG_TEXT = 256
_NULL = 0x6E756C6C
#: For a text of 0 to 8 bytes, the mask of its bytes within an eight-byte word.
_TEXT_MASKS = np.frombuffer(b"".join(b"\xff" * kept + b"\0" * (8 - kept) for kept in range(9)), np.uint64)


def _null_term(seed: int) -> np.uint64:
    """The term of a null, which equals the term of a value only by chance."""
    return np.uint64(coefficients(seed ^ _NULL, 1)[0])


def _seed(leaf: Leaf, salt: int) -> int:
    return seed_of(leaf.path, salt) if salt else seed_of(leaf.path)


def _rows_per_block(row_bytes: int) -> int:
    return max(1, _BLOCK_WORDS * 8 // max(8, row_bytes))


def add_leaf(
    leaf: Leaf,
    into: Hashes,
    slots: Hashes | None = None,
    *,
    quick: bool = False,
    slotwise: bool = False,
    has_nan: bool = True,
    salt: int = 0,
) -> bool:
    """Add the terms of a leaf to the hashes of its rows.

    Args:
        leaf: the values to add.
        into: the hashes so far, ``(rows,)``, changed in place.
        slots: the leaf's terms from :func:`hash_slots`, if already known.
        quick: hash only a few values of long rows. Equal rows still have equal hashes; different rows may, too.
        slotwise: give a list the same hash whether or not its type fixes its length.
        has_nan: False if no value is NaN, which saves a pass.
        salt: another salt gives an independent hash.

    Returns:
        Whether every value counted; only ``quick`` leaves any out.
    """
    if leaf.values is None or not len(leaf):
        return True
    if slots is None and leaf.is_numeric and leaf.levels and not slotwise and _has_fixed_shape(leaf):
        return _add_fixed_shape(leaf, into, quick=quick, has_nan=has_nan, salt=salt)
    if slots is None and leaf.is_numeric and not leaf.levels:
        _add_numbers(leaf, into, has_nan=has_nan, salt=salt)
        return True
    terms = hash_slots(leaf, salt=salt) if slots is None else slots
    if leaf.levels:
        _add_nested(leaf, terms, np.arange(len(leaf)), into)
    else:
        into += terms
    return True


def _has_fixed_shape(leaf: Leaf) -> bool:
    """Whether each row, unless it is null, has the same number of values, all in one array."""
    first, *others = leaf.levels
    return isinstance(first, Regular) and all(isinstance(level, Picked) for level in others)


def _add_fixed_shape(leaf: Leaf, into: Hashes, *, quick: bool, has_nan: bool, salt: int) -> bool:
    """Add one array per row, all of one shape. A row's hash must not depend on its neighbours or on the memory order."""
    level = leaf.levels[0]
    assert isinstance(level, Regular)
    shape, order = level.shape, "F" if level.order == "F" else "C"
    width = len(leaf) // shape[0]
    rows = np.arange(len(into))
    if len(leaf.levels) > 1:
        rows, _ = leaf.locate(np.arange(shape[0]) * width)
    values = leaf.values.reshape(shape, order=order)
    valid = None if leaf.validity is None else leaf.validity.reshape(shape, order=order)  # type: ignore[call-overload]
    # In Fortran order the values of a row are scattered, so rows are gathered a block at a time.
    step = shape[0] if values.flags.c_contiguous else _rows_per_block(width * values.dtype.itemsize)
    seed, is_whole = _seed(leaf, salt), True
    for start in range(0, shape[0], step):
        matrix, targets = values[start : start + step].reshape(-1, width), rows[start : start + step]
        if valid is not None:
            is_full = valid[start : start + step].reshape(-1, width).all(axis=1)
            matrix, targets = matrix[is_full], targets[is_full]
        is_whole = _add_matrix(matrix, seed, into, targets, quick=quick, has_nan=has_nan) and is_whole
    if valid is not None:
        has_null = ~valid.reshape(shape[0], -1).all(axis=1)
        positions = np.arange(len(leaf)).reshape(shape, order=order)[has_null]  # type: ignore[call-overload]
        _add_nested(leaf, hash_slots(leaf, salt=salt), positions.reshape(-1), into)
    return is_whole


def _add_nested(leaf: Leaf, terms: Hashes, positions: Array, into: Hashes) -> None:
    """Add terms one by one, each times a factor for its index inside the row's value."""
    step = _rows_per_block(8)
    for start in range(0, len(positions), step):
        part = positions[start : start + step]
        rows, index = leaf.locate(part)
        found = terms[part]
        if index.shape[1]:
            # The term of a zero is zero, and yet it makes a list longer.
            found = (found + FACTORS[1]) * _index_factors(index)
        np.add.at(into, rows, found)


def _add_numbers(leaf: Leaf, into: Hashes, *, has_nan: bool, salt: int) -> None:
    """Add one number per row."""
    seed = _seed(leaf, salt)
    for part, terms in term_blocks(leaf.values, seed, has_nan=has_nan):
        if leaf.validity is not None:
            terms[~leaf.validity[part]] = _null_term(seed)
        into[part] += terms


def _take_middle(matrix: Array) -> Array:
    """A few neighbouring values from the middle of each row: close together in memory, and seldom padding."""
    length = max(1, 8 * _FEW_WORDS // matrix.dtype.itemsize)
    start = (matrix.shape[1] - length) // 2
    return np.ascontiguousarray(matrix[:, start : start + length])


def _add_matrix(matrix: Array, seed: int, into: Hashes, rows: Array, *, quick: bool, has_nan: bool = True) -> bool:
    """Add each row of a matrix to the hash of one of ``rows``; return whether all of its values counted."""
    is_whole, in_order = True, len(rows) == len(into)
    step = _rows_per_block(matrix.shape[1] * matrix.dtype.itemsize)
    if quick and matrix.shape[1] * matrix.dtype.itemsize > 8 * _MANY_WORDS:
        matrix, is_whole = _take_middle(matrix), False
        step = _rows_per_block(8 * _FEW_WORDS)
    for start in range(0, len(matrix), step):
        part = slice(start, start + step)
        words = fold(number_words(matrix[part], has_nan=has_nan))
        terms = np.einsum("ij,j->i", words, coefficients(seed, words.shape[1]))
        if in_order:
            into[part] += terms
        else:
            into[rows[part]] += terms
    return is_whole


def _index_factors(index: Array) -> Hashes:
    """An odd number for each index ``(values, axes)`` inside a row's value."""
    factors = np.full(len(index), index.shape[1], np.uint64)
    for axis in range(index.shape[1]):
        factors = mix(factors ^ index[:, axis].astype(np.uint64))
    return factors | np.uint64(1)


def hash_slots(leaf: Leaf, encoded: pa.DictionaryArray | None = None, salt: int = 0) -> Hashes:
    """The term of each slot of a leaf, ``(slots,)``; ``encoded`` is the leaf's text by dictionary, if already known."""
    seed = _seed(leaf, salt)
    if encoded is not None:
        terms = _hash_encoded(encoded, seed)
    elif leaf.is_numeric:
        terms = _hash_numbers(leaf.values, seed)
    else:
        is_nested = not all(isinstance(level, Picked) for level in leaf.levels)
        terms = _hash_arrow(leaf.values, seed, is_nested=is_nested)
    if leaf.validity is not None:
        terms[~leaf.validity] = _null_term(seed)
    return terms


def _hash_numbers(values: Array, seed: int) -> Hashes:
    found = np.empty(len(values), np.uint64)
    for part, terms in term_blocks(values, seed):
        found[part] = terms
    return found


def _hash_arrow(values: pa.Array, seed: int, *, is_nested: bool) -> Hashes:
    kind, types = values.type, pa.types
    if types.is_null(kind):
        return np.full(len(values), _null_term(seed), np.uint64)
    if types.is_nested(kind):
        # Its values have leaves of their own. A container inside a list counts for the length of that list.
        return np.full(len(values), 1 if is_nested else 0, np.uint64)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return _hash_text(values, seed)
    if len(values) == 0:
        return np.empty(0, np.uint64)
    width = kind.bit_width // 8
    data = np.frombuffer(values.buffers()[1], np.uint8, count=(values.offset + len(values)) * width)
    matrix = data.reshape(-1, width)[values.offset :]
    terms = np.zeros(len(values), np.uint64)
    _add_matrix(matrix, seed, terms, np.arange(len(terms)), quick=False)
    return terms


def _hash_encoded(encoded: pa.DictionaryArray, seed: int) -> Hashes:
    if not len(encoded.dictionary):
        return np.zeros(len(encoded), np.uint64)
    hashed = _hash_text(encoded.dictionary, seed)
    indices = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray(hashed[indices], np.uint64)


def _hash_text(values: pa.Array, seed: int) -> Hashes:
    """The terms of texts or bytes: their lengths, their first and last eight bytes, and the words in between."""
    terms = np.zeros(len(values), np.uint64)
    for start in range(0, len(values), _BLOCK_TEXTS):
        block = _TextBlock.of(values.slice(start, _BLOCK_TEXTS))
        if block is not None:
            block.add_terms(seed, terms[start : start + _BLOCK_TEXTS])
    return terms


@dataclass(frozen=True, slots=True)
class _TextBlock:
    """Texts in one buffer. ``words[i]`` is the eight bytes from position ``i`` on, unaligned, so none are put together."""

    data: Array
    words: Hashes
    starts: Array
    ends: Array

    @classmethod
    def of(cls, values: pa.Array) -> _TextBlock | None:
        """The texts of an Arrow array of strings or bytes; None if it has no buffers."""
        _, offset_buffer, data_buffer = values.buffers()
        if offset_buffer is None:
            return None
        wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
        count = values.offset + len(values) + 1
        offsets = np.frombuffer(offset_buffer, np.int64 if wide else np.int32, count=count)[values.offset :]
        first, last = int(offsets[0]), int(offsets[-1])
        data = np.frombuffer(data_buffer, np.uint8, count=last)[first:] if last > first else np.empty(0, np.uint8)
        padded = np.zeros(len(data) + 8, np.uint8)
        padded[: len(data)] = data
        words = np.ndarray((len(data) + 1,), np.uint64, padded, strides=(1,))
        offsets = offsets.astype(np.int64) - first
        return cls(data, words, offsets[:-1], offsets[1:])

    def add_terms(self, seed: int, terms: Hashes) -> None:
        """Add what each text contributes to its term."""
        lengths = self.ends - self.starts
        terms += (lengths.astype(np.uint64) + np.uint64(1)) * np.uint64(seed | 1)
        if not len(self.data):
            return
        is_long = lengths > _LONG_TEXT
        if is_long.any():
            self._add_digests(np.flatnonzero(is_long), seed, terms)
            lengths = np.where(is_long, 0, lengths)
        self._add_words(lengths, seed, terms)

    def _add_digests(self, rows: Array, seed: int, terms: Hashes) -> None:
        """Add long texts, one by one."""
        salt = seed.to_bytes(8, "little")
        digests = [
            hashlib.blake2b(self.data[start:end].tobytes(), digest_size=8, salt=salt).digest()
            for start, end in zip(self.starts[rows].tolist(), self.ends[rows].tolist(), strict=True)
        ]
        terms[rows] += np.frombuffer(b"".join(digests), np.uint64) * np.uint64(seed | 1)

    def _add_words(self, lengths: Array, seed: int, terms: Hashes) -> None:
        """Add the first word of each text, masked if it is shorter, then the last one, then those in between."""
        factors = coefficients(seed, _LONG_TEXT // 8 + 2)
        shortest, longest = int(lengths.min()), int(lengths.max())
        first = self.words[self.starts]
        if shortest < 8:
            first &= _TEXT_MASKS.take(np.minimum(lengths, 8))
        terms += fold(first) * factors[1]
        if longest > 8:
            self._add_words_at(self.ends - 8, None if shortest > 8 else lengths > 8, factors[2], terms)
        for position in range(8, longest - 8, 8):
            chosen = None if shortest > position + 8 else lengths > position + 8
            self._add_words_at(self.starts + position, chosen, factors[2 + position // 8], terms)

    def _add_words_at(self, positions: Array, chosen: Array | None, factor: np.uint64, terms: Hashes) -> None:
        """Add the words at positions to the terms of the chosen texts, or of all."""
        if chosen is None:
            terms += fold(self.words[positions]) * factor
        else:
            rows = np.flatnonzero(chosen)
            terms[rows] += fold(self.words[positions[rows]]) * factor
