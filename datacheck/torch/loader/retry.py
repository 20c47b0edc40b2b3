"""Retry after transient errors of the file system and the network, which do not make a sample bad."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_TRANSIENT_NAMES = (
    *(
        "EAGAIN",
        "EBUSY",
        "EINTR",
        "EIO",
        "EMFILE",
        "ENFILE",
        "ENOBUFS",
        "ENOLCK",
        "ENOMEM",
        "EPIPE",
        "EREMOTEIO",
        "ESTALE",
    ),
    *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH"),
    *("ENETDOWN", "ENETRESET", "ENETUNREACH", "ETIMEDOUT"),
)
_TRANSIENT_ERRNO = frozenset(getattr(errno, name) for name in _TRANSIENT_NAMES if hasattr(errno, name))
#: Errors of clients for remote storage, by top-level module: some are not an OSError, others have no errno.
_TRANSIENT_CLASSES = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError", "ServerTimeoutError"),
    "botocore": ("EndpointConnectionError", "ConnectionClosedError", "ReadTimeoutError", "IncompleteReadError"),
    "fsspec": ("FSTimeoutError",),
    "http": ("IncompleteRead", "RemoteDisconnected"),
    "httpx": ("TransportError",),
    "requests": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "urllib3": ("TimeoutError", "ProtocolError", "NewConnectionError"),
}
#: The longest wait between two attempts, in seconds.
LONGEST_WAIT = 10.0


def is_transient(error: BaseException) -> bool:
    """Whether an error is likely to go away by itself.

    A missing or truncated file is not transient, although Pillow raises ``OSError`` for it.
    """
    if isinstance(error, ConnectionError | TimeoutError | MemoryError):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO:
        return True
    kinds = type(error).__mro__
    return any(kind.__name__ in _TRANSIENT_CLASSES.get(kind.__module__.partition(".")[0], ()) for kind in kinds)


class Retries:
    """Calls a function again if it raises a transient error: up to ``number`` times, each wait twice as long as the last.

    ``kinds`` are further exceptions to treat as transient.
    """

    def __init__(self, number: int, backoff: float, kinds: tuple[type[BaseException], ...] = ()) -> None:
        self.number, self.backoff, self.kinds = number, backoff, kinds

    def is_transient(self, error: BaseException) -> bool:
        """Whether to retry after an error."""
        return is_transient(error) or isinstance(error, self.kinds)

    def call(self, function: Callable[[], T], on_retry: Callable[[], None]) -> T:
        """What ``function()`` returns; raises what the last attempt raised."""
        for attempt in range(self.number):
            try:
                return function()
            except Exception as error:
                if not self.is_transient(error):
                    raise
            on_retry()
            self.wait(attempt)
        return function()

    def wait(self, attempt: int) -> None:
        """Wait after ``attempt``, counted from 0."""
        time.sleep(min(self.backoff * 2**attempt, LONGEST_WAIT))
