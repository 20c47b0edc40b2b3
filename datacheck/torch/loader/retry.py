"""Errors of the file system and the network that may pass: tried again, and never held against the sample."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Retries", "is_passing"]

T = TypeVar("T")

_PASSING_ERRNO = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "EBUSY",
        "ECONNABORTED",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EINTR",
        "EIO",
        "EMFILE",
        "ENETDOWN",
        "ENETRESET",
        "ENETUNREACH",
        "ENFILE",
        "ENOBUFS",
        "ENOLCK",
        "ENOMEM",
        "EPIPE",
        "EREMOTEIO",
        "ESTALE",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)
#: Errors of clients for remote storage, by the first part of their module: some are no OSError, others have no errno.
_PASSING_CLASSES = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError", "ServerTimeoutError"),
    "botocore": ("EndpointConnectionError", "ConnectionClosedError", "ReadTimeoutError", "IncompleteReadError"),
    "fsspec": ("FSTimeoutError",),
    "http": ("IncompleteRead", "RemoteDisconnected"),
    "httpx": ("TransportError",),
    "requests": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "urllib3": ("TimeoutError", "ProtocolError", "NewConnectionError"),
}
#: Seconds that a wait between two tries takes at most.
LONGEST_WAIT = 10.0


def is_passing(error: BaseException) -> bool:
    """Whether an error says something of the machine, the file system or the network at this moment.

    A file that is missing or truncated is no such error: Pillow's for a broken image is an ``OSError`` too.
    """
    if isinstance(error, ConnectionError | TimeoutError | MemoryError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING_ERRNO:
        return True
    kinds = type(error).__mro__
    return any(kind.__name__ in _PASSING_CLASSES.get(kind.__module__.partition(".")[0], ()) for kind in kinds)


class Retries:
    """Calls something again where it raises a passing error: ``number`` times, each wait twice as long as the last.

    ``kinds`` are further exceptions to be tried again.
    """

    def __init__(self, number: int, backoff: float, kinds: tuple[type[BaseException], ...] = ()) -> None:
        self.number, self.backoff, self.kinds = number, backoff, kinds

    def is_passing(self, error: BaseException) -> bool:
        """Whether an error is one to try again after."""
        return is_passing(error) or isinstance(error, self.kinds)

    def call(self, function: Callable[[], T], on_retry: Callable[[], None]) -> T:
        """What ``function()`` returns; raises what its last try raised."""
        for attempt in range(self.number):
            try:
                return function()
            except Exception as error:
                if not self.is_passing(error):
                    raise
            on_retry()
            self.wait(attempt)
        return function()

    def wait(self, attempt: int) -> None:
        """Wait before the try after ``attempt``, which is counted from 0."""
        time.sleep(min(self.backoff * 2**attempt, LONGEST_WAIT))
