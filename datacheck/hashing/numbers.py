"""Numbers as 64-bit words, and the term that each contributes to the hash of its row.

A term is the number's bits times an odd coefficient of its field, with the high half folded onto the low one: a
bijection in which every bit of the low half depends on all bits of the number. Numbers wider than 32 bits are also folded
first, because a product carries bits upwards only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]

FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
#: Numbers per block. Smaller blocks would fit a faster cache, but their threads would wait longer for the interpreter.
_BLOCK = 1 << 16
_HALF = np.uint64(32)
#: The first fold shifts by 29, not 32: in two numbers packed in one word, bits at the same position often change together.
_ASIDE = np.uint64(29)


def seed_of(*names: object) -> int:
    """A 64-bit seed derived from names, the same in every process."""
    text = "\0".join(map(repr, names)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def mix(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection after which every bit depends on all."""
    out = values + FACTORS[0]
    out ^= out >> np.uint64(30)
    out *= FACTORS[1]
    out ^= out >> np.uint64(27)
    out *= FACTORS[2]
    out ^= out >> np.uint64(31)
    return out


@lru_cache(maxsize=1024)
def coefficients(seed: int, count: int) -> Hashes:
    """``count`` odd numbers derived from a seed."""
    numbers = mix(np.arange(count, dtype=np.uint64) + np.uint64(seed)) | np.uint64(1)
    numbers.flags.writeable = False
    return numbers


def fold(words: Hashes) -> Hashes:
    """Mix high bits into low ones, in place."""
    words ^= words >> _ASIDE
    words *= FACTORS[0]
    words ^= words >> _HALF
    return words


def term_blocks(values: Array, seed: int, *, has_nan: bool = True) -> Iterator[tuple[slice, Hashes]]:
    """Yield the terms of numbers a block at a time; the next block overwrites them.

    ``has_nan`` is False if it is known that no value is NaN, which saves a pass.
    """
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind in "cV" or values.dtype.itemsize > 8:
        yield from _wide_blocks(values, seed)
        return
    coefficient = coefficients(seed, 1)[0]
    room = min(_BLOCK, len(values))
    words, spare = np.empty(room, np.uint64), np.empty(room, np.uint64)
    numbers = np.empty(room, values.dtype)
    kind, size = values.dtype.kind, values.dtype.itemsize
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        terms, other = words[: len(block)], spare[: len(block)]
        if kind == "f":
            block = _canonical(block, numbers[: len(block)], has_nan=has_nan)
        bits = block.view(f"u{size}")
        if size == 8:
            np.right_shift(bits, _ASIDE, out=other)
            np.bitwise_xor(bits, other, out=terms)
        else:
            terms[...] = bits
        np.multiply(terms, coefficient, out=terms)
        np.right_shift(terms, _HALF, out=other)
        np.bitwise_xor(terms, other, out=terms)
        yield slice(start, start + len(block)), terms


def _wide_blocks(values: Array, seed: int) -> Iterator[tuple[slice, Hashes]]:
    """As :func:`term_blocks`, for complex numbers and numbers of more than eight bytes."""
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        words = fold(number_words(block.reshape(-1, 1)))
        terms = np.asarray((words * coefficients(seed, words.shape[1])).sum(axis=1, dtype=np.uint64))
        yield slice(start, start + len(block)), terms


def number_words(values: Array, *, has_nan: bool = True) -> Hashes:
    """The bits of numbers ``(rows, width)`` as words ``(rows, words)``; the caller may overwrite them."""
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    values = np.ascontiguousarray(values)
    kind, size = values.dtype.kind, values.dtype.itemsize
    if values.dtype.type in (np.longdouble, np.clongdouble) and size > 8 * (2 if kind == "c" else 1):
        return _long_double_words(values)
    if kind in "fc":
        if kind == "c":
            values = values.view(values.real.dtype)
            size //= 2
        values = _canonical(values, np.empty_like(values), has_nan=has_nan)
    rows, width = values.shape
    if width * size % 8 == 0:
        words = values.view(np.uint64).reshape(rows, -1)
        return words if kind in "fc" else words.copy()
    if width == 1:
        return values.view(f"u{size}").astype(np.uint64)
    padded = np.zeros((rows, -(-width * size // 8) * 8), np.uint8)
    padded[:, : width * size] = values.view(np.uint8).reshape(rows, -1)
    return padded.view(np.uint64)


def _canonical(values: Array, out: Array, *, has_nan: bool) -> Array:
    """Copy floats into ``out``, with one zero and one NaN."""
    if values.dtype.itemsize == 2:
        bits = out.view(np.uint16)
        bits[...] = values.view(np.uint16)
        bits[bits == np.uint16(0x8000)] = 0
        bits[(bits & np.uint16(0x7FFF)) > np.uint16(0x7C00)] = np.uint16(0x7E00)
        return out
    with np.errstate(invalid="ignore"):
        np.add(values, values.dtype.type(0), out=out)
    if has_nan:
        absent = np.isnan(out)
        if absent.any():
            # Most NaNs already have the usual bits, and writing is the slow part.
            bits = out.view(f"u{out.dtype.itemsize}")
            unusual = absent & (bits != np.array(np.nan, out.dtype).view(bits.dtype))
            if unusual.any():
                out[unusual] = np.nan
    return out


def _long_double_words(values: Array) -> Hashes:
    """Long doubles as pairs of doubles, nearest and remainder, because their padding bytes are arbitrary."""
    real = np.longdouble
    parts = values.view(real) if values.dtype.kind == "c" else values
    with np.errstate(all="ignore"):
        near = parts.astype(np.float64)
        rest = np.where(np.isfinite(near), parts - near, 0).astype(np.float64)
    near, rest = (_canonical(half, np.empty_like(half), has_nan=True) for half in (near, rest))
    both = np.stack([near, rest], axis=2).reshape(len(values), -1)
    return both.view(np.uint64).copy()
