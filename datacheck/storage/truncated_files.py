"""Survives files that another program cuts short while they are mapped into memory.

Reading a mapped page beyond the new end raises SIGBUS, which would end the process without a message. The handler maps
zeros over the missing pages of an input that is being read, so that the work goes on. Its result is discarded for a
finding, and other inputs are not affected. Nothing is checked beforehand: only the handler looks up which file lies at
the address.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

_MAPS = "/proc/self/maps"
_SIGBUS: int = getattr(signal, "SIGBUS", 0)
_SA_SIGINFO = 0x4
#: Where the address is in ``siginfo_t``, on 64-bit Linux.
_OFFSET_OF_ADDRESS = 16
_PROT_READ_WRITE, _MAP_PRIVATE_FIXED_ANONYMOUS = 0x1 | 0x2, 0x2 | 0x10 | 0x20


class _Action(ctypes.Structure):
    """``struct sigaction`` of 64-bit Linux, in glibc and musl."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_byte * 128),
        ("flags", ctypes.c_uint),
        ("restorer", ctypes.c_void_p),
    )


class _Handler:
    """The handler of SIGBUS, which is installed while an input is being read or a command names what it cannot survive."""

    def __init__(self) -> None:
        self.is_supported = os.access(_MAPS, os.R_OK) and sys.maxsize > 1 << 32 and bool(_SIGBUS)
        self.inputs: dict[int, tuple[tuple[str, ...], set[str]]] = {}
        self.end: Callable[[str], None] | None = None
        self._filled: list[range] = []
        self._num_users = 0
        self._lock = threading.Lock()
        self._before = _Action()
        # It must outlive every use: C code has only its address.
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(self._handle)

    def __enter__(self) -> None:
        if self.is_supported:
            with self._lock:
                self._num_users += 1
                if self._num_users == 1:
                    action = _Action(ctypes.cast(self._callback, ctypes.c_void_p), flags=_SA_SIGINFO)
                    self._sigaction()(_SIGBUS, ctypes.byref(action), ctypes.byref(self._before))

    def __exit__(self, *_: object) -> None:
        if self.is_supported:
            with self._lock:
                self._num_users -= 1
                if not self._num_users:
                    self._restore()
                    self._filled.clear()

    def _restore(self) -> None:
        self._sigaction()(_SIGBUS, ctypes.byref(self._before), None)

    @staticmethod
    @lru_cache(maxsize=1)
    def _sigaction() -> Any:
        return ctypes.CDLL(None).sigaction

    def _handle(self, _: int, info: int, __: int) -> None:
        """Map zeros where an input ends now; anything else is left to the handler before, when the instruction is run again."""
        with suppress(Exception):
            address = ctypes.c_void_p.from_address(info + _OFFSET_OF_ADDRESS).value
            if address is not None and (found := _mapped_file(address)) is not None:
                stop, path = found
                hits = [_note(path, uris, hit) for uris, hit in list(self.inputs.values())]
                start = address - address % mmap.PAGESIZE
                if any(hits) and _fill(start, stop):
                    self._filled.append(range(start, stop))
                    return
                if self.end is not None:
                    self.end(path)
            elif address is not None and any(address in one for one in self._filled):
                # Another thread faulted there at the same time, and was first.
                return
        self._restore()


_HANDLER = _Handler()


class surviving_truncation:  # noqa: N801 - used like a function; as one it would take several times as long
    """Within the block, mapped pages of these inputs that are gone read as zeros; gives the inputs that were found so.

    Only on 64-bit Linux. What was worked out of such an input must not be used.
    """

    def __init__(self, *uris: str) -> None:
        self._uris, self._hit = uris, set[str]()

    def __enter__(self) -> set[str]:
        _HANDLER.__enter__()
        _HANDLER.inputs[id(self._hit)] = self._uris, self._hit
        return self._hit

    def __exit__(self, *_: object) -> None:
        del _HANDLER.inputs[id(self._hit)]
        _HANDLER.__exit__()


@contextmanager
def ending_on_truncation(end: Callable[[str], None]) -> Iterator[None]:
    """Within the block, ``end`` is called with the path of any other file that was truncated while it was mapped."""
    with _HANDLER:
        _HANDLER.end = end
        try:
            yield
        finally:
            _HANDLER.end = None


def _note(path: str, uris: tuple[str, ...], hit: set[str]) -> bool:
    """Whether a file is one of these inputs, or in one that is a folder."""
    found = [uri for uri in uris if f"{path}/".startswith(f"{os.path.realpath(uri)}/")]
    hit.update(found)
    return bool(found)


def _mapped_file(address: int) -> tuple[int, str] | None:
    """The end of the map of a file at an address of this process, and the file's path."""
    with open(_MAPS, encoding="utf-8", errors="surrogateescape") as lines:  # noqa: PTH123 - as few calls as possible
        for line in lines:
            start, end = line.partition(" ")[0].split("-")
            if int(start, 16) <= address < int(end, 16):
                parts = line.rstrip("\n").split(None, 5)
                # The only character that is escaped there is the line break.
                path = parts[5].removesuffix(" (deleted)").replace("\\012", "\n") if len(parts) == 6 else ""
                return (int(end, 16), path) if path.startswith("/") else None
    return None


def _fill(start: int, stop: int) -> bool:
    """Map zeros over a page and what follows in its map, which lies behind the end of the file, too."""
    function = ctypes.CDLL(None).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    return bool(function(start, stop - start, _PROT_READ_WRITE, _MAP_PRIVATE_FIXED_ANONYMOUS, -1, 0) == start)
