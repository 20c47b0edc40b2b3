"""64 bits of hash for each row, at some gigabytes a second.

A row's hash is the sum, modulo 2**64, of a term for each of its values: the value's bits, mixed, times an odd number
that belongs to the field and to the place in it. So fields may come in any order and in any number of batches, and what
each adds is added. Equal rows have equal hashes; two rows that differ have the same one about once in 10^19 pairs. Where
there are pairs enough for that, another ``salt`` gives hashes that confirm it.

Zeros are equal whatever their sign, NaNs whatever their bits, and nulls equal each other. Beyond that, values are
equal where their bits are, so the same number in another dtype is another value until it is recast.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.hashing.numbers import FACTORS, Hashes, coefficients, fold, mixed, number_words, seed_of, term_blocks
from datacheck.leaves import Leaf, Picked, Regular

__all__ = ["add_leaf", "chunk_rows", "hash_slots"]

Array = np.ndarray[Any, Any]

#: Values of eight bytes that are worked on together: they and what is made of them stay in the second-level cache.
_BLOCK_WORDS = 1 << 15
#: Rows of more words than this are told apart by fewer of them first.
_MANY_WORDS, _FEW_WORDS = 32, 8
#: Texts that are worked on together. Arrays of 128 KB and more come fresh from the system, which takes most of the time.
_BLOCK_TEXTS = 1 << 13
#: Texts that are longer than this, in bytes, are hashed one by one.
_LONG_TEXT = 256
_NULL = 0x6E756C6C
#: Of eight bytes in one number, those that are kept of a text of so many.
_KEPT = np.frombuffer(b"".join(b"\xff" * kept + b"\0" * (8 - kept) for kept in range(9)), np.uint64)


def _null_term(seed: int) -> np.uint64:
    """The term of a null: no value's term but by chance."""
    return np.uint64(coefficients(seed ^ _NULL, 1)[0])


def _seed(leaf: Leaf, salt: int) -> int:
    return seed_of(leaf.path, salt) if salt else seed_of(leaf.path)


def chunk_rows(row_bytes: int) -> int:
    """How many rows are worked on together."""
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
    """Add the terms of a leaf to the hashes of the rows that it is of, ``(rows,)``; whether all of its values counted.

    ``slots`` are the leaf's terms where they are known already (:func:`hash_slots`). ``quick`` takes few values of rows
    that have many: rows that differ may then have the same hash, and equal ones always do. With ``slotwise`` a list has
    the same hash whether its type says how long it is or not. ``has_nan`` is false where it is known that no value is
    NaN. Another ``salt`` makes other hashes, of which these say nothing.
    """
    if leaf.values is None or not len(leaf):
        return True
    if leaf.is_numeric and leaf.levels and not slotwise and _lies_by_rows(leaf):
        return _add_rows(leaf, into, quick=quick, has_nan=has_nan, salt=salt)
    if slots is None and leaf.is_numeric and not leaf.levels:
        _add_numbers(leaf, into, has_nan=has_nan, salt=salt)
        return True
    terms = hash_slots(leaf, salt=salt) if slots is None else slots
    if leaf.levels:
        _add_at(leaf, terms, np.arange(len(leaf)), into)
    else:
        into += terms
    return True


def _lies_by_rows(leaf: Leaf) -> bool:
    """Whether each row, if it is there, has the same number of values, all in one array."""
    first, *others = leaf.levels
    return isinstance(first, Regular) and all(isinstance(level, Picked) for level in others)


def _add_rows(leaf: Leaf, into: Hashes, *, quick: bool, has_nan: bool, salt: int) -> bool:
    """Add arrays of one shape a row. How a row is hashed depends on the row alone: its like may be stored otherwise."""
    level = leaf.levels[0]
    assert isinstance(level, Regular)
    shape, order = level.shape, "F" if level.order == "F" else "C"
    width = len(leaf) // shape[0]
    rows = np.arange(len(into))
    if len(leaf.levels) > 1:
        rows, _ = leaf.locate(np.arange(shape[0]) * width)
    values = leaf.values.reshape(shape, order=order)
    valid = None if leaf.validity is None else leaf.validity.reshape(shape, order=order)  # type: ignore[call-overload]
    # In Fortran order a row does not lie together, and is put together with its neighbours.
    step = shape[0] if values.flags.c_contiguous else chunk_rows(width * values.dtype.itemsize)
    seed, is_whole = _seed(leaf, salt), True
    for start in range(0, shape[0], step):
        matrix, places = values[start : start + step].reshape(-1, width), rows[start : start + step]
        if valid is not None:
            whole = valid[start : start + step].reshape(-1, width).all(axis=1)
            matrix, places = matrix[whole], places[whole]
        is_whole = _add_matrix(matrix, seed, into, places, quick=quick, has_nan=has_nan) and is_whole
    if valid is not None:
        partial = ~valid.reshape(shape[0], -1).all(axis=1)
        positions = np.arange(len(leaf)).reshape(shape, order=order)[partial]  # type: ignore[call-overload]
        _add_at(leaf, hash_slots(leaf, salt=salt), positions.reshape(-1), into)
    return is_whole


def _add_at(leaf: Leaf, terms: Hashes, positions: Array, into: Hashes) -> None:
    """Add terms one by one, each with its place inside the row's value."""
    step = chunk_rows(8)
    for start in range(0, len(positions), step):
        part = positions[start : start + step]
        rows, index = leaf.locate(part)
        found = terms[part]
        if index.shape[1]:
            # A zero has no term of its own, and yet it makes a list longer.
            found = (found + FACTORS[1]) * _place_factors(index)
        np.add.at(into, rows, found)


