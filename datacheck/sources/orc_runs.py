"""The integers of an ORC file (RLE, versions 1 and 2): run by run, each bounded before it is unpacked.

The specification is at https://orc.apache.org/specification/ORCv1. Signed integers are not read here: lengths and the indices
into a dictionary have no sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datacheck.sources.protobuf_wire import read_varint

#: The widths of packed integers, by their codes.
_WIDTHS = (*range(1, 25), 26, 28, 30, 32, 40, 48, 56, 64)
#: No length and no index has more bits.
_MOST_BITS = 48
_SHORTEST_RUN = 3


class Run(NamedTuple):
    """``num_values`` values, none above ``most``, and the function that unpacks them."""

    num_values: int
    most: int
    values: Callable[[], NDArray[np.int64]]


def runs_of(data: memoryview, version: int, num_values: int) -> Iterator[Run]:
    """The runs of at least ``num_values`` values, or of all that there are; raises ``ValueError`` for what is malformed."""
    read, at = _run_of_version_2 if version == 2 else _run_of_version_1, 0
    while num_values > 0 and at < len(data):
        run, at = read(data, at)
        if at > len(data):
            raise ValueError("a run of its lengths is cut off")
        num_values -= run.num_values
        yield run


def _run_of_version_1(data: memoryview, at: int) -> tuple[Run, int]:
    if (control := data[at]) < 128:
        count = control + _SHORTEST_RUN
        base, end = read_varint(data, at + 2)
        step = int.from_bytes(data[at + 1 : at + 2], "big", signed=True)
        return _line(base, step, count), end
    count, at = 256 - control, at + 1
    if len(short := bytes(data[at : at + count])) == count and short.isascii():
        return Run(count, max(short), partial(np.array, data[at : at + count], np.int64)), at + count
    literals = []
    for _ in range(count):
        value, at = read_varint(data, at)
        literals.append(_length(value))
    return Run(len(literals), max(literals), partial(np.array, literals, np.int64)), at


def _run_of_version_2(data: memoryview, at: int) -> tuple[Run, int]:
    first = data[at]
    if first < 64:
        end, count = at + 2 + (first >> 3), (first & 7) + _SHORTEST_RUN
        value = data[at + 1] if first < 8 else _length(int.from_bytes(data[at + 1 : end], "big"))
        return Run(count, value, partial(np.full, count, value)), end
    if at + 4 > len(data) and first >= 128:
        raise ValueError("a run of its lengths is cut off")
    code = first >> 1 & 31
    width, count = _WIDTHS[code], ((first & 1) << 8 | data[at + 1]) + 1
    if first < 128:
        return _packed(data, at + 2, count, width)
    return _patched(data, at, count, width) if first < 192 else _deltas(data, at + 2, count, width if code else 0)


def _line(base: int, step: int, count: int) -> Run:
    """The values of a run that grows by the same step, or falls."""
    last = _length(base) + step * (count - 1)
    _length(last)
    return Run(count, max(base, last), lambda: base + step * np.arange(count))


def _packed(data: memoryview, at: int, count: int, width: int) -> tuple[Run, int]:
    end = at + (count * width + 7) // 8
    return Run(count, _most(width), partial(_unpack, data[at:end], count, width)), end


def _patched(data: memoryview, at: int, count: int, width: int) -> tuple[Run, int]:
    """Small values, of which some have more bits in a list of patches: the gap to the one before, and the bits."""
    third, fourth = data[at + 2], data[at + 3]
    start = at + 5 + (third >> 5)
    base, patch_bits, num_patches = int.from_bytes(data[at + 4 : start], "big"), _WIDTHS[third & 31], fourth & 31
    small, at = _packed(data, start, count, width)
    entry_bits = next(bits for bits in _WIDTHS if bits >= min(64, (fourth >> 5) + 1 + patch_bits))
    end = at + (num_patches * entry_bits + 7) // 8
    most = _length(base) + _most(width + patch_bits)

    def values() -> NDArray[np.int64]:
        unpacked = small.values()
        entries = _unpack(data[at:end], num_patches, entry_bits)
        places = np.cumsum(entries >> patch_bits)
        if num_patches and (places[-1] >= count or (np.diff(places) <= 0).any()):
            raise ValueError("a run of its lengths has misplaced patches")
        unpacked[places] |= (entries & _most(patch_bits)) << width
        return unpacked + base

    return Run(count, most, values), end


def _deltas(data: memoryview, at: int, count: int, width: int) -> tuple[Run, int]:
    base, at = read_varint(data, at)
    zigzag, at = read_varint(data, at)
    step = zigzag >> 1 ^ -(zigzag & 1)
    if not width or count <= 2:
        return _line(base, step, count), at
    deltas, end = _packed(data, at, count - 2, width)
    if end > len(data):
        raise ValueError("a run of its lengths is cut off")
    second, sign = _length(_length(base) + step), -1 if step < 0 else 1

    def values() -> NDArray[np.int64]:
        return np.concatenate(([base], second + sign * np.cumsum(np.concatenate(([0], deltas.values())))))

    if sign < 0 and second < deltas.most * deltas.num_values:
        _length(int(values()[-1]))
    return Run(count, max(base, second + deltas.most * deltas.num_values * (sign > 0)), values), end


def _length(value: int) -> int:
    if not 0 <= value < 1 << _MOST_BITS:
        raise ValueError(f"a length of its values is {value:,}")
    return value


def _most(width: int) -> int:
    if width > _MOST_BITS:
        raise ValueError(f"a length of its values has {width} bits")
    return (1 << width) - 1


def _unpack(data: memoryview, count: int, width: int) -> NDArray[np.int64]:
    """Big-endian integers of ``width`` bits."""
    bits = np.zeros((count, 64), np.uint8)
    bits[:, 64 - width :] = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width).reshape(count, width)
    return np.packbits(bits, axis=1).view(">i8").ravel().astype(np.int64)
