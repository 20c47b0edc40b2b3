"""Cuts a JSON file with one list into its elements, in bounded memory, without parsing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from datacheck.leaves import IntArray
from datacheck.sources.text_lines import BOM, LineBlock

_QUOTE, _BACKSLASH, _COMMA = ord('"'), ord("\\"), ord(",")
_DEPTHS = np.zeros(256, np.int64)
_DEPTHS[list(b"[{")], _DEPTHS[list(b"]}")] = 1, -1
_IS_STRUCTURE = _DEPTHS != 0
_IS_STRUCTURE[_COMMA] = True
_NOT_CLOSED = "the file ends inside the list: it was cut off, or never finished"


class _Elements(LineBlock):
    """Elements of a list, each on a line of its own; ``numbers`` are the lines of the file on which they begin."""

    def __init__(self, elements: list[bytes], numbers: list[int], problem: str = "") -> None:
        self._elements, self._problem = elements, problem
        # A line break between tokens is as good as a blank, and there is none inside a string.
        whole = [element.replace(b"\n", b" ") for element in elements]
        self.data = b"".join(element + b"\n" for element in whole)
        self.first_line, self.num_bytes, self.num_lines = numbers[0], len(self.data), len(elements)
        self.is_too_long, self.is_plain = False, False
        stops = np.cumsum([len(element) + 1 for element in whole]) - 1
        starts = np.concatenate([[0], stops[:-1] + 1]).astype(np.int64)
        self._starts, self._stops = starts, stops
        self.bounds = (starts, stops, np.array(numbers, np.int64) - self.first_line)

    @property
    def may_be_whole(self) -> bool:
        return not self._problem and all(self._elements)

    def lines(self) -> Iterator[bytes | str]:
        last = len(self._elements) - 1
        for index, element in enumerate(super().lines()):
            yield self._problem if self._problem and index == last else element


@dataclass(slots=True)
class _Scanner:
    """Where elements end, over the chunks of a file."""

    depth: int = 0
    in_string: bool = False
    is_escaped: bool = False
    is_closed: bool = False

    def ends(self, chunk: bytes) -> list[int]:
        """The positions of the commas between elements, and of the bracket that closes the list; the opening one, too."""
        data = np.frombuffer(chunk, np.uint8)
        quotes = np.flatnonzero(data == _QUOTE)
        quotes = quotes[~np.isin(quotes, self._escaped(data))]
        places = np.flatnonzero(_IS_STRUCTURE[data])
        is_inside = (np.searchsorted(quotes, places) + int(self.in_string)) % 2 == 1
        places = places[~is_inside]
        self.in_string = (len(quotes) + int(self.in_string)) % 2 == 1
        deltas = _DEPTHS[data[places]]
        depths = self.depth + np.cumsum(deltas)
        self.depth = int(depths[-1]) if len(depths) else self.depth
        opens = (depths == 1) & (deltas == 1)
        ends = ((data[places] == _COMMA) & (depths == 1)) | ((deltas == -1) & (depths == 0)) | opens
        return [int(place) for place in places[ends]]

    def _escaped(self, data: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> IntArray:
        """The positions of characters after a backslash that escapes them."""
        backslashes = np.flatnonzero(data == _BACKSLASH)
        first = [0] if self.is_escaped and len(data) else []
        if first and len(backslashes) and backslashes[0] == 0:
            backslashes = backslashes[1:]
        begins = np.diff(backslashes, prepend=-2) != 1
        begin = np.flatnonzero(begins)[np.cumsum(begins) - 1] if len(backslashes) else backslashes
        escaping = backslashes[(np.arange(len(backslashes)) - begin) % 2 == 0]
        escaped = np.concatenate([np.array(first, np.int64), escaping + 1])
        self.is_escaped = bool(len(escaped)) and int(escaped[-1]) == len(data)
        return escaped


@dataclass(slots=True)
class _Pending:
    """The part of an element that has been read."""

    parts: list[bytes] = field(default_factory=list)
    num_bytes: int = 0
    is_too_long: bool = False

    def add(self, part: bytes, limit: int) -> None:
        self.num_bytes += len(part)
        if self.num_bytes > limit:
            self.parts, self.is_too_long = [], True
        else:
            self.parts.append(part)


def read_elements(blocks: Iterable[bytes], max_bytes: int, *, is_list: bool) -> Iterator[LineBlock]:
    """The elements of the list that a stream holds, or its one value; an element beyond ``max_bytes`` is not kept."""
    scanner, pending, line = _Scanner(), _Pending(), 1
    is_begun, num_seen, start_line = not is_list, 0, 1
    is_first = True
    for block in blocks:
        block = block.removeprefix(BOM) if is_first else block
        is_first = False
        elements: list[bytes] = []
        numbers: list[int] = []
        at = 0
        for end in scanner.ends(block) if is_list and not scanner.is_closed else ():
            part = block[at:end]
            line_before = line
            line += part.count(b"\n")
            if not is_begun:
                is_begun, at, start_line = True, end + 1, line
                continue
            pending.add(part, max_bytes)
            is_end = block[end : end + 1] in (b"]", b"}")
            element = b"".join(pending.parts).strip()
            if pending.is_too_long:
                if elements:
                    yield _Elements(elements, numbers)
                    elements, numbers = [], []
                yield LineBlock(b"", start_line, pending.num_bytes, is_too_long=True)
                num_seen += 1
            elif element or num_seen or not is_end:
                lead = len(part) - len(part.lstrip()) if len(pending.parts) == 1 else 0
                elements.append(element)
                numbers.append(
                    line_before + part[:lead].count(b"\n") if lead or len(pending.parts) == 1 else start_line
                )
                num_seen += 1
            pending, at, start_line = _Pending(), end + 1, line
            if is_end:
                scanner.is_closed = True
                break
        if elements:
            yield _Elements(elements, numbers)
        rest = block[at:]
        line += rest.count(b"\n")
        if rest:
            pending.add(rest, max_bytes)
    yield from _rest(pending, scanner, start_line, is_list=is_list)


def _rest(pending: _Pending, scanner: _Scanner, line: int, *, is_list: bool) -> Iterator[LineBlock]:
    """What follows the last element: only blanks if the list was closed."""
    rest = b"".join(pending.parts).strip()
    if pending.is_too_long:
        yield LineBlock(b"", line, pending.num_bytes, is_too_long=True)
    elif not is_list:
        if rest:
            yield _Elements([rest], [line])
    elif not scanner.is_closed:
        yield _Elements([rest], [line], _NOT_CLOSED)
    elif rest:
        yield _Elements([rest], [line], "text after the end of the list")
