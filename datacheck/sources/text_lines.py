"""Cuts bytes into blocks of whole lines, and knows the number of each line that is not blank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from datacheck.batch import RawRecords
from datacheck.leaves import IntArray

BOM = b"\xef\xbb\xbf"
_LF, _OPEN, _CLOSE = b"\n{}"
_BLANK = np.zeros(256, np.bool_)
_BLANK[list(b" \t\r\n")] = True


class LineBlock:
    """Whole lines. Blank ones are not records.

    Attributes:
        data: the lines, with their ends.
        first_line: the number of the first line in the file, from 1.
        num_bytes: that the block takes in the file; more than ``data`` for a line that is too long to be kept.
        is_too_long: whether the block is one line that was not kept.
    """

    def __init__(self, data: bytes, first_line: int, num_bytes: int, *, is_too_long: bool = False) -> None:
        self.data, self.first_line, self.num_bytes, self.is_too_long = data, first_line, num_bytes, is_too_long
        self._starts, self._stops = _line_bounds(data)
        self.num_lines = len(self._starts) if not is_too_long else 1
        #: Whether each line is a record: none is blank, and each begins and ends as an object does.
        self.is_plain = bool(data) and not is_too_long and self._are_objects()

    def _are_objects(self) -> bool:
        data = np.frombuffer(self.data, np.uint8)
        if not (self._stops > self._starts).all():
            return False
        return bool((data[self._starts] == _OPEN).all() and (data[self._stops - 1] == _CLOSE).all())

    @cached_property
    def bounds(self) -> tuple[IntArray, IntArray, IntArray]:
        """Where each line that is not blank begins and ends, and its index among all lines."""
        data, starts, stops = np.frombuffer(self.data, np.uint8), self._starts, self._stops
        keep = stops > starts
        begins_blank = np.flatnonzero(keep & _BLANK[data[np.minimum(starts, len(data) - 1)]])
        for index in begins_blank.tolist():
            keep[index] = bool(self.data[starts[index] : stops[index]].strip())
        return starts[keep], stops[keep], np.flatnonzero(keep)

    @property
    def may_be_whole(self) -> bool:
        """Whether all records can be parsed at once, since each is known to be one line."""
        return self.is_plain

    @property
    def num_rows(self) -> int:
        """The lines that are not blank."""
        if self.is_plain or self.is_too_long:
            return self.num_lines
        return len(self.bounds[0])

    @property
    def line_numbers(self) -> IntArray:
        """The number in the file of each line that is not blank."""
        if self.is_too_long:
            return np.array([self.first_line])
        return self.first_line + self.bounds[2]

    def lines(self) -> Iterator[bytes | str]:
        """The lines that are not blank, without their ends; instead of one that was not kept, what is wrong with it."""
        if self.is_too_long:
            yield f"{self.num_bytes:,} bytes long, and not read"
            return
        starts, stops, _ = self.bounds
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            yield self.data[start:stop]

    def raw(self, chosen: IntArray | None) -> RawRecords:
        """The bytes of the lines (of ``chosen`` ones), which are JSON, each with a line break at the end."""

        def make() -> pa.Array:
            starts, stops, _ = self.bounds
            if chosen is None:
                offsets = np.append(starts, stops[-1] + 1 if len(stops) else 0)
                return _binary(self.data if self.data.endswith(b"\n") else self.data + b"\n", offsets)
            picked = b"".join(self.data[starts[index] : stops[index]] + b"\n" for index in chosen.tolist())
            lengths = (stops - starts)[chosen] + 1
            return _binary(picked, np.concatenate([[0], np.cumsum(lengths)]))

        return RawRecords("jsonl", make)


def _line_bounds(data: bytes) -> tuple[IntArray, IntArray]:
    """Where each line begins, and where it ends without its line break."""
    stops = np.flatnonzero(np.frombuffer(data, np.uint8) == _LF)
    if data and not data.endswith(b"\n"):
        stops = np.append(stops, len(data))
    starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else np.empty(0, np.int64)
    return starts.astype(np.int64), stops.astype(np.int64)


def _binary(data: bytes, offsets: IntArray) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


@dataclass(frozen=True, slots=True)
class LineCount:
    """How many bytes, lines and rows some blocks have."""

    num_bytes: int = 0
    num_lines: int = 0
    num_rows: int = 0

    def plus(self, block: LineBlock) -> LineCount:
        return LineCount(
            self.num_bytes + block.num_bytes, self.num_lines + block.num_lines, self.num_rows + block.num_rows
        )


def read_lines(blocks: Iterable[bytes], first_line: int, max_line_bytes: int) -> Iterator[LineBlock]:
    """The whole lines of a stream of bytes. A line that is longer than ``max_line_bytes`` is a block without data."""
    parts: list[bytes] = []
    num_held, skipped = 0, 0
    line, is_start = first_line, first_line == 1
    for block in blocks:
        num_bom = len(BOM) if is_start and block.startswith(BOM) else 0
        is_start = False
        cut = block.rfind(b"\n") + 1
        if not cut:
            if skipped or num_held + len(block) > max_line_bytes:
                skipped += num_held + len(block)
                parts, num_held = [], 0
            else:
                parts.append(block[num_bom:])
                num_held += len(block)
            continue
        start = num_bom
        if skipped:
            start = block.index(b"\n") + 1
            yield LineBlock(b"", line, skipped + start, is_too_long=True)
            line, skipped = line + 1, 0
        data = b"".join([*parts, memoryview(block)[start:cut]])
        num_held = num_held + cut - (start if start != num_bom else 0)
        if data:
            found = LineBlock(data, line, num_held)
            yield found
            line += found.num_lines
        parts = [block[cut:]] if cut < len(block) else []
        num_held = len(block) - cut
    if skipped:
        yield LineBlock(b"", line, skipped, is_too_long=True)
    elif num_held:
        yield LineBlock(b"".join(parts), line, num_held)
