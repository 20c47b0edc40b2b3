"""What commands print: results on stdout, progress on stderr and only on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from datacheck.cli.options import OutputFormat
from datacheck.errors import OutputError
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.reports.report import Report

__all__ = ["exit_code_of", "printing", "show_report", "working"]


def show_report(report: Report, format: OutputFormat | str) -> None:  # noqa: A002 - the option's name
    """Print a report on stdout, and be quiet where nobody reads it any more: the exit code says the same."""
    from datacheck.reports.formats import render

    with suppress(BrokenPipeError), printing():
        print(render(report, OutputFormat(format).value))


@contextmanager
def printing() -> Iterator[None]:
    """Print in it; what was printed is then handed over.

    Raises ``BrokenPipeError`` where nobody reads it, and ``OutputError`` where it cannot be written. Then stdout leads
    nowhere, so that what is still buffered does not fail a second time when the program ends.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"standard output cannot be written: {error.strerror}") from None


def exit_code_of(report: Report) -> int:
    """0 for a report that is ok, 1 for one that is not."""
    return 0 if report.ok else 1


@contextmanager
def working() -> Iterator[Progress]:
    """Progress for a job: a bar with rows, bytes and rate on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield NullProgress()
        return
    from datacheck.cli.progress_bar import Bar

    with Bar() as bar:
        yield bar
