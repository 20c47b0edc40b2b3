"""SIGTERM, which clusters and service managers send to end a process: it stops as after Ctrl-C, and a run can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


@contextmanager
def stopping_at_sigterm() -> Iterator[None]:
    """Raise ``Terminated`` in the main thread at the first SIGTERM; a second one ends the process at once.

    The first process of a container would ignore the signal otherwise.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the form of a handler
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
