"""``datacheck requeue``: take fixed rows back from quarantine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.cli.help import OUTPUT
from datacheck.cli.options import Pipeline, Workers
from datacheck.cli.parameters import argument, option
from datacheck.cli.terminal import flushed_stdout, progress_on_terminal


class RequeueFormat(StrEnum):
    """The formats of what became of the rows."""

    text = "text"
    json = "json"


def requeue(
    pipeline: Pipeline,
    fixed: Annotated[
        list[str],
        argument(
            "FIXED",
            "Tables of quarantined rows with new values (Parquet, Arrow or CSV; an array is a column of lists), or fixed files"
            " that are one sample each, such as images.",
        ),
    ],
    *,
    format: Annotated[  # noqa: A002 - the option's name
        RequeueFormat, option(OUTPUT, "Output format: text or json.", "--format", "-f", metavar="FORMAT", default=True)
    ] = RequeueFormat.text,
    workers: Workers = None,
) -> int:
    """Take quarantined rows back that were fixed.

    Copy rows from the quarantine of the output, correct their values, and keep the columns 'file' and 'row'. They are checked
    and cleaned as in the run. Those that pass are added to the output, the others stay in quarantine as they were; every row
    stays accounted for. An interrupted command can be repeated.

    Files that are one sample each keep their names; tar shards of fixed samples, the keys.

    Exit codes: 0 all rows were taken back, 1 some are still bad, 2 could not run.

    Example: datacheck requeue pipelines/flights.yaml fixed.parquet
    Example: datacheck requeue pipelines/images.yaml fixed/
    """
    import json

    from datacheck.jobs.requeue import requeue as take_back

    with progress_on_terminal() as progress:
        report = take_back(pipeline, fixed, workers=workers, progress=progress)
    with flushed_stdout():
        print(json.dumps(report.to_dict(), indent=2, allow_nan=False) if format is RequeueFormat.json else report)
    return CLEAN if report.ok else FINDINGS