def _add_numbers(leaf: Leaf, into: Hashes, *, has_nan: bool, salt: int) -> None:
    """Add numbers of which each row has one."""
    seed = _seed(leaf, salt)
    for part, terms in term_blocks(leaf.values, seed, has_nan=has_nan):
        if leaf.validity is not None:
            terms[~leaf.validity[part]] = _null_term(seed)
        into[part] += terms


def _thinned(matrix: Array) -> Array:
    """A few values of each row: neighbours from its middle, which lie together in memory, and are seldom padding."""
    length = max(1, 8 * _FEW_WORDS // matrix.dtype.itemsize)
    start = (matrix.shape[1] - length) // 2
    return np.ascontiguousarray(matrix[:, start : start + length])


def _add_matrix(matrix: Array, seed: int, into: Hashes, rows: Array, *, quick: bool, has_nan: bool = True) -> bool:
    """Add each row of a matrix to the hash of one of ``rows``; whether all of its values counted."""
    is_whole, in_order = True, len(rows) == len(into)
    step = chunk_rows(matrix.shape[1] * matrix.dtype.itemsize)
    if quick and matrix.shape[1] * matrix.dtype.itemsize > 8 * _MANY_WORDS:
        matrix, is_whole = _thinned(matrix), False
        step = chunk_rows(8 * _FEW_WORDS)
    for start in range(0, len(matrix), step):
        part = slice(start, start + step)
        words = fold(number_words(matrix[part], has_nan=has_nan))
        terms = np.einsum("ij,j->i", words, coefficients(seed, words.shape[1]))
        if in_order:
            into[part] += terms
        else:
            into[rows[part]] += terms
    return is_whole


def _place_factors(index: Array) -> Hashes:
    """An odd number for each place ``(values, axes)`` inside a row's value."""
    place = np.full(len(index), index.shape[1], np.uint64)
    for axis in range(index.shape[1]):
        place = mixed(place ^ index[:, axis].astype(np.uint64))
    return place | np.uint64(1)


def hash_slots(leaf: Leaf, encoded: pa.DictionaryArray | None = None, salt: int = 0) -> Hashes:
    """A term for each slot of a leaf, ``(slots,)``; ``encoded`` is the leaf's text by dictionary, where it is known."""
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
        # Its own values are leaves of their own; that there is one is told only where its place is not a row.
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
    """The terms of texts or bytes."""
    terms = np.zeros(len(values), np.uint64)
    for start in range(0, len(values), _BLOCK_TEXTS):
        part = values.slice(start, _BLOCK_TEXTS)
        _add_texts(part, seed, terms[start : start + len(part)])
    return terms


def _add_texts(values: pa.Array, seed: int, terms: Hashes) -> None:
    """Add to the terms of texts their lengths, first and last eight bytes, and those between, eight at a time."""
    _, offset_buffer, data_buffer = values.buffers()
    if offset_buffer is None:
        return
    wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    count = values.offset + len(values) + 1
    offsets = np.frombuffer(offset_buffer, np.int64 if wide else np.int32, count=count)[values.offset :]
    first, last = int(offsets[0]), int(offsets[-1])
    offsets = offsets.astype(np.int64) - first
    starts, ends = offsets[:-1], offsets[1:]
    lengths = ends - starts
    terms += (lengths.astype(np.uint64) + np.uint64(1)) * np.uint64(seed | 1)
    if last == first:
        return
    data = np.frombuffer(data_buffer, np.uint8, count=last)[first:]
    padded = np.zeros(len(data) + 8, np.uint8)
    padded[: len(data)] = data
    # The eight bytes from every place on: as one number they need not be put together.
    words = np.ndarray((len(data) + 1,), np.uint64, padded, strides=(1,))
    factors = coefficients(seed, _LONG_TEXT // 8 + 2)
    shortest, longest = int(lengths.min()), int(lengths.max())
    if longest > _LONG_TEXT:
        long = lengths > _LONG_TEXT
        _add_digests(data, starts[long], ends[long], seed, terms, np.flatnonzero(long))
        lengths = np.where(long, 0, lengths)
        shortest, longest = 0, int(lengths.max())
    found = words[starts]
    if shortest < 8:
        found &= _KEPT.take(np.minimum(lengths, 8))
    terms += fold(found) * factors[1]
    if longest > 8:
        _add_words(words, ends - 8, None if shortest > 8 else lengths > 8, factors[2], terms)
    for place in range(8, longest - 8, 8):
        chosen = None if shortest > place + 8 else lengths > place + 8
        _add_words(words, starts + place, chosen, factors[2 + place // 8], terms)


def _add_words(words: Hashes, places: Array, chosen: Array | None, factor: np.uint64, terms: Hashes) -> None:
    """Add the words at places, of all texts or of the chosen ones, to their terms."""
    if chosen is None:
        terms += fold(words[places]) * factor
    else:
        rows = np.flatnonzero(chosen)
        terms[rows] += fold(words[places[rows]]) * factor


def _add_digests(data: Array, starts: Array, ends: Array, seed: int, terms: Hashes, rows: Array) -> None:
    """Add texts that are long, one by one."""
    digests = [
        hashlib.blake2b(data[start:end].tobytes(), digest_size=8).digest()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    terms[rows] += np.frombuffer(b"".join(digests), np.uint64) * np.uint64(seed | 1)
