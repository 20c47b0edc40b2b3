"""A file that is read by requests for ranges of its bytes; those that follow are read ahead."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from typing import cast

from datacheck.storage.base import DataFile

#: The most bytes that are read ahead of a program that reads in order.
_MAX_AHEAD = 16 << 20
_MIN_AHEAD = 64 << 10
#: The end of a file, where many formats say what is in it, is read at once: readers go back and forth there.
_LAST_BYTES = 64 << 10

#: The bytes from one position to another.
Fetch = Callable[[int, int], bytes]


class _Ranges(io.RawIOBase):
    """The bytes of a file; the ``first`` ones are known."""

    def __init__(self, size: int, first: bytes, fetch: Fetch) -> None:
        self._size, self._first, self._fetch = size, first, fetch
        self._last = b""
        self._position = 0
        self._ahead = (0, b"")
        self._step = _MIN_AHEAD

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "negative position")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        data = self._next(min(len(view), max(0, self._size - self._position)))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _next(self, length: int) -> bytes | memoryview:
        """Up to ``length`` bytes from the position, at least one unless ``length`` is 0."""
        for start, block in ((0, self._first), self._ahead):
            if start <= self._position < start + len(block):
                return memoryview(block)[self._position - start :][:length]
        if not length:
            return b""
        start, block = self._ahead
        is_in_order = self._position in (start + len(block), len(self._first))
        self._step = min(2 * self._step, _MAX_AHEAD) if is_in_order else _MIN_AHEAD
        stop = min(self._size, self._position + max(length, self._step))
        self._ahead = (self._position, self.fetch(self._position, stop))
        return memoryview(self._ahead[1])[:length]

    def fetch(self, start: int, stop: int) -> bytes:
        if stop <= len(self._first):
            return self._first[start:stop]
        last = max(len(self._first), self._size - _LAST_BYTES)
        if start < last:
            return self._fetch(start, stop)
        if not self._last:
            self._last = self._fetch(last, self._size)
        return self._last[start - last : stop - last]


class RangeFile(DataFile):
    """An open file of ``size`` bytes that ``fetch`` reads, from any thread. Its ``first`` bytes may be known already."""

    def __init__(self, size: int, first: bytes, fetch: Fetch) -> None:
        ranges = _Ranges(size, first, fetch)
        super().__init__(ranges)
        self._ranges, self._size = ranges, size

    def read_at(self, offset: int, length: int) -> bytes:
        stop = min(offset + length, self._size)
        return self._ranges.fetch(offset, stop) if offset < stop else b""
