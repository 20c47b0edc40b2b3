"""Mutations of a file's bytes: what disks, interrupted copies and attackers do to them."""

from __future__ import annotations

import random
import struct

__all__ = ["mutate"]

_LENGTHS = (0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def mutate(content: bytes, choose: random.Random) -> bytes:
    """The content with one to four changes."""
    data = bytearray(content)
    for _ in range(choose.choice((1, 1, 1, 2, 4))):
        choose.choice(_MUTATIONS)(data, choose)
    return bytes(data)


def _flip_bit(data: bytearray, choose: random.Random) -> None:
    if data:
        data[_place(data, choose)] ^= 1 << choose.randrange(8)


def _set_length(data: bytearray, choose: random.Random) -> None:
    """A number of 4 or 8 bytes that may be a length."""
    width = choose.choice(("<I", "<Q", ">I"))
    value = choose.choice(_LENGTHS) % (1 << 8 * struct.calcsize(width))
    at = _place(data, choose)
    data[at : at + struct.calcsize(width)] = struct.pack(width, value)


def _cut(data: bytearray, choose: random.Random) -> None:
    del data[_place(data, choose) :]


def _remove(data: bytearray, choose: random.Random) -> None:
    at = _place(data, choose)
    del data[at : at + choose.randint(1, 64)]


def _repeat(data: bytearray, choose: random.Random) -> None:
    at = _place(data, choose)
    data[at:at] = data[at : at + choose.randint(1, 64)] * choose.choice((1, 2, 1000))


def _zero(data: bytearray, choose: random.Random) -> None:
    """A page that was never written."""
    at = _place(data, choose)
    length = min(choose.randint(1, 512), len(data) - at)
    data[at : at + length] = bytes(length)


def _place(data: bytearray, choose: random.Random) -> int:
    """Anywhere, but often near the ends, where formats have their structure."""
    if not data:
        return 0
    near = min(len(data), 600)
    return choose.choice((choose.randrange(len(data)), choose.randrange(near), len(data) - 1 - choose.randrange(near)))


_MUTATIONS = (_flip_bit, _flip_bit, _set_length, _set_length, _cut, _remove, _repeat, _zero)
