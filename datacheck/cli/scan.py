"""``datacheck scan``: check files against a schema, or for NaN and infinities alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from datacheck.cli.config_options import configured
from datacheck.cli.options import Formats, Output, Paths
from datacheck.cli.output import exit_code_of, working
from datacheck.cli.outputs import pair_outputs, write_reports

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration

__all__ = ["scan"]


@configured()
def scan(
    ctx: typer.Context,
    configuration: Configuration,
    paths: Paths = None,
    format: Formats = None,  # noqa: A002 - the option's name
    output: Output = None,
) -> int:
    """Check every value of PATH... and say where the bad ones are.

    Without a schema: no NaN and no infinity in any floating-point or complex value.

    What is not given here may be set by DATACHECK_ variables, in datacheck.yaml, or under [tool.datacheck] in pyproject.toml:
    see 'datacheck config'.
    """
    settings = configuration.settings
    outputs = pair_outputs(ctx, [chosen.value for chosen in format or ()], output or (), settings.format)

    from datacheck.gate.checking import check

    with working() as progress:
        report = check(paths, configuration=configuration, progress=progress)
    write_reports(report, outputs, settings.color)
    return exit_code_of(report)
