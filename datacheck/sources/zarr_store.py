"""A Zarr store in any storage, for the library: it reads what :mod:`datacheck.storage` reads, and writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NoReturn

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from datacheck.storage.registry import open_file, storage_of


class StorageStore(Store):  # type: ignore[misc]
    """The store at a URI, read-only. ``check`` raises for a file, by its key and size, that is too large to be read whole."""

    def __init__(self, uri: str, check: Callable[[str, int], None] = lambda _key, _size: None) -> None:
        super().__init__(read_only=True)
        self.uri = uri.rstrip("/")
        self._check = check

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageStore) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def _uri_of(self, key: str) -> str:
        return f"{self.uri}/{key}" if key else self.uri

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        try:
            content = await asyncio.to_thread(self._read, key, byte_range)
        except FileNotFoundError:
            return None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, some) for key, some in key_ranges)))

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(storage_of(self.uri).exists, self._uri_of(key))

    async def list(self) -> AsyncIterator[str]:
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        folder = prefix.rstrip("/")
        for name, _ in await asyncio.to_thread(lambda: list(storage_of(self.uri).walk(self._uri_of(folder)))):
            yield f"{folder}/{name}" if folder else name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        for entry in await asyncio.to_thread(storage_of(self.uri).list, self._uri_of(prefix.rstrip("/"))):
            yield entry.name

    @property
    def supports_listing(self) -> bool:
        return True

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    async def set(self, key: str, value: Buffer) -> NoReturn:
        raise NotImplementedError

    async def delete(self, key: str) -> NoReturn:
        raise NotImplementedError

    def _read(self, key: str, part: Any) -> bytes:
        with open_file(self._uri_of(key)) as file:
            size = file.seek(0, 2)
            if part is None:
                self._check(key, size)
                return file.read_at(0, size)
            if isinstance(part, RangeByteRequest):
                return file.read_at(part.start, part.end - part.start)
            if isinstance(part, OffsetByteRequest):
                return file.read_at(part.offset, max(0, size - part.offset))
            assert isinstance(part, SuffixByteRequest)
            return file.read_at(max(0, size - part.suffix), min(size, part.suffix))
