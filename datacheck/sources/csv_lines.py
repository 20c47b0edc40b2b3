"""Cuts the bytes of a text table into blocks of whole records, and knows the line of each record.

A parser says neither on which line a row is nor that a quote was never closed: it takes the rest of the file for one cell.
Blocks without quotes cost one search for a quote and one count of newlines. In the others, quotes are matched for the
whole block at once, and one by one only where they do not follow RFC 4180.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from datacheck.leaves import BoolArray, IntArray

_LF, _CR = 10, 13
_NOT_CLOSED = "a quote is opened and not closed"
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)?")


class Stream(Protocol):
    """A file, as far as it is read here."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text table is written. ``delimiter`` is a single byte; None for runs of blanks. Empty means none."""

    delimiter: bytes | None = b","
    quote: bytes = b'"'
    comment: bytes = b""

    @property
    def column_delimiter(self) -> bytes:
        """The delimiter after :meth:`simplify`."""
        return self.delimiter or b"\t"

    def simplify(self, text: bytes) -> bytes:
        """Whole lines with runs of blanks as single tabs, and without comments; lines stay lines."""
        if self.comment and not self.has_quotes(text):
            start = rb"[^\S\r\n]*" if self.delimiter is None else rb"(?m)^[^\S\r\n]*"
            text = re.sub(start + re.escape(self.comment) + rb"[^\r\n]*", b"", text)
        if self.delimiter is None:
            text = re.sub(rb"[^\S\r\n]+", b"\t", text)
            text = re.sub(rb"(?m)^\t|\t(?=[\r\n]|\Z)", b"", text)
        return text

    def has_quotes(self, text: bytes) -> bool:
        return bool(self.quote) and self.quote in text


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record: how many records of its block precede it, its number in the file, and why."""

    num_before: int
    line: int
    text: bytes
    problem: str


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Whole records.

    ``first_line`` is the number of the first line. ``starts`` are the lines of the records and ``filled`` is False for empty
    ones; None if each record is one line.
    """

    data: bytes
    first_line: int
    num_lines: int
    starts: IntArray | None = None
    filled: BoolArray | None = None
    bad: tuple[BadLine, ...] = ()

    def lines(self, num_records: int) -> IntArray | None:
        """The line of each record, given how many the parser found, with or without empty ones; None if not known."""
        starts, filled = self.starts, self.filled
        if starts is None or filled is None:
            data = np.frombuffer(self.data, np.uint8)
            begins = np.concatenate([[0], _line_ends(data) + 1])
            begins = begins[begins < len(data)]
            starts = np.arange(len(begins), dtype=np.int64) + self.first_line
            filled = (data[begins] != _LF) & (data[begins] != _CR)
        if len(starts) != num_records:
            starts = starts[filled]
        return starts if len(starts) == num_records else None


class LineTooLongError(ValueError):
    """A line that is longer than the bytes that are read at a time."""


def read_blocks(stream: Stream, dialect: Dialect, *, skip_lines: int, block_bytes: int) -> Iterator[TextBlock]:
    """The records of a stream after ``skip_lines`` lines, in blocks of about ``block_bytes``.

    A record of several lines that is longer than ``block_bytes`` has a quote that is not closed: its first line is bad, and
    the lines after it are records of their own.
    """
    rest, line = b"", 1
    following = stream.read(block_bytes)
    is_end = False
    while not is_end:
        chunk, following = following, following and stream.read(block_bytes)
        is_end = not following
        data = rest + chunk if rest else chunk
        if line == 1 and not rest:
            data = data.removeprefix(b"\xef\xbb\xbf")
        stop = len(data) if is_end else _last_line_end(data)
        data, rest = data[:stop], data[stop:]
        if len(rest) > 2 * block_bytes:
            raise LineTooLongError
        if line <= skip_lines:
            skipped, data = _skip_lines(data, skip_lines - line + 1)
            line += skipped
        if not data:
            continue
        data = dialect.simplify(data)
        if dialect.has_quotes(data):
            block, left = _cut(data, line, dialect, block_bytes, is_end=is_end)
            rest = left + rest
        else:
            block = TextBlock(data, line, _count_lines(data))
        line += block.num_lines
        if block.data or block.bad:
            yield block


def _last_line_end(data: bytes) -> int:
    """The end of the last whole line."""
    stop = data.rfind(b"\n") + 1
    # A carriage return at the very end may be half a line end.
    return stop or data.rfind(b"\r", 0, len(data) - 1) + 1


def _line_ends(data: np.ndarray[Any, np.dtype[np.uint8]]) -> IntArray:
    """The positions of the last bytes of all line ends."""
    is_end = data == _LF
    is_return = data == _CR
    if is_return.any():
        is_return[:-1] &= ~is_end[1:]
        is_end |= is_return
    return np.flatnonzero(is_end)


def _count_lines(data: bytes) -> int:
    """The number of lines, the last one with or without an end."""
    values = np.frombuffer(data, np.uint8)
    ends = len(_line_ends(values)) if b"\r" in data else int(np.count_nonzero(values == _LF))
    return ends + (not data.endswith((b"\n", b"\r")))


