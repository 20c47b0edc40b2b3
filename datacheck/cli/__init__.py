"""The command line: one command per file, thin over the Python functions."""

from __future__ import annotations

import sys

from datacheck.cli.exit_codes import INTERRUPTED, TERMINATED
from datacheck.cli.termination import Terminated, stopping_at_sigterm

__all__ = ["main"]


def main() -> None:
    """The entry point of the ``datacheck`` command."""
    try:
        from datacheck.cli.streams import prepare_streams

        prepare_streams()
        with stopping_at_sigterm():
            from datacheck.cli.app import main as run

            code = run()
    except Terminated:
        print("datacheck: terminated", file=sys.stderr)
        code = TERMINATED
    except KeyboardInterrupt:
        # Before a command started, or while it was ending.
        print("datacheck: interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
