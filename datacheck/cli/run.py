"""``datacheck run``, ``fit`` and ``clean``: a pipeline as a whole, and its two halves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import click

from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.cli.help import INPUT, OUTPUT
from datacheck.cli.options import ColorChoice, Format, Formats, OutputFiles, OutputFormat, Overwrite, Pipeline, Workers
from datacheck.cli.parameters import argument, option
from datacheck.cli.report_outputs import pair_outputs, write_reports
from datacheck.cli.sharing import (
    Address,
    ExecutorChoice,
    ExecutorName,
    Results,
    ShardChoice,
    end_of_shard,
    executor_for,
)
from datacheck.cli.terminal import exit_code_of, flushed_stdout, print_report, progress_on_terminal

if TYPE_CHECKING:
    from datacheck.reports.distributions import FieldDistribution


def run(
    ctx: click.Context,
    pipeline: Pipeline,
    *,
    format: Formats = None,  # noqa: A002 - the option's name
    output: OutputFiles = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool, option(OUTPUT, "Show what would be read, done and written, and write nothing.", "--dry-run")
    ] = False,
    executor: ExecutorChoice = ExecutorName.threads,
    address: Address = None,
    shard: ShardChoice = None,
) -> int:
    """Run a pipeline: scan, repair, split and publish its inputs.

    The report accounts for every row. An interrupted run can be repeated: it continues where it stopped. The exit code is
    0 if every input was read and no violation is left in the output.

    Example: datacheck run pipelines/flights.yaml --format html -o report.html --format text
    """
    outputs = pair_outputs(ctx, format or (), output or (), OutputFormat.text)
    if dry_run:
        return _dry_run(pipeline, workers, overwrite=overwrite, has_formats=bool(format or output))

    from datacheck.jobs.run import run as run_pipeline

    chosen = executor_for(shard, None, executor, address)
    with progress_on_terminal() as progress:
        report = run_pipeline(pipeline, workers=workers, executor=chosen, progress=progress, overwrite=overwrite)
    end_of_shard(chosen)

    def distributions() -> list[FieldDistribution]:
        from datacheck.profile.distributions import distributions_of_run

        return distributions_of_run(report, workers=workers)

    write_reports(report, outputs, ColorChoice.never, distributions)
    return exit_code_of(report)


def _dry_run(pipeline: str, workers: int | None, *, overwrite: bool, has_formats: bool) -> int:
    from datacheck.errors import UsageError
    from datacheck.jobs.dry_run import plan_run

    if has_formats:
        raise UsageError("--dry-run prints text, and there is no report yet: leave out --format and -o")
    plan = plan_run(pipeline, workers=workers, overwrite=overwrite)
    with flushed_stdout():
        print(plan)
    return CLEAN if plan.ok else FINDINGS


def fit(
    pipeline: Pipeline,
    *,
    output: Annotated[
        str, option(OUTPUT, "File to write.", "--output", "-o", metavar="FILE", default=True)
    ] = "statistics.json",
    workers: Workers = None,
    executor: ExecutorChoice = ExecutorName.threads,
    address: Address = None,
    shard: ShardChoice = None,
    results: Results = None,
) -> int:
    """Learn the statistics of a pipeline from its training split.

    The repairs need these statistics (means, quantiles, categories). They are written to a JSON file for 'datacheck clean'.

    Example: datacheck fit pipelines/flights.yaml -o statistics.json
    """
    from datacheck.jobs.run import fit as fit_pipeline
    from datacheck.publishing.named_file import write_named

    chosen = executor_for(shard, results, executor, address)
    with progress_on_terminal() as progress:
        statistics = fit_pipeline(pipeline, workers=workers, executor=chosen, progress=progress)
    end_of_shard(chosen)
    write_named(output, statistics.to_json().encode())
    num_learned = len(statistics.learned)
    print(
        f"{output}: {num_learned:,} statistics from {statistics.num_rows:,} rows"
        if num_learned
        else f"{output}: no statistics, because no rule of {pipeline} learns from data"
    )
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
    executor: ExecutorChoice = ExecutorName.threads,
    address: Address = None,
    shard: ShardChoice = None,
) -> int:
    """Clean data with statistics that were learned before.

    Nothing is learned from this data, so it is repaired exactly as the training data was.

    Example: datacheck clean pipelines/flights.yaml new/*.csv -o cleaned
    """
    from datacheck.jobs.run import clean as clean_data

    chosen = executor_for(shard, None, executor, address)
    with progress_on_terminal() as progress:
        report = clean_data(
            pipeline,
            statistics,
            paths or None,
            output,
            split=split,
            workers=workers,
            executor=chosen,
            progress=progress,
            overwrite=overwrite,
        )
    end_of_shard(chosen)
    print_report(report, format)
    return exit_code_of(report)
