"""What commands print: results to stdout, progress to stderr if it is a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from datacheck.cli.exit_codes import CLEAN, COULD_NOT_RUN, FINDINGS
from datacheck.errors import OutputError
from datacheck.jobs.progress import NullProgress, Progress, ProgressBar
from datacheck.reports.report import Report
from datacheck.storage.truncated_files import ending_on_truncation
from datacheck.text import plain


def print_report(report: Report, format: str) -> None:  # noqa: A002 - the option's name
    """Print a report to stdout."""
    from datacheck.reports.formats import render

    with flushed_stdout():
        print(render(report, format))


@contextmanager
def flushed_stdout() -> Iterator[None]:
    """Flush stdout at the end of the block, which should only print.

    A reader that has exited, such as ``head``, ends the block without an error: the exit code has the result too. Raises
    ``OutputError`` if stdout cannot be written. In both cases stdout is redirected to ``os.devnull``, so that buffered text
    does not fail again when the program ends.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        discard_stdout()
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"cannot write to standard output: {error.strerror}") from None


def discard_stdout() -> None:
    """Redirect stdout to ``os.devnull``, so that buffered text does not fail again when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def discard_closed_stdout() -> bool:
    """Redirect stdout as :func:`discard_stdout` does if its reader has closed it, and print an error if not."""
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        discard_stdout()
        return True
    print("datacheck: another process that was needed has ended (broken pipe)", file=sys.stderr)
    return False


def exit_code_of(report: Report) -> int:
    """The exit code for a report."""
    return CLEAN if report.ok else FINDINGS


@contextmanager
def progress_on_terminal() -> Iterator[Progress]:
    """A progress bar if stderr is a terminal. A file that is truncated outside of the work on one input is named."""
    with ending_on_truncation(_end_on_truncation):
        if not sys.stderr.isatty():
            yield NullProgress()
            return
        bar = ProgressBar(leave=False)
        try:
            yield bar
        finally:
            bar.close()


def _end_on_truncation(path: str) -> None:
    problem = "another program truncated it while it was being read; run again once nothing writes to it, or copy it"
    os.write(2, f"datacheck: {plain(path)}: {problem}\n".encode(errors="backslashreplace"))
    os._exit(COULD_NOT_RUN)
