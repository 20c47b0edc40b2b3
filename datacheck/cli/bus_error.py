"""Names a file that another program cut short while it was mapped into memory.

Reading beyond the new end raises SIGBUS, and the operating system would end the process without a message. Nothing is
watched while all goes well: only the handler looks up which file lies at the address.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from datacheck.cli.exit_codes import COULD_NOT_RUN
from datacheck.text import plain

_MAPS = "/proc/self/maps"
_SIGBUS: int = getattr(signal, "SIGBUS", 0)
_SA_SIGINFO, _SA_RESETHAND = 0x4, 0x80000000
#: Where the address is in ``siginfo_t``, on 64-bit Linux.
_OFFSET_OF_ADDRESS = 16


class _Action(ctypes.Structure):
    """``struct sigaction`` of 64-bit Linux, in glibc and musl."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_byte * 128),
        ("flags", ctypes.c_uint),
        ("restorer", ctypes.c_void_p),
    )


def _mapped_file(address: int) -> str | None:
    """The file that is mapped at an address of this process."""
    with open(_MAPS, encoding="utf-8", errors="surrogateescape") as lines:  # noqa: PTH123 - as few calls as possible
        for line in lines:
            start, end = line.partition(" ")[0].split("-")
            if int(start, 16) <= address < int(end, 16):
                parts = line.rstrip("\n").split(None, 5)
                return parts[5] if len(parts) == 6 and parts[5].startswith("/") else None
    return None


def _on_bus_error(_: int, info: int, __: int) -> None:
    """Name the file and end. Where it is not known, the instruction is run again, and the signal ends the process."""
    with suppress(Exception):
        address = ctypes.c_void_p.from_address(info + _OFFSET_OF_ADDRESS).value
        name = None if address is None else _mapped_file(address)
        if name is not None:
            problem = (
                "another program truncated it while it was being read; run again once nothing writes to it, or copy it"
            )
            os.write(2, f"datacheck: {plain(name)}: {problem}\n".encode(errors="backslashreplace"))
            os._exit(COULD_NOT_RUN)


#: It must outlive the block: C code has only its address.
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(_on_bus_error)


@contextmanager
def name_truncated_files() -> Iterator[None]:
    """Within the block, a SIGBUS from a mapped file ends the process with a message. Only on 64-bit Linux."""
    if not os.access(_MAPS, os.R_OK) or sys.maxsize < 1 << 32:
        yield
        return
    sigaction = ctypes.CDLL(None).sigaction
    action = _Action(ctypes.cast(_HANDLER, ctypes.c_void_p), flags=_SA_SIGINFO | _SA_RESETHAND)
    before = _Action()
    sigaction(_SIGBUS, ctypes.byref(action), ctypes.byref(before))
    try:
        yield
    finally:
        sigaction(_SIGBUS, ctypes.byref(before), None)
