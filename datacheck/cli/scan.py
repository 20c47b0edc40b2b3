"""``datacheck scan``: check files, with or without a schema."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from datacheck.cli.config_options import with_configuration
from datacheck.cli.options import Formats, Limit, OutputFiles, Paths, Quiet, Sample, ShowRows, Summary
from datacheck.cli.report_outputs import ReportOutput, limit_of_text, pair_outputs, write_reports
from datacheck.cli.sharing import (
    Address,
    ExecutorChoice,
    ExecutorName,
    Results,
    ShardChoice,
    end_of_shard,
    executor_for,
)
from datacheck.cli.terminal import exit_code_of, flushed_stdout, progress_on_terminal

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration
    from datacheck.reports.distributions import FieldDistribution
    from datacheck.reports.report import Report


@with_configuration()
def scan(
    ctx: click.Context,
    configuration: Configuration,
    paths: Paths = None,
    *,
    format: Formats = None,  # noqa: A002 - the option's name
    output: OutputFiles = None,
    limit: Limit = None,
    quiet: Quiet = False,
    summary: Summary = False,
    show_rows: ShowRows = 0,
    sample: Sample = None,
    executor: ExecutorChoice = ExecutorName.threads,
    address: Address = None,
    shard: ShardChoice = None,
    results: Results = None,
) -> int:
    """Check every value of files and report the bad ones.

    Without a schema, NaN, infinity and nulls are errors in every number, and nulls in every boolean.

    Options can also be set by DATACHECK_ environment variables, in datacheck.yaml, or under [tool.datacheck] in
    pyproject.toml. 'datacheck config' shows the settings in effect.

    Example: datacheck scan data/train --schema schemas/flights.yaml
    """
    settings = configuration.settings
    outputs = pair_outputs(ctx, format or (), output or (), settings.format)
    most = limit_of_text(limit, quiet=quiet, summary=summary)

    from datacheck.gate.checking import check

    chosen = executor_for(shard, results, executor, address)
    with progress_on_terminal() as progress:
        report = check(paths, configuration=configuration, executor=chosen, progress=progress, sample=sample)
    end_of_shard(chosen)

    def distributions() -> list[FieldDistribution]:
        from datacheck.gate.comparing import distributions_configured

        return distributions_configured({"values": paths or settings.paths}, configuration)

    write_reports(report, outputs, settings.color, distributions, most)
    if show_rows and not report.ok:
        _print_rows(report, configuration, show_rows, outputs)
    return exit_code_of(report)


def _print_rows(report: Report, configuration: Configuration, limit: int, outputs: Sequence[ReportOutput]) -> None:
    """Print the first bad rows of what was found below the report, where that is text."""
    from datacheck.cli.rows import find_configured_rows, print_rows
    from datacheck.codes import CODES

    errors = [one for one in report.findings if one.is_error and CODES[one.code].level in ("value", "row")]
    if not errors or not any(output.format == "text" and output.path is None for output in outputs):
        return
    uris, codes = list(dict.fromkeys(one.uri for one in errors)), sorted({one.code for one in errors})
    # What cannot be read is among the findings.
    rows = list(islice(find_configured_rows(uris, configuration, [], codes), limit))
    with flushed_stdout():
        print()
        print_rows(rows)
        if len(rows) == limit:
            print(f"the first {limit:,}; 'datacheck rows' prints more")
