"""``datacheck scan``: check files, with or without a schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from datacheck.cli.config_options import with_configuration
from datacheck.cli.options import Formats, Limit, OutputFiles, Paths, Quiet
from datacheck.cli.report_outputs import pair_outputs, write_reports
from datacheck.cli.terminal import exit_code_of, progress_on_terminal

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration
    from datacheck.reports.distributions import FieldDistribution

__all__ = ["scan"]


@with_configuration()
def scan(
    ctx: typer.Context,
    configuration: Configuration,
    paths: Paths = None,
    *,
    format: Formats = None,  # noqa: A002 - the option's name
    output: OutputFiles = None,
    limit: Limit = None,
    quiet: Quiet = False,
) -> int:
    """Check every value of files and report the bad ones.

    Without a schema, NaN, infinity and nulls are errors in every number, and nulls in every boolean.

    Options can also be set by DATACHECK_ environment variables, in datacheck.yaml, or under [tool.datacheck] in
    pyproject.toml. 'datacheck config' shows the settings in effect.

    Example: datacheck scan data/train --schema schemas/flights.yaml
    """
    settings = configuration.settings
    outputs = pair_outputs(ctx, format or (), output or (), settings.format)

    from datacheck.gate.checking import check

    with progress_on_terminal() as progress:
        report = check(paths, configuration=configuration, progress=progress)

    def distributions() -> list[FieldDistribution]:
        from datacheck.gate.comparing import distributions_configured

        return distributions_configured({"values": paths or settings.paths}, configuration)

    write_reports(report, outputs, settings.color, distributions, -1 if quiet else limit)
    return exit_code_of(report)
