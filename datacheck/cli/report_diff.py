"""``datacheck diff``: what changed from one report to the next."""

from __future__ import annotations

from typing import Annotated

import click

from datacheck.cli.options import ColorChoice, Formats, Limit, OutputFiles, OutputFormat, Quiet, Summary
from datacheck.cli.parameters import argument
from datacheck.cli.report_outputs import limit_of_text, pair_outputs, write_reports
from datacheck.cli.terminal import exit_code_of


def diff(
    ctx: click.Context,
    before: Annotated[str, argument("OLD", "The earlier report: JSON, JSON Lines, or the manifest of a run.")],
    after: Annotated[str, argument("NEW", "The later report.")],
    *,
    format: Formats = None,  # noqa: A002 - the option's name
    output: OutputFiles = None,
    limit: Limit = None,
    quiet: Quiet = False,
    summary: Summary = False,
) -> int:
    """Compare two reports: what is new, fixed and unchanged.

    A finding is new if it was not there before, or has more violations now. Where no file has the same path in both reports,
    paths are compared below the folder that all files of a report share. Exit codes: 0 no new errors, 1 new errors,
    2 could not run.

    Example: datacheck diff monday.json tuesday.json --format markdown
    """
    outputs = pair_outputs(ctx, format or (), output or (), OutputFormat.text)
    most = limit_of_text(limit, quiet=quiet, summary=summary)

    from datacheck.reports.report_diff import diff_reports

    report = diff_reports(before, after)
    write_reports(report, outputs, ColorChoice.auto, limit=most)
    return exit_code_of(report)
