"""``datacheck baseline``: findings that are known, so that only new ones fail."""

from __future__ import annotations

from typing import Annotated

import typer

from datacheck.cli.given import configuration_of
from datacheck.cli.options import Config, Exclude, Ignore, Paths, Schema, Select, SeverityOf, Workers
from datacheck.cli.output import working

__all__ = ["write"]


def write(
    paths: Paths = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            "--baseline",
            help="The file to write.",
            metavar="FILE",
            show_default="datacheck-baseline.json",
        ),
    ] = None,
    schema: Schema = None,
    select: Select = None,
    ignore: Ignore = None,
    severity: SeverityOf = None,
    exclude: Exclude = None,
    workers: Workers = None,
    config: Config = None,
) -> int:
    """Record what is found in PATH... now; from then on only what is new or has grown fails.

    What the file says of other files that are still there stays in it.
    """
    from datacheck.gate.baseline import save_baseline
    from datacheck.gate.checking import rebase
    from datacheck.text import plain, quantity

    configuration = configuration_of(
        schema=schema, select=select, ignore=ignore, severity=severity, exclude=exclude, config=config, workers=workers
    )
    set_name = configuration.settings.baseline or configuration.usual_baseline
    name = set_name if output is None else output
    with working() as progress:
        baseline = rebase(paths, configuration, name, progress=progress)
    save_baseline(baseline, name)
    print(
        f"{plain(name)}: {quantity(baseline.num_findings, 'known finding')} in {quantity(len(baseline.files), 'file')}"
    )
    if name not in (configuration.baseline, configuration.usual_baseline):
        print(f"use it with --baseline {plain(name)}, or set 'baseline' in the configuration")
    return 0
