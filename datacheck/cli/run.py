"""``datacheck run``, ``fit`` and ``clean``: the main job, whole and in its two halves."""

from __future__ import annotations

from typing import Annotated

import typer

from datacheck.cli.options import Format, Overwrite, Pipeline, Workers
from datacheck.cli.output import exit_code_of, show_report, working

__all__ = ["clean", "fit", "run"]


def run(
    pipeline: Pipeline,
    format: Format = "text",  # type: ignore[assignment]  # noqa: A002 - the option's name
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> int:
    """Scan, repair, split and publish what a pipeline names; account for every row.

    Killed at any instant and run again, it does only what is left. Exit code 0 says that every input was read and that no
    violation is left in the output.
    """
    from datacheck.jobs.run import run as run_pipeline

    with working() as progress:
        report = run_pipeline(pipeline, workers=workers, progress=progress, overwrite=overwrite)
    show_report(report, format)
    return exit_code_of(report)


def fit(
    pipeline: Pipeline,
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write.")] = "statistics.json",
    workers: Workers = None,
) -> int:
    """Learn what the repairs of a pipeline need, from its training split alone, and write it to a JSON file."""
    from datacheck.jobs.run import fit as fit_pipeline
    from datacheck.publishing.named_file import write_named

    with working() as progress:
        statistics = fit_pipeline(pipeline, workers=workers, progress=progress)
    write_named(output, statistics.to_json().encode())
    print(f"{output}: {len(statistics.learned):,} statistics from {statistics.num_rows:,} rows")
    return 0


def clean(
    pipeline: Pipeline,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders or globs; the pipeline's inputs unless given.", metavar="[PATH...]", show_default=False
        ),
    ] = None,
    statistics: Annotated[
        str, typer.Option("--statistics", help="What 'datacheck fit' wrote for the same rules.")
    ] = "statistics.json",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The folder to write.", show_default="the pipeline's")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="The folder in the output that PATH... go to.")] = "data",
    format: Format = "text",  # type: ignore[assignment]  # noqa: A002 - the option's name
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> int:
    """Clean any data with statistics that were learned before. Nothing is learned from it."""
    from datacheck.jobs.run import clean as clean_data

    with working() as progress:
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
    show_report(report, format)
    return exit_code_of(report)
