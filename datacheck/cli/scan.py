"""``datacheck scan``: check files against a schema, or for NaN and infinities alone."""

from __future__ import annotations

import typer

from datacheck.cli.given import configuration_of
from datacheck.cli.options import (
    Baseline,
    CacheDir,
    CacheSwitch,
    Color,
    Config,
    Exclude,
    Formats,
    Ignore,
    NoBaseline,
    Output,
    Paths,
    Schema,
    Select,
    SeverityOf,
    Workers,
)
from datacheck.cli.output import exit_code_of, working
from datacheck.cli.outputs import pair_outputs, write_reports

__all__ = ["scan"]


def scan(
    ctx: typer.Context,
    paths: Paths = None,
    schema: Schema = None,
    format: Formats = None,  # noqa: A002 - the option's name
    output: Output = None,
    color: Color = None,
    select: Select = None,
    ignore: Ignore = None,
    severity: SeverityOf = None,
    exclude: Exclude = None,
    baseline: Baseline = None,
    no_baseline: NoBaseline = False,
    cache: CacheSwitch = None,
    cache_dir: CacheDir = None,
    workers: Workers = None,
    config: Config = None,
) -> int:
    """Check every value of PATH... and say where the bad ones are.

    Without a schema: no NaN and no infinity in any floating-point or complex value.

    What is not given here may be set by DATACHECK_ variables, in datacheck.yaml, or under [tool.datacheck] in pyproject.toml:
    see 'datacheck config'.
    """
    configuration = configuration_of(
        schema=schema,
        select=select,
        ignore=ignore,
        severity=severity,
        exclude=exclude,
        config=config,
        baseline=baseline,
        no_baseline=no_baseline,
        cache=cache,
        cache_dir=cache_dir,
        color=color,
        workers=workers,
    )
    settings = configuration.settings
    outputs = pair_outputs(ctx, [chosen.value for chosen in format or ()], output or (), settings.format)

    from datacheck.gate.checking import check

    with working() as progress:
        report = check(paths, configuration=configuration, progress=progress)
    write_reports(report, outputs, settings.color)
    return exit_code_of(report)
