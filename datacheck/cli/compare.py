"""``datacheck compare``: a training split beside the other splits."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from datacheck.cli.given import configuration_of
from datacheck.cli.options import Color, Config, Formats, Ignore, Output, Schema, Select, SeverityOf, Workers
from datacheck.cli.output import exit_code_of, working
from datacheck.cli.outputs import pair_outputs, write_reports

__all__ = ["compare"]

_KEY = "Fields that together must not stand in both, as in a,b; may be given several times."
_EXCLUDE = "A field that is not compared; may be given several times."
_ROW_EXCLUDE = "A column that does not tell rows apart, such as a row number; may be given several times."


def compare(
    ctx: typer.Context,
    train: Annotated[str, typer.Argument(help="The training data: a file, folder or glob.", show_default=False)],
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
    schema: Schema = None,
    format: Formats = None,  # noqa: A002 - the option's name
    output: Output = None,
    color: Color = None,
    select: Select = None,
    ignore: Ignore = None,
    severity: SeverityOf = None,
    workers: Workers = None,
    config: Config = None,
) -> int:
    """Find rows and keys of TRAIN that stand in OTHER too, and fields that are otherwise there.

    Thresholds, keys and fields to leave out may also be set under 'compare' in datacheck.yaml or [tool.datacheck.compare].
    """
    configuration = configuration_of(
        schema=schema,
        select=select,
        ignore=ignore,
        severity=severity,
        exclude=None,
        config=config,
        color=color,
        workers=workers,
    )
    settings = configuration.settings
    outputs = pair_outputs(ctx, [chosen.value for chosen in format or ()], output or (), settings.format)
    given = {
        "key": key,
        "exclude": exclude,
        "row-exclude": row_exclude,
        "psi": psi,
        "ks": ks,
        "distance": distance,
        "rate": rate,
    }

    from dataclasses import replace

    from datacheck.gate.selection import select as select_findings
    from datacheck.profile.compare import compare as compare_data

    with working() as progress:
        report = compare_data(
            train,
            *others,
            schema=settings.schema_,
            thresholds=_thresholds(settings.compare, configuration.origin("compare"), given),
            drift=drift,
            workers=settings.workers,
            progress=progress,
        )
    report = replace(report, findings=select_findings(report.findings, settings).findings)
    write_reports(report, outputs, settings.color)
    return exit_code_of(report)


def _thresholds(configured: dict[str, Any], origin: str, given: dict[str, Any]) -> Any:
    """What is set in the configuration, each in turn beaten by an option."""
    from datacheck.profile.thresholds import read_thresholds

    stated = {name: value for name, value in given.items() if value is not None}
    read_thresholds(configured, f"{origin}: compare")
    for name, value in stated.items():
        read_thresholds({name: value}, f"--{name}")
    return read_thresholds({**configured, **stated}, "compare")
