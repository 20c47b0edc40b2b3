"""What commands print: results to stdout, progress to stderr if it is a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.errors import OutputError
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.reports.report import Report

__all__ = ["discard_stdout", "exit_code_of", "flushed_stdout", "print_report", "progress_on_terminal"]


def print_report(report: Report, format: str) -> None:  # noqa: A002 - the option's name
    """Print a report to stdout. A closed pipe is not an error: the exit code has the result too."""
    from datacheck.reports.formats import render

    with suppress(BrokenPipeError), flushed_stdout():
        print(render(report, format))


@contextmanager
def flushed_stdout() -> Iterator[None]:
    """Flush stdout at the end of the block.

    Raises ``BrokenPipeError`` if the reader is gone, and ``OutputError`` if stdout cannot be written. In both cases stdout
    is redirected to ``os.devnull``, so that buffered text does not fail again when the program ends.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        discard_stdout()
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None


def discard_stdout() -> None:
    """Redirect stdout to ``os.devnull``, so that buffered text does not fail again when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code_of(report: Report) -> int:
    """The exit code for a report."""
    return CLEAN if report.ok else FINDINGS


@contextmanager
def progress_on_terminal() -> Iterator[Progress]:
    """A progress bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield NullProgress()
        return
    from datacheck.cli.progress_bar import ProgressBar

    with ProgressBar() as bar:
        yield bar
