"""Records of ``tf.train.Example`` that differ in their values only: read all at once, without parsing each.

A file of fixed-size features repeats the same bytes between the values of every record. Where that holds for all records of
a batch, which is verified byte by byte, values lie at the same places in each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.sources.protobuf_wire import read_varint

_KINDS = {1: "bytes_list", 2: "float_list", 3: "int64_list"}
_BYTES = 2
_CONTINUES = 0x80
#: Records from this size on are compared and copied one by one: stacking them first would copy every value twice.
_LARGE_RECORD = 16 << 10


@dataclass(frozen=True, slots=True)
class FixedFeature:
    """A feature with equally many values in each record: ``(records, values)``, or bytes ``(records, length)``."""

    kind: str
    values: np.ndarray[Any, Any]


def read_by_template(records: Sequence[bytes]) -> dict[str, FixedFeature] | None:
    """The features of records by name; None if the records differ in more than values, or are not examples."""
    length = len(records[0]) if records else 0
    if not length or any(len(record) != length for record in records):
        return None
    try:
        places = dict(_places(records[0]))
    except (ValueError, IndexError):
        return None
    stack = _stack_of_large if length >= _LARGE_RECORD else _stack_of_small(records)
    start = 0
    for first, stop in [*sorted(place[1:] for place in places.values()), (length, length)]:
        between = stack(records, start, first)
        if not (between == between[0]).all():
            return None
        start = stop
    found = {}
    for name, (kind, first, stop) in places.items():
        values = stack(records, first, stop)
        if kind == "float_list":
            values = values.view("<f4")
        elif kind == "int64_list":
            if (values >= _CONTINUES).any():
                return None
            values = values.astype(np.int64)
        found[name] = FixedFeature(kind, values)
    return found


def _stack_of_large(records: Sequence[bytes], start: int, stop: int) -> np.ndarray[Any, Any]:
    """The bytes from ``start`` to ``stop`` of each record, ``(records, bytes)``."""
    parts = b"".join([memoryview(record)[start:stop] for record in records])
    return np.frombuffer(parts, np.uint8).reshape(len(records), stop - start)


def _stack_of_small(records: Sequence[bytes]) -> Callable[[Sequence[bytes], int, int], np.ndarray[Any, Any]]:
    """As :func:`_stack_of_large`, from all bytes of all records together."""
    rows = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
    return lambda _, start, stop: np.ascontiguousarray(rows[:, start:stop])


def _places(record: bytes) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """``(name, (kind, start, stop))`` of the values of each feature; raises ``ValueError`` for what has no such places."""
    names = set()
    for first, stop in _only(record, 0, len(record), 1):
        for begin, end in _only(record, first, stop, 1, is_repeated=True):
            parts = list(_fields(record, begin, end))
            if [number for number, _, _ in parts] != [1, 2]:
                raise ValueError("an entry has other parts than a key and a feature")
            (_, key, key_stop), (_, at, at_stop) = parts
            lists = list(_fields(record, at, at_stop))
            if len(lists) != 1 or lists[0][0] not in _KINDS:
                raise ValueError("a feature has no values, or several kinds of them")
            number, low, high = lists[0]
            (value,) = _only(record, low, high, 1)
            name, kind = record[key:key_stop].decode(), _KINDS[number]
            if name in names or (kind == "float_list" and (value[1] - value[0]) % 4):
                raise ValueError("a feature occurs twice, or has a part of a value")
            names.add(name)
            yield name, (kind, *value)


def _only(record: bytes, start: int, stop: int, number: int, *, is_repeated: bool = False) -> list[tuple[int, int]]:
    """The places of a message's fields, which are all of one number; raises ``ValueError`` where others are, or too many."""
    fields = list(_fields(record, start, stop))
    if any(one != number for one, _, _ in fields) or (len(fields) != 1 and not is_repeated):
        raise ValueError("a message has other fields")
    return [(first, last) for _, first, last in fields]


def _fields(record: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """``(number, start, stop)`` of the fields of a message, all of which have a length."""
    while start < stop:
        tag, start = read_varint(record, start)
        size, start = read_varint(record, start)
        if tag & 7 != _BYTES or start + size > stop:
            raise ValueError("a field is not of bytes, or goes on after its message")
        yield tag >> 3, start, start + size
        start += size
