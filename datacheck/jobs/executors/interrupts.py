"""Ctrl-C and child processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Windows has no masks of signals.
_masks: Any = signal


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Leave Ctrl-C, which a terminal sends to every process, to the main process: children inherit what is blocked here.

    Windows blocks no signals; its workers ignore this one once they run.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = _masks.pthread_sigmask(_masks.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        _masks.pthread_sigmask(_masks.SIG_SETMASK, before)