def _skip_lines(data: bytes, num_lines: int) -> tuple[int, bytes]:
    """How many lines were skipped, ``num_lines`` at most, and the rest."""
    ends = _line_ends(np.frombuffer(data, np.uint8))
    if len(ends) < num_lines:
        return _count_lines(data) if data else 0, b""
    return num_lines, data[int(ends[num_lines - 1]) + 1 :]


def _cut(data: bytes, line: int, dialect: Dialect, max_bytes: int, *, is_end: bool) -> tuple[TextBlock, bytes]:
    """The whole records of lines with quotes, and what is left of them."""
    ends = None if dialect.comment else _record_ends(data, dialect, is_end=is_end)
    stop = int(ends[-1]) + 1 if ends is not None and len(ends) else 0
    num_left = len(data) - stop
    if ends is None or num_left > max_bytes or (is_end and num_left):
        return _cut_one_by_one(data, line, dialect, max_bytes, is_end=is_end)
    whole = data[:stop]
    num_lines = _count_lines(whole) if whole else 0
    if len(ends) == num_lines:
        return TextBlock(whole, line, num_lines), data[stop:]
    values = np.frombuffer(whole, np.uint8)
    begins = np.concatenate([[0], ends[:-1] + 1])
    starts = np.searchsorted(_line_ends(values), begins) + line
    filled = (values[begins] != _LF) & (values[begins] != _CR)
    return TextBlock(whole, line, num_lines, starts.astype(np.int64), filled), data[stop:]


def _record_ends(data: bytes, dialect: Dialect, *, is_end: bool) -> IntArray | None:
    """The positions of the line ends outside quotes; None if the quotes do not follow RFC 4180."""
    values = np.frombuffer(data, np.uint8)
    (quote,), (delimiter,) = dialect.quote, dialect.column_delimiter
    quotes = np.flatnonzero(values == quote)
    is_edge = np.zeros(256, np.bool_)
    is_edge[[quote, delimiter, _LF, _CR]] = True
    opening, closing = quotes[0::2], quotes[1::2]
    before = opening[opening > 0] - 1
    after = closing[closing + 1 < len(values)] + 1
    if not (is_edge[values[before]].all() and is_edge[values[after]].all()):
        return None
    ends = _line_ends(values)
    ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    if is_end and len(quotes) % 2 == 0 and not (len(ends) and ends[-1] + 1 == len(values)):
        ends = np.append(ends, len(values) - 1)
    return ends


def _cut_one_by_one(
    data: bytes, line: int, dialect: Dialect, max_bytes: int, *, is_end: bool
) -> tuple[TextBlock, bytes]:
    """As :func:`_cut`, record by record: a record whose quotes are wrong is a bad line, and the next line is a record."""
    record, open_record = _record_pattern(dialect), _open_record_pattern(dialect)
    records: list[bytes] = []
    starts: list[int] = []
    bad: list[BadLine] = []
    first_line, position = line, 0
    while position < len(data):
        physical = _LINE.match(data, position)
        assert physical is not None
        content = physical[0].rstrip(b"\r\n")
        is_comment = bool(dialect.comment) and content.lstrip().startswith(dialect.comment)
        whole = None if is_comment else record.match(data, position)
        if whole is None and not is_comment:
            may_go_on = not is_end and len(data) - position <= max_bytes
            if may_go_on and open_record.match(data, position):
                break
            bad.append(BadLine(len(records), line, content, _NOT_CLOSED))
        if whole is not None:
            records.append(whole[0])
            starts.append(line)
        line += 1 if whole is None else _count_lines(whole[0])
        position = physical.end() if whole is None else whole.end()
    filled = np.array([text[:1] not in (b"\r", b"\n") for text in records], np.bool_)
    block = TextBlock(b"".join(records), first_line, line - first_line, np.array(starts, np.int64), filled, tuple(bad))
    return block, data[position:]


def _record_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """A whole record. Text after a closing quote belongs to the cell if the cell is on one line."""
    one_line = rb"Q(?:[^Q\r\n]|QQ)*+Q[^D\r\n]*+"
    several = rb"Q(?:[^Q]|QQ)*+Q(?=[D\r\n]|\Z)"
    cell = rb"(?:" + one_line + rb"|" + several + rb"|(?!Q)[^D\r\n]*+)"
    return _compile(cell + rb"(?:D" + cell + rb")*+(?:\r\n|\r|\n|\Z)", dialect)


def _open_record_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """The rest of the text, if it is a record with a quote that is not closed yet."""
    cell = rb"(?:Q(?:[^Q]|QQ)*+Q(?=[D\r\n])|(?!Q)[^D\r\n]*+)"
    return _compile(rb"(?:" + cell + rb"D)*Q(?:[^Q]|QQ)*+\Z", dialect)


@functools.lru_cache(maxsize=16)
def _compile(pattern: bytes, dialect: Dialect) -> re.Pattern[bytes]:
    quote, delimiter = re.escape(dialect.quote), re.escape(dialect.column_delimiter)
    return re.compile(pattern.replace(b"Q", quote).replace(b"D", delimiter))
