"""The command line: one command a file, thin over the Python functions."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the ``datacheck`` command."""
    from datacheck.cli.app import main as run

    sys.exit(run())
