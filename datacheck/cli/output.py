"""What commands print: results on stdout, progress on stderr and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from datacheck.cli.options import OutputFormat
from datacheck.job.progress import Progress, Silent
from datacheck.reports.report import Report

__all__ = ["exit_code_of", "show_report", "working"]


def show_report(report: Report, format: OutputFormat | str) -> None:  # noqa: A002 - the option's name
    """Print a report on stdout."""
    if format == OutputFormat.json:
        print(report.to_json())
    else:
        print(report)


def exit_code_of(report: Report) -> int:
    """0 for a report that is ok, 1 for one that is not."""
    return 0 if report.ok else 1


@contextmanager
def working() -> Iterator[Progress]:
    """Progress for a job: a bar with rows, bytes and rate on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield Silent()
        return
    from datacheck.cli.bar import Bar

    with Bar() as bar:
        yield bar
