"""``datacheck compare``: compare a training split with other splits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import click

from datacheck.cli.config_options import with_configuration
from datacheck.cli.help import CHECKS
from datacheck.cli.options import Formats, Limit, OutputFiles, Quiet, Summary
from datacheck.cli.parameters import argument, option
from datacheck.cli.report_outputs import limit_of_text, pair_outputs, write_reports
from datacheck.cli.sharing import (
    Address,
    ExecutorChoice,
    ExecutorName,
    Results,
    ShardChoice,
    end_of_shard,
    executor_for,
)
from datacheck.cli.terminal import exit_code_of, progress_on_terminal

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration


def _threshold(help_text: str, default: str) -> Any:
    return option(CHECKS, help_text, metavar="NUMBER", default=default)


Key = Annotated[
    list[str] | None,
    option(
        CHECKS,
        "Fields that together identify an example, such as site,visit. A key must not occur in both datasets. Can be repeated.",
        "--key",
        metavar="FIELDS",
        default="unique keys of the schema",
    ),
]
ExcludeFields = Annotated[
    list[str] | None,
    option(CHECKS, "A field to leave out of the comparison. Can be repeated.", "--exclude", metavar="FIELD"),
]
RowExclude = Annotated[
    list[str] | None,
    option(
        CHECKS,
        "A column to ignore when comparing whole rows, such as a row number. Can be repeated.",
        "--row-exclude",
        metavar="FIELD",
    ),
]
Psi = Annotated[float | None, _threshold("Population stability index above which numbers have drifted.", "0.25")]
Ks = Annotated[float | None, _threshold("Kolmogorov-Smirnov statistic above which numbers have drifted.", "0.2")]
Distance = Annotated[float | None, _threshold("Jensen-Shannon distance above which categories have drifted.", "0.2")]
Rate = Annotated[float | None, _threshold("Change of the NaN, null or infinity rate that is reported.", "0.01")]
Drift = Annotated[
    bool, option(CHECKS, "Compare distributions and rates of bad values.", "--drift/--no-drift", default=True)
]


# Here --exclude is about fields. The configuration can exclude files.
@with_configuration(without=["exclude", "notes", "baseline", "no_baseline", "cache", "cache_dir", "trust_statistics"])
def compare(
    ctx: click.Context,
    configuration: Configuration,
    train: Annotated[str, argument("TRAIN", "The training data: a file, folder or glob.")],
    others: Annotated[list[str], argument("OTHER", "The datasets to compare with it, such as test data.")],
    *,
    key: Key = None,
    exclude: ExcludeFields = None,
    row_exclude: RowExclude = None,
    psi: Psi = None,
    ks: Ks = None,
    distance: Distance = None,
    rate: Rate = None,
    drift: Drift = True,
    format: Formats = None,  # noqa: A002 - the option's name
    output: OutputFiles = None,
    limit: Limit = None,
    quiet: Quiet = False,
    summary: Summary = False,
    executor: ExecutorChoice = ExecutorName.threads,
    address: Address = None,
    shard: ShardChoice = None,
    results: Results = None,
) -> int:
    """Find leaks and drift between training data and other data.

    A leak is a row or a key of TRAIN that also occurs in OTHER. Drift is a field with a different distribution or a
    different rate of bad values.

    Thresholds, keys and excluded fields can also be set under 'compare' in datacheck.yaml or [tool.datacheck.compare] in
    pyproject.toml. The schema of TRAIN applies to all datasets.

    Example: datacheck compare data/train data/test --key patient_id
    """
    settings = configuration.settings
    outputs = pair_outputs(ctx, format or (), output or (), settings.format)
    most = limit_of_text(limit, quiet=quiet, summary=summary)

    from datacheck.gate.comparing import compare_configured, distributions_configured

    given = {
        "key": key,
        "exclude": exclude,
        "row-exclude": row_exclude,
        "psi": psi,
        "ks": ks,
        "distance": distance,
        "rate": rate,
    }
    chosen = executor_for(shard, results, executor, address)
    with progress_on_terminal() as progress:
        report = compare_configured(
            train, others, configuration, given=given, drift=drift, executor=chosen, progress=progress
        )
    end_of_shard(chosen)
    datasets = {path: [path] for path in (train, *others)}
    write_reports(report, outputs, settings.color, partial(distributions_configured, datasets, configuration), most)
    return exit_code_of(report)
