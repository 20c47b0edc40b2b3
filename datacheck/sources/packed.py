"""Compressed files as streams of bytes: gzip and zstd, bounded in how far they may expand."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa

from datacheck.sources.base import ReadOptions, fingerprint_of
from datacheck.sources.error_translation import HARMLESS_BYTES, check_expansion
from datacheck.storage.registry import open_file

#: Arrow's name of the compression that a suffix stands for.
_CODECS = {".gz": "gzip", ".tgz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


class ByteStream(Protocol):
    """What is read from: a file, or what it holds once decompressed."""

    def read(self, size: int = -1, /) -> bytes: ...


def _codec(uri: str) -> str | None:
    lowered = uri.lower()
    return next((codec for suffix, codec in _CODECS.items() if lowered.endswith(suffix)), None)


def is_packed(uri: str) -> bool:
    """Whether the name of a file says that it is compressed."""
    return _codec(uri) is not None


@contextmanager
def open_packed(uri: str, options: ReadOptions, codec: str | None = None) -> Iterator[ByteStream]:
    """The bytes of a file, decompressed if its name or ``codec`` says so.

    A truncated file raises ``OSError``; DC904 for a bomb.
    """
    codec = codec or _codec(uri)
    with open_file(uri) as file:
        if codec is None:
            yield file
            return
        with pa.PythonFile(file, mode="r") as packed, pa.CompressedInputStream(packed, codec) as expanded:
            yield _Bounded(uri, expanded, options)


class _Bounded(io.RawIOBase):
    """A stream that stops at the limits of decompression."""

    def __init__(self, uri: str, stream: ByteStream, options: ReadOptions) -> None:
        self._uri, self._stream, self._options = uri, stream, options
        self._packed, self._expanded = fingerprint_of(uri).size, 0
        # Records may be read with calls for a few bytes: each is compared with this alone.
        most = max(HARMLESS_BYTES, self._packed * options.max_expansion_ratio)
        self._limit = min(options.max_bytes_in_steps, most)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._expanded += len(data)
        if self._expanded > self._limit:
            check_expansion(self._uri, self._expanded, self._packed, 1, self._options)
        return data


def read_blocks_of(stream: ByteStream, num_bytes: int, block_bytes: int) -> Iterator[bytes]:
    """The next ``num_bytes`` of a stream in blocks; all of it for a negative number."""
    left = num_bytes
    while left and (data := stream.read(block_bytes if left < 0 else min(block_bytes, left))):
        yield data
        left -= len(data) if left > 0 else 0
