"""Hashes that are equal exactly for equal values, whatever dtype stores them.

Every value becomes a word of 64 bits and a tag, and two values are equal if both are. A number that is whole and fits
64 bits is the same as an integer, a float and a decimal. An instant is the same in every unit, and is no number.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.hashing.cast import cast
from datacheck.hashing.numbers import FACTORS, Hashes, coefficients, seed_of
from datacheck.hashing.rows import add_leaf, hash_slots
from datacheck.leaves import FLOAT_FORMATS, Leaf
from datacheck.schema.times import NANOSECONDS

Array = np.ndarray[Any, Any]

#: What tells values with equal words apart. Integers that fit ``int64``, and text, have the tag 0.
_ABOVE_INT64, _FRACTION, _BYTES, _INSTANT, _DURATION, _TIME_OF_DAY, _FAR, _LONG = range(1, 9)
#: From here on tags count the decimal places of numbers that no float is.
_DECIMAL = 16
_TWO_63, _TWO_64 = 2.0**63, 2.0**64

#: A leaf of words, and the tags of its slots, or the one tag of all.
_Tagged = tuple[Leaf, Array | int]


def add_exact(leaf: Leaf, into: Hashes, *, slotwise: bool) -> None:
    """Add a leaf with at most one value per row, or of Arrow lists, to hashes ``(salts, rows)``."""
    if leaf.values is None or not len(leaf):
        return
    words, tags = _tagged(leaf)
    for salt, hashes in enumerate(into):
        if isinstance(tags, np.ndarray) or (tags and leaf.levels):
            add_leaf(words, hashes, _slots(words, tags, salt), slotwise=slotwise, salt=salt)
            continue
        add_leaf(words, hashes, slotwise=slotwise, salt=salt)
        if tags:
            hashes[... if leaf.validity is None else leaf.validity] += _tag_terms(leaf, tags, salt)


def exact_slots(leaf: Leaf, salt: int = 0) -> tuple[Leaf, Hashes]:
    """The leaf as words, and the term of each slot of it, ``(slots,)``."""
    if leaf.values is None or not len(leaf):
        return leaf, hash_slots(leaf, salt=salt)
    words, tags = _tagged(leaf)
    return words, _slots(words, tags, salt)


def _slots(words: Leaf, tags: Array | int, salt: int) -> Hashes:
    terms = hash_slots(words, salt=salt)
    added = _tag_terms(words, tags, salt)
    terms += added if words.validity is None else np.where(words.validity, added, np.uint64(0))
    return terms


def _tag_terms(leaf: Leaf, tags: Array | int, salt: int) -> Hashes:
    return np.asarray(tags, np.uint64) * coefficients(seed_of(leaf.path, salt, "tag"), 1)


def _tagged(leaf: Leaf) -> _Tagged:
    if leaf.is_numeric:
        return _of_numbers(leaf)
    kind = leaf.values.type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return _of_times(leaf)
    if pa.types.is_decimal(kind):
        return _of_decimals(leaf)
    if pa.types.is_fixed_size_binary(kind):
        return replace(leaf, values=leaf.values.cast(pa.binary())), _BYTES
    return leaf, _BYTES if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else 0


def _as_words(leaf: Leaf, words: Array) -> Leaf:
    return replace(leaf, values=words, dtype="int64")


def _of_numbers(leaf: Leaf) -> _Tagged:
    values, kind = leaf.values, leaf.values.dtype.kind
    if leaf.dtype in FLOAT_FORMATS or (kind == "f" and values.dtype.itemsize <= 8):
        return _of_floats(leaf, cast(leaf, "float64").values)
    if kind == "f":
        with np.errstate(all="ignore"):
            near = values.astype(np.float64)
        # Rows that need the precision have words of their own.
        return _of_floats(leaf, near) if np.array_equal(near, values, equal_nan=True) else (leaf, _LONG)
    if kind not in "biu":
        return leaf, _LONG
    tags = np.where(values >= 2**63, _ABOVE_INT64, 0) if kind == "u" and values.dtype.itemsize == 8 else 0
    return cast(leaf, "int64"), tags


def _of_floats(leaf: Leaf, values: Array) -> _Tagged:
    with np.errstate(invalid="ignore"):
        is_whole = values == np.trunc(values)
        if not is_whole.any():
            return replace(leaf, values=values, dtype="float64"), _FRACTION
        values = np.where(np.isnan(values), np.nan, values)
        is_int = is_whole & (values >= -_TWO_63) & (values < _TWO_63)
        is_above = is_whole & (values >= _TWO_63) & (values < _TWO_64)
        words = np.where(is_int, values, 0).astype(np.int64)
        words[is_above] = values[is_above].astype(np.uint64).view(np.int64)
    is_fraction = ~(is_int | is_above)
    words[is_fraction] = values[is_fraction].view(np.int64)
    return _as_words(leaf, words), np.where(is_fraction, _FRACTION, np.where(is_above, _ABOVE_INT64, 0))


def _of_times(leaf: Leaf) -> _Tagged:
    """Times as nanoseconds modulo 2**64; those beyond ``int64`` also have their seconds in the tag."""
    kind, types = leaf.values.type, pa.types
    tag = _DURATION if types.is_duration(kind) else _TIME_OF_DAY if types.is_time(kind) else _INSTANT
    unit = "D" if types.is_date32(kind) else "ms" if types.is_date64(kind) else kind.unit
    scale = NANOSECONDS[unit]
    ticks = leaf.values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    counts = ticks.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    words = (counts.view(np.uint64) * np.uint64(scale)).view(np.int64)
    limit = (2**63 - 1) // scale
    is_far = (counts > limit) | (counts < -limit)
    if not is_far.any():
        return _as_words(leaf, words), tag
    seconds = counts * (scale // 10**9) if scale >= 10**9 else counts // (10**9 // scale)
    far = seconds.view(np.uint64) * FACTORS[0] + np.uint64(_FAR + 16 * tag)
    return _as_words(leaf, words), np.where(is_far, far, np.uint64(tag))


def _of_decimals(leaf: Leaf) -> _Tagged:
    """Decimals; each distinct one is handled in Python."""
    encoded = leaf.values.cast(pa.decimal256(76, leaf.values.type.scale)).dictionary_encode()
    found = [_of_decimal(value) for value in encoded.dictionary.to_pylist()] or [(0, 0)]
    words, tags = np.array([word for word, _ in found], np.int64), np.array([tag for _, tag in found], np.uint64)
    indices = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return _as_words(leaf, words[indices]), tags[indices]


def _of_decimal(value: Decimal) -> tuple[int, int]:
    """The word and the tag of a decimal, the same as for an equal integer or float if there is one."""
    exact = Fraction(value)
    if exact.denominator == 1 and -(2**63) <= exact < 2**64:
        number = exact.numerator
        return (number, 0) if number < 2**63 else (number - 2**64, _ABOVE_INT64)
    if Fraction(float(value)) == exact:
        return int(np.float64(float(value)).view(np.int64)), _FRACTION
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    unscaled, places = int("".join(map(str, digits))) * (-1 if value < 0 else 1), -exponent
    while unscaled % 10 == 0:
        unscaled, places = unscaled // 10, places - 1
    if -(2**63) <= unscaled < 2**63:
        return unscaled, (_DECIMAL + places) % 2**64
    digest = hashlib.blake2b(f"{unscaled}/{places}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little", signed=True), int.from_bytes(digest[8:], "little")
