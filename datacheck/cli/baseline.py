"""``datacheck baseline``: record known findings, so that only new ones fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from datacheck.cli.config_options import with_configuration
from datacheck.cli.help import OUTPUT
from datacheck.cli.options import Paths
from datacheck.cli.parameters import option
from datacheck.cli.terminal import progress_on_terminal

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration


@with_configuration(without=["notes", "baseline", "no_baseline", "cache", "cache_dir", "color", "trust_statistics"])
def write(
    configuration: Configuration,
    paths: Paths = None,
    *,
    output: Annotated[
        str | None,
        option(
            OUTPUT, "File to write.", "--output", "-o", "--baseline", metavar="FILE", default="datacheck-baseline.json"
        ),
    ] = None,
) -> int:
    """Record the current findings as known.

    From then on 'datacheck scan' fails only on new findings, and on known ones with more violations than recorded. An
    existing baseline keeps its entries for other files.

    Example: datacheck baseline write data
    """
    from datacheck.gate.baseline import save_baseline
    from datacheck.gate.checking import update_baseline
    from datacheck.text import plain, quantity

    name = output if output is not None else configuration.settings.baseline or configuration.default_baseline
    with progress_on_terminal() as progress:
        baseline = update_baseline(paths, configuration, name, progress=progress)
    save_baseline(baseline, name)
    print(
        f"{plain(name)}: {quantity(baseline.num_findings, 'known finding')} in {quantity(len(baseline.files), 'file')}"
    )
    if name not in (configuration.baseline, configuration.default_baseline):
        print(f"use it with --baseline {plain(name)}, or set 'baseline' in the configuration")
    return 0
