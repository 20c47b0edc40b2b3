"""The wire format of protocol buffers: the fields of one message, without knowing its type."""

from __future__ import annotations

from collections.abc import Iterator


def read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """A varint, and where it ends; raises ``ValueError`` where the data end before it does."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise ValueError("a number is cut off")


def fields_of(data: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """``(number, value)`` of each field: an integer, or the bytes of text, a message or packed numbers.

    Raises ``ValueError`` where the data are not a message.
    """
    view = memoryview(data)
    at = 0
    while at < len(view):
        tag, at = read_varint(view, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(view, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = read_varint(view, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")
        if at + length > len(view):
            raise ValueError("a field is cut off")
        yield tag >> 3, view[at : at + length]
        at += length
