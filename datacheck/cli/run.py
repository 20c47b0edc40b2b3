"""``datacheck run``, ``fit`` and ``clean``: a pipeline as a whole, and its two halves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from datacheck.cli.help import INPUT, OUTPUT, argument, option
from datacheck.cli.options import ColorChoice, Format, Formats, OutputFiles, OutputFormat, Overwrite, Pipeline, Workers
from datacheck.cli.report_outputs import pair_outputs, write_reports
from datacheck.cli.terminal import exit_code_of, print_report, progress_on_terminal

if TYPE_CHECKING:
    from datacheck.reports.distributions import FieldDistribution

__all__ = ["clean", "fit", "run"]


def run(
    ctx: typer.Context,
    pipeline: Pipeline,
    *,
    format: Formats = None,  # noqa: A002 - the option's name
    output: OutputFiles = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> int:
    """Run a pipeline: scan, repair, split and publish its inputs.

    The report accounts for every row. An interrupted run can be repeated: it continues where it stopped. The exit code is
    0 if every input was read and no violation is left in the output.

    Example: datacheck run pipelines/flights.yaml --format html -o report.html --format text
    """
    outputs = pair_outputs(ctx, format or (), output or (), OutputFormat.text)

    from datacheck.jobs.run import run as run_pipeline

    with progress_on_terminal() as progress:
        report = run_pipeline(pipeline, workers=workers, progress=progress, overwrite=overwrite)

    def distributions() -> list[FieldDistribution]:
        from datacheck.profile.distributions import distributions_of_run

        return distributions_of_run(report, workers=workers)

    write_reports(report, outputs, ColorChoice.never, distributions)
    return exit_code_of(report)


def fit(
    pipeline: Pipeline,
    *,
    output: Annotated[
        str, option(OUTPUT, "File to write.", "--output", "-o", metavar="FILE", default=True)
    ] = "statistics.json",
    workers: Workers = None,
) -> int:
    """Learn the statistics of a pipeline from its training split.

    The repairs need these statistics (means, quantiles, categories). They are written to a JSON file for 'datacheck clean'.

    Example: datacheck fit pipelines/flights.yaml -o statistics.json
    """
    from datacheck.jobs.run import fit as fit_pipeline
    from datacheck.publishing.named_file import write_named

    with progress_on_terminal() as progress:
        statistics = fit_pipeline(pipeline, workers=workers, progress=progress)
    write_named(output, statistics.to_json().encode())
    print(f"{output}: {len(statistics.learned):,} statistics from {statistics.num_rows:,} rows")
    return 0


def clean(
    pipeline: Pipeline,
    paths: Annotated[
        list[str] | None, argument("PATH", "Files, folders or globs to clean.", default="the inputs of the pipeline")
    ] = None,
    *,
    statistics: Annotated[
        str,
        option(
            INPUT,
            "File that 'datacheck fit' wrote for the same cleaning rules.",
            "--statistics",
            metavar="FILE",
            default=True,
        ),
    ] = "statistics.json",
    output: Annotated[
        str | None,
        option(OUTPUT, "Folder to write.", "--output", "-o", metavar="FOLDER", default="the output of the pipeline"),
    ] = None,
    split: Annotated[
        str, option(OUTPUT, "Subfolder of the output for PATH.", "--split", metavar="NAME", default=True)
    ] = "data",
    format: Format = OutputFormat.text,  # noqa: A002 - the option's name
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> int:
    """Clean data with statistics that were learned before.

    Nothing is learned from this data, so it is repaired exactly as the training data was.

    Example: datacheck clean pipelines/flights.yaml new/*.csv -o cleaned
    """
    from datacheck.jobs.run import clean as clean_data

    with progress_on_terminal() as progress:
        report = clean_data(
            pipeline,
            statistics,
            paths or None,
            output,
            split=split,
            workers=workers,
            progress=progress,
            overwrite=overwrite,
        )
    print_report(report, format)
    return exit_code_of(report)
