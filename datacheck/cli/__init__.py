"""The command line: one command per file, thin over the Python functions."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from datacheck.cli.exit_codes import INTERRUPTED, TERMINATED
from datacheck.cli.termination import Terminated, stopping_at_sigterm

__all__ = ["main"]


def _command_line() -> Callable[[], int]:
    """Import the commands. What that makes stays, so garbage is not looked for in it, now or later: a tenth of a start."""
    gc.disable()
    try:
        from datacheck.cli.app import main as run
    finally:
        gc.freeze()
        gc.enable()
    return run


def main() -> None:
    """The entry point of the ``datacheck`` command."""
    try:
        from datacheck.cli.streams import prepare_streams

        prepare_streams()
        with stopping_at_sigterm():
            run = _command_line()
            code = run()
    except Terminated:
        print("datacheck: terminated", file=sys.stderr)
        code = TERMINATED
    except KeyboardInterrupt:
        # Before a command started, or while it was ending.
        print("datacheck: interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
