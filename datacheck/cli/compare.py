"""``datacheck compare``: a training split beside the other splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from datacheck.cli.config_options import configured
from datacheck.cli.options import Formats, Output
from datacheck.cli.output import exit_code_of, working
from datacheck.cli.outputs import pair_outputs, write_reports

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration

__all__ = ["compare"]

_KEY = "Fields that together must not stand in both, as in a,b; may be given several times."
_EXCLUDE = "A field that is not compared; may be given several times."
_ROW_EXCLUDE = "A column that does not tell rows apart, such as a row number; may be given several times."


# Here --exclude is about fields; files are excluded by the configuration.
@configured(without=["exclude", "baseline", "no_baseline", "cache", "cache_dir"])
def compare(
    ctx: typer.Context,
    configuration: Configuration,
    train: Annotated[
        str, typer.Argument(help="The training data: a file, folder or glob.", metavar="TRAIN", show_default=False)
    ],
    others: Annotated[
        list[str], typer.Argument(help="Data to compare with it, each alike.", metavar="OTHER...", show_default=False)
    ],
    key: Annotated[
        list[str] | None, typer.Option("--key", help=_KEY, metavar="FIELD,...", show_default="unique keys of --schema")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help=_EXCLUDE, metavar="FIELD", show_default=False)
    ] = None,
    row_exclude: Annotated[
        list[str] | None, typer.Option("--row-exclude", help=_ROW_EXCLUDE, metavar="FIELD", show_default=False)
    ] = None,
    psi: Annotated[
        float | None, typer.Option(help="Population stability index that is drift.", show_default="0.25")
    ] = None,
    ks: Annotated[float | None, typer.Option(help="Kolmogorov-Smirnov statistic that is.", show_default="0.2")] = None,
    distance: Annotated[
        float | None, typer.Option(help="Jensen-Shannon distance of categories that is.", show_default="0.2")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Difference of the parts of nulls, NaN or infinities that counts.", show_default="0.01"),
    ] = None,
    drift: Annotated[
        bool, typer.Option("--drift/--no-drift", help="Whether distributions and rates are compared.")
    ] = True,
    format: Formats = None,  # noqa: A002 - the option's name
    output: Output = None,
) -> int:
    """Find rows and keys of TRAIN that stand in OTHER too, and fields that are otherwise there.

    Thresholds, keys and fields to leave out may also be set under 'compare' in datacheck.yaml or [tool.datacheck.compare].
    The schema is that of TRAIN, by --schema or by the configuration.
    """
    settings = configuration.settings
    outputs = pair_outputs(ctx, [chosen.value for chosen in format or ()], output or (), settings.format)

    from datacheck.gate.comparing import compare_configured

    given = {
        "key": key,
        "exclude": exclude,
        "row-exclude": row_exclude,
        "psi": psi,
        "ks": ks,
        "distance": distance,
        "rate": rate,
    }
    with working() as progress:
        report = compare_configured(train, others, configuration, given=given, drift=drift, progress=progress)
    write_reports(report, outputs, settings.color)
    return exit_code_of(report)
