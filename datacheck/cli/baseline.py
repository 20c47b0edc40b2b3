"""``datacheck baseline``: findings that are known, so that only new ones fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from datacheck.cli.config_options import configured
from datacheck.cli.options import Paths
from datacheck.cli.output import working

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration

__all__ = ["write"]


@configured(without=["baseline", "no_baseline", "cache", "cache_dir", "color"])
def write(
    configuration: Configuration,
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
) -> int:
    """Record what is found in PATH... now; from then on only what is new or has grown fails.

    What the file says of other files that are still there stays in it.
    """
    from datacheck.gate.baseline import save_baseline
    from datacheck.gate.checking import update_baseline
    from datacheck.text import plain, quantity

    set_name = configuration.settings.baseline or configuration.default_baseline
    name = set_name if output is None else output
    with working() as progress:
        baseline = update_baseline(paths, configuration, name, progress=progress)
    save_baseline(baseline, name)
    print(
        f"{plain(name)}: {quantity(baseline.num_findings, 'known finding')} in {quantity(len(baseline.files), 'file')}"
    )
    if name not in (configuration.baseline, configuration.default_baseline):
        print(f"use it with --baseline {plain(name)}, or set 'baseline' in the configuration")
    return 0
