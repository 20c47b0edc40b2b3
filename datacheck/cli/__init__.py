"""The command line: one command a file, thin over the Python functions."""

from __future__ import annotations

import sys

__all__ = ["INTERRUPTED", "main"]

#: What a shell reports for a process that SIGINT ended.
INTERRUPTED = 130


def main() -> None:
    """The entry point of the ``datacheck`` command."""
    try:
        from datacheck.cli.app import main as run

        code = run()
    except KeyboardInterrupt:
        # Before a command began, or while it ended.
        print("datacheck: interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)
