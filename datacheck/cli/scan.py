"""``datacheck scan``: check files against a schema, or for NaN and infinities alone."""

from __future__ import annotations

from typing import Annotated

import typer

from datacheck.cli.options import Format, Schema, Workers
from datacheck.cli.output import exit_code_of, show_report, working

__all__ = ["scan"]


def scan(
    paths: Annotated[list[str], typer.Argument(help="Files, folders or globs.", metavar="PATH...", show_default=False)],
    schema: Schema = None,
    format: Format = "text",  # type: ignore[assignment]  # noqa: A002 - the option's name
    workers: Workers = None,
) -> int:
    """Check every value of PATH... and say where the bad ones are.

    Without a schema: no NaN and no infinity in any floating-point or complex value.
    """
    from datacheck.job.scan import scan as scan_data

    with working() as progress:
        report = scan_data(paths, schema, workers=workers, progress=progress)
    show_report(report, format)
    return exit_code_of(report)
