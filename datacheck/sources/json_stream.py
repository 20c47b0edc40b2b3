"""Reads the lists of a large JSON object one element at a time, in memory that does not grow with the file."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from datacheck.sources.packed import ByteStream

_BLOCK_BYTES = 1 << 20
#: The most characters of one element, or of a value that is no list.
MAX_VALUE_CHARS = 64 << 20
_DECODER = json.JSONDecoder()


class TooLargeError(Exception):
    """A value is too large to be held."""


class JsonObject:
    """A JSON object in a stream. Raises ``ValueError`` where it is not valid, and ``TooLargeError``.

    ``lists`` are the names of the lists that were begun so far, and ``others`` the names of all other values.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at, self._num_before = "", 0, 0
        self._is_ended = False
        self.lists: set[str] = set()
        self.others: set[str] = set()

    def elements(self) -> Iterator[tuple[str, Any]]:
        """Each element of each of its lists, with the list's name."""
        self._expect("{")
        character = self._peek()
        while character != "}":
            if character != '"':
                self._fail("expected a name in double quotes")
            name = self._value()
            self._expect(":")
            if self._peek() == "[":
                self.lists.add(name)
                yield from ((name, element) for element in self._list())
            else:
                self.others.add(name)
                self._value()
            character = self._peek()
            if character == ",":
                self._at += 1
                character = self._peek()
                if character == "}":
                    self._fail("expected a name in double quotes")
            elif character != "}":
                self._fail("expected ',' or '}'")
        self._at += 1
        if self._peek():
            self._fail("there is text after its end")

    def _list(self) -> Iterator[Any]:
        self._expect("[")
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            character = self._peek()
            if character not in (",", "]"):
                self._fail("expected ',' or ']'")
            self._at += 1
            if character == "]":
                return

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._read_more():
                    continue
                raise ValueError(f"{error.msg} at character {self._num_before + error.pos:,}") from None
            # A number may go on.
            if end == len(self._text) and self._read_more():
                continue
            self._at = end
            return value

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            self._fail(f"expected {character!r}")
        self._at += 1

    def _fail(self, problem: str) -> None:
        where = "where it ends" if self._peek() == "" else f"at character {self._num_before + self._at:,}"
        raise ValueError(f"{problem} {where}")

    def _peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._read_more():
                return ""

    def _read_more(self) -> bool:
        """Read on, more for a longer value, so that it is parsed only a few times; whether there was more."""
        if self._is_ended:
            return False
        left = len(self._text) - self._at
        if left > MAX_VALUE_CHARS:
            raise TooLargeError
        block = self._stream.read(max(_BLOCK_BYTES, left))
        if not block:
            self._is_ended = True
            self._decode(b"", True)
            return False
        self._num_before += self._at
        self._text, self._at = self._text[self._at :] + self._decode(block), 0
        return True
